"""What a piece of work takes beyond what the process held before."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from autofuse_engine.evaluation_memory import PeakMemory
from autofuse_engine.memory import peak_memory_bytes, resident_memory_bytes

CPU = torch.device("cpu")
tells = pytest.mark.skipif(sys.platform == "darwin", reason="macOS does not tell what is resident now")


@tells
def test_an_array_counts_although_it_is_gone_at_the_end_and_what_was_there_before_does_not() -> None:
    kept = np.ones(20_000_000)  # 160 MB
    with PeakMemory(CPU) as memory:
        taken = np.ones(40_000_000)  # 320 MB
        del taken
    assert kept.sum() == 20_000_000
    assert memory.gib is not None
    assert 0.25 < memory.gib < 0.45


@tells
def test_work_that_takes_nothing_is_told_as_almost_nothing() -> None:
    with PeakMemory(CPU) as memory:
        pass
    assert memory.gib is not None
    assert 0 <= memory.gib < 0.05


@tells
def test_what_is_resident_now_is_at_most_what_was_resident_at_most() -> None:
    now, most = resident_memory_bytes(), peak_memory_bytes(CPU)
    assert now is not None
    assert most is not None
    assert 50e6 < now <= most * 1.05


def test_an_error_within_passes_through_and_the_watch_ends() -> None:
    memory = PeakMemory(CPU)
    with pytest.raises(ValueError, match="mine"), memory:
        raise ValueError("mine")
    assert memory._thread is None or not memory._thread.is_alive()
