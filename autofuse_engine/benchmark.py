"""The command ``autofuse benchmark``: how fast the parts are on this machine, and how much memory they take.

In a source checkout each part runs in turn with a plain implementation of the same mathematics, kept beside the
tests: the ratio of the two says more than seconds, which depend on the machine and on what else it does.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autofuse_engine import __version__
from autofuse_engine.configs import NETWORKS, RefinementConfig
from autofuse_engine.events import Event, Metric
from autofuse_engine.losses.segmentation_terms import segmentation_terms
from autofuse_engine.losses.similarity import local_ncc
from autofuse_engine.memory import peak_memory_bytes, reset_peak
from autofuse_engine.networks.build import build_network, network_for_inference
from autofuse_engine.refinement import RefinementPair, refine
from autofuse_engine.spatial.integrate import integrate
from autofuse_engine.terminal import number, print_json, print_table, require_packages
from autofuse_engine.training_configs import SEGMENTATION_TERMS

SHAPE, QUICK_SHAPE = (96, 128, 112), (32, 48, 32)
CLASSES = 12
"""Of the segmentation loss; the plain one takes gigabytes for more."""
_REFERENCES = Path(__file__).resolve().parents[1] / "Testing" / "engine" / "reference"


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Something to measure: ``ours`` and, where there is one, the plain ``reference`` of the same mathematics."""

    name: str
    ours: Callable[[], Any]
    reference: Callable[[], Any] | None


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Medians of one part; ``ratio`` is how often faster ours is, None without a reference."""

    name: str
    seconds: float
    reference_seconds: float | None
    ratio: float | None


def benchmark_command(options: argparse.Namespace) -> int:
    """``autofuse benchmark``."""
    if not (options.json or options.quiet):
        require_packages("rich")
    shape = QUICK_SHAPE if options.quick else SHAPE
    cpu = torch.device("cpu")
    reset_peak(cpu)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = parts_of(shape)
        step = seconds_per_refinement_step(shape, max(1, options.repeat))
        for part in parts:
            part.ours()
        peak = peak_memory_bytes(cpu)  # before anything plain ran
        figures = [measure(part, max(1, options.repeat)) for part in parts]
    figures.append(Figure(name="refinement, one step", seconds=step, reference_seconds=None, ratio=None))
    content = {
        "engine": __version__,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "shape": list(shape),
        "references": _REFERENCES.is_dir(),
        "figures": [vars(figure) for figure in figures],
        "peak_memory_gib": None if peak is None else peak / 2**30,
    }
    if options.json:
        print_json(content)
    elif not options.quiet:
        _print(content, figures)
    return 0


def measure(part: Part, repeat: int) -> Figure:
    """Medians over ``repeat`` rounds, after one that does not count; ours and the reference take turns."""
    ours, reference = [], []
    for round_number in range(repeat + 1):
        seconds = _seconds(part.ours)
        other = _seconds(part.reference) if part.reference is not None else None
        if round_number:
            ours.append(seconds)
            reference.append(other)
    if part.reference is None:
        return Figure(name=part.name, seconds=statistics.median(ours), reference_seconds=None, ratio=None)
    return Figure(
        name=part.name,
        seconds=statistics.median(ours),
        reference_seconds=statistics.median(reference),
        ratio=statistics.median(plain / own for own, plain in zip(ours, reference, strict=True)),
    )


def parts_of(shape: tuple[int, int, int]) -> list[Part]:
    """Network, similarity and integration on random data of one shape, on the CPU."""
    fixed, moving = torch.rand(1, 1, *shape), torch.rand(1, 1, *shape)
    coarse = torch.randn(1, 3, *(max(2, side // 8) for side in shape))
    velocity = 2.0 * torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear")
    networks, operations = _reference("plain_autofuse"), _reference("plain_operations")
    network = network_for_inference(build_network(NETWORKS["autofuse"]), "float32", "cpu")
    plain_network = None if networks is None else networks.PlainAutoFuse().eval().requires_grad_(False)

    def gradient(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            warped = moving.clone().requires_grad_(True)
            (result,) = torch.autograd.grad(loss(fixed, warped), warped)
            return result

        return run

    return [
        Part(
            name="network, forward",
            ours=lambda: network(fixed, moving),
            reference=None if plain_network is None else lambda: plain_network(fixed, moving),
        ),
        Part(
            name="local NCC, forward and backward",
            ours=gradient(lambda one, two: local_ncc(one, two, radius=4)),
            reference=None if operations is None else gradient(operations.direct_local_ncc),
        ),
        Part(
            name="integration, 7 steps",
            ours=lambda: integrate(velocity, 7),
            reference=None if operations is None else lambda: operations.plain_integrate(velocity, 7),
        ),
        _segmentation_loss(shape, velocity, _reference("plain_overlap"), operations),
    ]


def _segmentation_loss(
    shape: tuple[int, int, int], displacement: Tensor, plain: ModuleType | None, operations: ModuleType | None
) -> Part:
    """All five terms, and their gradients with respect to both images' logits."""
    coarse = 2 * torch.randn(2, CLASSES, *(max(2, side // 8) for side in shape))
    logits = torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear").split(1)
    labels = [one.argmax(dim=1, keepdim=True) for one in logits]

    def gradients(terms: Callable[[Tensor, Tensor], dict[str, Tensor]]) -> Tensor:
        fixed, moving = (one.clone().requires_grad_(True) for one in logits)
        total = torch.stack(list(terms(fixed, moving).values())).sum()
        return torch.cat(torch.autograd.grad(total, (fixed, moving)))

    reference = None
    if plain is not None and operations is not None:
        inputs = (*labels, displacement, operations.plain_warp)
        reference = partial(gradients, lambda one, two: plain.plain_segmentation_terms(one, two, *inputs))
    names = list(SEGMENTATION_TERMS)
    return Part(
        name=f"segmentation loss, {CLASSES} classes",
        ours=partial(
            gradients, lambda one, two: segmentation_terms(one, two, labels[0], labels[1], displacement, names)
        ),
        reference=reference,
    )


def seconds_per_refinement_step(shape: tuple[int, int, int], steps: int) -> float:
    """Median time between two steps at full resolution."""
    times: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, Metric):
            times.append(time.perf_counter())

    coarse = torch.rand(2, 1, 1, *(side // 8 for side in shape))
    fixed, moving = (torch.nn.functional.interpolate(image, size=shape, mode="trilinear") for image in coarse)
    pair = RefinementPair(
        fixed=fixed, moving=moving, moving_from_fixed_vox=np.eye(4), moving_voxels_per_fixed=(1.0, 1.0, 1.0)
    )
    refine(pair, RefinementConfig(steps=steps + 1, coarsest_side=max(shape)), report=note)
    return statistics.median(np.diff(times).tolist())


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _reference(name: str) -> ModuleType | None:
    """A module of plain implementations; None outside of a source checkout."""
    path = _REFERENCES / f"{name}.py"
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location(f"autofuse_reference_{name}", path)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _print(content: dict[str, Any], figures: list[Figure]) -> None:
    size = " x ".join(map(str, content["shape"]))
    title = f"{size} voxels, CPU with {content['threads']} threads, float32, torch {content['torch']}"
    rows = [
        (
            figure.name,
            f"{figure.seconds * 1e3:.1f}",
            "-" if figure.reference_seconds is None else f"{figure.reference_seconds * 1e3:.1f}",
            "-" if figure.ratio is None else f"{figure.ratio:.2f}",
        )
        for figure in figures
    ]
    print_table(("part", "ms", "plain, ms", "times faster"), rows, title=title)
    print(f"Peak memory without the plain implementations: {number(content['peak_memory_gib'], 2)} GiB")
    if not content["references"]:
        print("No source checkout here, so there is no plain implementation to compare with.")
