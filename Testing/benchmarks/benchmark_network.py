"""How much faster and leaner the network predicts than the plain one beside the tests, and what bfloat16 costs.

``python Testing/benchmarks/benchmark_network.py [--shape D H W] [--threads N] [--repeats N] [--json FILE]``

Speed: the networks take turns in one process, weights random and equal; medians of wall time and of processor time,
which other programs disturb less. Memory: each network predicts once in a process of its own; the figure is the peak
of the resident memory beyond what the process held with the network built and the images drawn.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from autofuse_engine.configs import NETWORKS  # noqa: E402
from autofuse_engine.memory import peak_memory_bytes, reset_peak  # noqa: E402
from autofuse_engine.networks import lean  # noqa: E402
from autofuse_engine.networks.build import build_network, network_for_inference  # noqa: E402
from autofuse_engine.networks.network import RegistrationNetwork  # noqa: E402
from autofuse_engine.official_names import release_names  # noqa: E402
from Testing.engine.reference.plain_autofuse import PlainAutoFuse, randomise  # noqa: E402

SHAPE = (96, 128, 112)
Predict = Callable[[Tensor, Tensor], Tensor]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE, metavar=("D", "H", "W"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--memory-of", choices=("plain", "float32", "bfloat16"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print(peak_of_one_prediction(options.memory_of, tuple(options.shape)))
        return 0
    figures = measure(tuple(options.shape), options.threads, options.repeats)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name, value in figures.items():
        print(f"{name:>36}: {value:.4g}" if isinstance(value, float) else f"{name:>36}: {value}")
    return 0


def measure(shape: tuple[int, int, int], threads: int, repeats: int) -> dict[str, Any]:
    """Every figure by its name."""
    networks = {name: network_named(name) for name in names()}
    fixed, moving = images(shape)
    fields: dict[str, Tensor] = {}
    wall: dict[str, list[float]] = {name: [] for name in networks}
    processor: dict[str, list[float]] = {name: [] for name in networks}
    with torch.inference_mode():
        for round_number in range(repeats + 1):
            for name, predict in networks.items():
                started, used = time.perf_counter(), time.process_time()
                fields[name] = predict(fixed, moving)
                if round_number:  # the first round warms up
                    wall[name].append(time.perf_counter() - started)
                    processor[name].append(time.process_time() - used)
    figures: dict[str, Any] = {"shape": list(shape), "threads": threads, "repeats": repeats, "torch": torch.__version__}
    plain = fields["plain"]
    figures["plain field, largest, voxels"] = float(plain.abs().max())
    for name in networks:
        figures[f"{name} seconds"] = statistics.median(wall[name])
        figures[f"{name} processor seconds"] = statistics.median(processor[name])
        figures[f"{name} peak MiB"] = memory_in_own_process(name, shape, threads) / 2**20
        if name != "plain":
            pairs = list(zip(wall["plain"], wall[name], strict=True))
            figures[f"{name} times faster"] = statistics.median(slow / fast for slow, fast in pairs)
            figures[f"{name} share of the memory"] = figures[f"{name} peak MiB"] / figures["plain peak MiB"]
            difference = (fields[name] - plain).abs()
            figures[f"{name} largest difference"] = float(difference.max())
            figures[f"{name} mean difference"] = float(difference.mean())
    return figures


def names() -> list[str]:
    """The networks that this computer can run."""
    return ["plain", "float32", *(["bfloat16"] if lean.has_fast_bfloat16() else [])]


def network_named(name: str) -> Predict:
    """The plain network or ours in one precision, all with the same weights; gives the mean velocity."""
    plain = PlainAutoFuse().eval().requires_grad_(False)
    randomise(plain, seed=0)
    if name == "plain":
        return lambda fixed, moving: plain(fixed, moving)[0]
    network = network_for_inference(with_weights_of(plain), "bfloat16" if name == "bfloat16" else "float32", "cpu")
    return lambda fixed, moving: network(fixed, moving).velocity_mean


def with_weights_of(plain: PlainAutoFuse) -> RegistrationNetwork:
    """Our network with the plain one's weights."""
    with torch.device("meta"):
        network = build_network(NETWORKS["autofuse"])
    ours = release_names(large_kernels=True)
    weights = {ours[key]: copy.deepcopy(tensor) for key, tensor in plain.state_dict().items()}
    network.load_state_dict(weights, assign=True)
    return network


def images(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Two random images ``(1, 1, D, H, W)``."""
    generator = torch.Generator().manual_seed(1)
    fixed, moving = torch.rand(2, 1, 1, *shape, generator=generator)
    return fixed, moving


def peak_of_one_prediction(name: str, shape: tuple[int, int, int]) -> int:
    """Bytes of resident memory at the peak of one prediction beyond those before it; for a fresh process."""
    predict = network_named(name)
    fixed, moving = images(shape)
    cpu = torch.device("cpu")
    with torch.inference_mode():
        predict(*images((16, 16, 32)))  # load the libraries
        reset_peak(cpu)
        before = peak_memory_bytes(cpu)
        predict(fixed, moving)
    after = peak_memory_bytes(cpu)
    if before is None or after is None:
        raise RuntimeError("this system does not tell the peak memory of a process")
    return after - before


def memory_in_own_process(name: str, shape: tuple[int, int, int], threads: int) -> int:
    """:func:`peak_of_one_prediction` in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", name, "--threads", str(threads), "--shape", *map(str, shape)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8", timeout=600)
    return int(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
