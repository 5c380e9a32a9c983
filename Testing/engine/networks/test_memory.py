"""Prediction needs less than half of the memory that a plain network needs: measured, each in a process of its own."""

from __future__ import annotations

import sys

import pytest

from Testing.benchmarks.benchmark_network import memory_in_own_process

SHAPE = (64, 96, 80)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is reset on Linux only")
def test_a_prediction_takes_less_than_half_of_the_memory_of_a_plain_network() -> None:
    # The least of three: what the allocator gives back in between varies by a fifth from process to process.
    plain, ours = (
        min(memory_in_own_process(name, SHAPE, threads=2) for _ in range(3)) for name in ("plain", "float32")
    )
    # The plain network holds at least three features of 32 channels at full resolution.
    assert plain > 3 * 32 * 4 * 64 * 96 * 80
    assert ours < plain / 2
