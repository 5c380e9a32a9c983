"""Time and memory of one prediction by each network of the list, relative to ``autofuse``.

``python Testing/benchmarks/benchmark_kinds.py [--shape D H W] [--threads N] [--repeats N] [NAME ...]``

Each network runs in a process of its own, with random weights, on the CPU, in float32. Seconds and processor seconds
are the least of the repeats, as other programs can only add to them; memory is the peak of the resident memory beyond
what the process held before the first pass.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from autofuse_engine.configs import NETWORKS  # noqa: E402
from autofuse_engine.memory import peak_memory_bytes, reset_peak  # noqa: E402
from autofuse_engine.networks.build import build_network, network_for_inference  # noqa: E402

SHAPE = (64, 80, 64)


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE, metavar=("D", "H", "W"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        torch.set_num_threads(options.threads)
        print(json.dumps(measured(options.names[0], tuple(options.shape), options.repeats)))
        return 0
    print(f"{'network':>24} {'seconds':>8} {'CPU s':>8} {'times':>6} {'peak MiB':>9} {'times':>6} {'bytes/voxel':>12}")
    first: dict[str, Any] | None = None
    for name in options.names:
        figures = in_own_process(name, options)
        first = first or figures
        voxels = options.shape[0] * options.shape[1] * options.shape[2]
        print(
            f"{name:>24} {figures['seconds']:8.2f} {figures['processor_seconds']:8.2f}"
            f" {figures['processor_seconds'] / first['processor_seconds']:6.2f} {figures['peak'] / 2**20:9.0f}"
            f" {figures['peak'] / first['peak']:6.2f} {figures['peak'] / voxels:12.0f}"
        )
    return 0


def in_own_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """:func:`measured` in a fresh process."""
    command = [sys.executable, __file__, name, "--one", "--threads", str(options.threads)]
    command += ["--repeats", str(options.repeats), "--shape", *map(str, options.shape)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8", timeout=1200)
    return json.loads(done.stdout)


def measured(name: str, shape: tuple[int, int, int], repeats: int) -> dict[str, float]:
    """Least seconds and processor seconds of a prediction, and its peak memory in bytes."""
    torch.manual_seed(0)
    network = network_for_inference(build_network(NETWORKS[name]), "float32", "cpu")
    fixed, moving = torch.rand(2, 1, 1, *shape)
    cpu = torch.device("cpu")
    wall, processor = [], []
    with torch.inference_mode():
        network(*torch.rand(2, 1, 1, 16, 16, 32))  # load the libraries
        reset_peak(cpu)
        before = peak_memory_bytes(cpu)
        for _ in range(repeats):
            started, used = time.perf_counter(), time.process_time()
            network(fixed, moving)
            wall.append(time.perf_counter() - started)
            processor.append(time.process_time() - used)
        after = peak_memory_bytes(cpu)
    if before is None or after is None:
        raise RuntimeError("this system does not tell the peak memory of a process")

    return {
        "seconds": min(wall),
        "processor_seconds": min(processor),
        "peak": float(after - before),
    }


if __name__ == "__main__":
    sys.exit(main())
