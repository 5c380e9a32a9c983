"""Where the time of a training step goes: its parts by difference, and the operations that take longest."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from autofuse_engine.data.pairs import PairSampler
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.devices import resolve_device
from autofuse_engine.distributed import Processes
from autofuse_engine.training_configs import TrainingConfig
from autofuse_engine.training_pair_images import TrainingPair
from autofuse_engine.training_pairs import ClassTable, PairReader
from autofuse_engine.training_step import PairLoss, Stepper, network_for_training


def profile(config: TrainingConfig, repeats: int = 20, operations: int = 12, warm_up: int = 2) -> str:
    """A table of milliseconds; trains a network of its own for some steps, and writes nothing.

    Args:
        config: of the run.
        repeats: of each measurement; the median counts.
        operations: how many of the longest ones are listed.
        warm_up: calls before those that count.
    """
    device = resolve_device(config.device)
    dataset = PreparedDataset.open(config.dataset)
    table = ClassTable([label.value for label in dataset.labels]) if config.uses_labels else None
    samplers = [PairSampler(dataset, stage.pairs, "train", config.seed) for stage in config.stages]
    stepper = Stepper(config, network_for_training(config, device), Processes(rank=0, count=1, device=device))
    with PairReader(config, dataset, samplers, table, device) as reader:
        steps = iter(range(1_000_000))

        def pair() -> TrainingPair:
            return reader.pair(min(next(steps), config.steps - 1), 0, None)

        def whole() -> None:
            stepper.step(0, [pair])

        one = pair()
        loss = PairLoss(stepper.network, config)
        arguments = (one.fixed, one.moving, one.fixed_labels, one.moving_labels, one.noise_seed, one.compared,
                     one.compares_images, one.overlap_labels)  # fmt: skip
        parts = {
            "pair: read, move, disturb": _milliseconds(pair, device, repeats, warm_up),
            "network forward": _milliseconds(partial(_forward, stepper.network, one, config), device, repeats, warm_up),
            "network forward and losses": _milliseconds(partial(loss, *arguments), device, repeats, warm_up),
            "whole step": _milliseconds(whole, device, repeats, warm_up),
        }
        lines = [f"{name:32} {value:8.2f} ms" for name, value in parts.items()]
        rest = parts["whole step"] - parts["pair: read, move, disturb"] - parts["network forward and losses"]
        lines.append(f"{'backward and optimizer (rest)':32} {rest:8.2f} ms")
        share = parts["pair: read, move, disturb"] / parts["whole step"]
        lines.append(f"{'share of the pair':32} {100 * share:8.1f} %")
        lines += _longest(whole, device, operations)
    if device.type == "cuda":
        lines.append(f"peak memory {torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB")
        lines.append(_graphed(stepper.network, one, config, repeats, warm_up))
    return "\n".join(lines)


def _forward(network: nn.Module, pair: TrainingPair, config: TrainingConfig) -> None:
    with torch.autocast(pair.fixed.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        network(pair.fixed, pair.moving)


def _milliseconds(work: Callable[[], object], device: torch.device, repeats: int, warm_up: int) -> float:
    """Median of so many calls after some to warm up; the device has finished when the clock stops."""
    found = []
    for number in range(repeats + warm_up):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        if number >= warm_up:
            found.append(1000 * (time.perf_counter() - started))
    return median(found)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _longest(work: Callable[[], object], device: torch.device, count: int) -> list[str]:
    """The operations with most time of their own over two calls; names cut to a line."""
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with torch_profile(activities=kinds) as seen:
        for _ in range(2):
            work()
        _wait(device)
    gpu = device.type == "cuda"
    rows = [(row.self_device_time_total if gpu else row.self_cpu_time_total, row) for row in seen.key_averages()]
    rows.sort(key=lambda row: -row[0])
    total = sum(row[0] for row in rows) / 2000
    launches = sum(row.count for _, row in rows) // 2
    lines = [f"operations, a step: {total:.2f} ms in {launches} calls"]
    return lines + [
        f"  {row.key[:60]:60} {value / 2000:8.2f} ms {row.count // 2:6d} calls" for value, row in rows[:count]
    ]


class _Fields(nn.Module):
    """A network as tensors in, tensors out, as CUDA graphs want it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, ...]:
        output = self.network(fixed, moving)
        spread = output.velocity_log_variance
        return (output.velocity_mean,) if spread is None else (output.velocity_mean, spread)


def _graphed(network: nn.Module, pair: TrainingPair, config: TrainingConfig, repeats: int, warm_up: int) -> str:
    """Forward and backward of the network, launched one by one and as a captured graph: what graphs would gain."""
    fields, device = _Fields(network.train()), pair.fixed.device

    def both(module: Callable[..., Any]) -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=config.precision == "bfloat16", cache_enabled=False):
            sum(part.float().square().sum() for part in module(pair.fixed, pair.moving)).backward()

    plain = _milliseconds(partial(both, fields), device, repeats, warm_up)
    try:
        with torch.autocast("cuda", torch.bfloat16, enabled=config.precision == "bfloat16", cache_enabled=False):
            captured = torch.cuda.make_graphed_callables(fields, (pair.fixed.clone(), pair.moving.clone()))
        graph = _milliseconds(partial(both, captured), device, repeats, warm_up)
    except RuntimeError as error:
        return f"network forward and backward {plain:.2f} ms; no CUDA graph: {str(error).splitlines()[0]}"
    return f"network forward and backward {plain:.2f} ms; as a CUDA graph {graph:.2f} ms"
