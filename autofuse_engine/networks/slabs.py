"""Work on a large array slab by slab, several slabs at a time, each on one thread.

PyTorch's own threads meet after every operation. On a computer where other programs are busy, each such meeting waits
for a thread that was put aside, and thousands of small operations become many times slower. Here each thread takes a
whole slab through all of its operations, and they meet once per layer. docs/decisions/0013 tells what was measured.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

SLAB_BYTES = 4 * 2**20
SMALLEST_SLAB_BYTES = 2**18
Outcome = TypeVar("Outcome")
_pools: dict[int, ThreadPoolExecutor] = {}
_pools_lock = threading.Lock()


def run_by_slab(work: Callable[[int, int], Outcome], array: Tensor, multiple: int = 1) -> list[Outcome]:
    """Call ``work(start, stop)`` for ranges along the array's first axis that cover it; what it gave, in order.

    Calls run at the same time on as many threads as PyTorch uses, so they write to separate places only. Which
    ranges there are depends on the array and the number of threads alone: results repeat bit for bit.

    Args:
        work: runs in the caller's inference mode, without gradients.
        array: gives the length and the bytes per step.
        multiple: divides every ``start``, and every ``stop`` where it divides the length.
    """
    threads = torch.get_num_threads() if _threads_are_separate() else 1
    length, step_bytes = array.shape[0], array[0].numel() * array.element_size()
    # As many slabs for each thread, all of about one size: none waits long for the last one.
    rounds = math.ceil(length * step_bytes / (SLAB_BYTES * threads))
    steps = max(math.ceil(length / (rounds * threads)), SMALLEST_SLAB_BYTES // step_bytes, 1)
    steps = math.ceil(steps / multiple) * multiple
    ranges = [(start, min(start + steps, length)) for start in range(0, length, steps)]
    if threads == 1 or len(ranges) == 1:
        return [work(*one) for one in ranges]
    inference = torch.is_inference_mode_enabled()

    def run(one: tuple[int, int]) -> Outcome:
        # Both are settings of a thread; in this order, as inference_mode(False) switches gradients on.
        with torch.inference_mode(inference), torch.no_grad():
            return work(*one)

    return list(_pool(threads).map(run, ranges))


@cache
def _threads_are_separate() -> bool:
    """Whether the number of PyTorch's threads is a setting of each thread; so with OpenMP, which all wheels use."""
    return "ATen parallel backend: OpenMP" in torch.__config__.parallel_info()


def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads on each of which PyTorch works alone; made once, they sleep when there is no work."""
    with _pools_lock:
        if threads not in _pools:
            pool = ThreadPoolExecutor(threads, thread_name_prefix="autofuse-slab", initializer=_work_alone)
            meeting = threading.Barrier(threads)  # none of them leaves before all have started
            for arrival in [pool.submit(meeting.wait, 60) for _ in range(threads)]:
                arrival.result()
            # The number is a setting of each thread, but the latest one is also what new threads begin with.
            torch.set_num_threads(threads)
            _pools[threads] = pool
        return _pools[threads]


def _work_alone() -> None:
    torch.get_num_threads()  # a thread's first question sets its number to that of the process
    torch.set_num_threads(1)


def _forget_pools() -> None:
    """After a fork: the child has the pools, but not their threads."""
    global _pools_lock
    _pools_lock = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pools)
