"""Sharing an array among threads: every part once, in order, under the caller's settings, and nothing else changed."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch

from autofuse_engine.networks import slabs
from autofuse_engine.networks.slabs import run_by_slab

ARRAY = torch.zeros(22, 5, 3)  # 60 bytes each step


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(slabs, "SLAB_BYTES", 240)
    monkeypatch.setattr(slabs, "SMALLEST_SLAB_BYTES", 60)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("multiple", [1, 2, 4])
@pytest.mark.parametrize("slab_bytes", [1, 240, 10**9])
def test_ranges_cover_the_array_once_and_in_order(
    threads: int, multiple: int, slab_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(threads)
    monkeypatch.setattr(slabs, "SLAB_BYTES", slab_bytes)
    ranges = run_by_slab(lambda start, stop: (start, stop), ARRAY, multiple)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == 22
    assert all(before[1] == after[0] for before, after in pairwise(ranges))
    assert all(start < stop and start % multiple == 0 for start, stop in ranges)


def test_each_thread_gets_the_same_number_of_slabs_of_about_one_size() -> None:
    # By hand: 22 steps of 60 bytes in slabs of at most 240 bytes for 2 threads take 3 rounds, of 4 steps each.
    assert [stop - start for start, stop in run_by_slab(lambda start, stop: (start, stop), ARRAY)] == [4] * 5 + [2]


def test_arrays_too_small_to_share_stay_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slabs, "SMALLEST_SLAB_BYTES", 60 * 22)
    assert run_by_slab(lambda start, stop: (start, stop, threading.current_thread()), ARRAY) == [
        (0, 22, threading.main_thread())
    ]


def test_slabs_run_at_the_same_time_and_on_one_torch_thread_each() -> None:
    meeting = threading.Barrier(2)

    def work(start: int, stop: int) -> int:
        meeting.wait(30)  # passes only when two are here
        return torch.get_num_threads()

    assert run_by_slab(work, torch.zeros(8, 5, 3)) == [1, 1]


def test_the_number_of_threads_of_everybody_else_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slabs, "_pools", {})
    run_by_slab(lambda start, stop: None, ARRAY)
    elsewhere: list[int] = []
    thread = threading.Thread(target=lambda: elsewhere.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert torch.get_num_threads() == 2
    assert elsewhere == [2]


@pytest.mark.parametrize("inference", [True, False])
def test_work_runs_in_the_inference_mode_of_its_caller_and_without_gradients(inference: bool) -> None:
    def work(start: int, stop: int) -> tuple[bool, bool]:
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    with torch.no_grad(), torch.inference_mode(inference):
        assert set(run_by_slab(work, ARRAY)) == {(inference, False)}


def test_an_error_in_a_slab_reaches_the_caller() -> None:
    def work(start: int, stop: int) -> None:
        if start >= 8:
            raise MemoryError("no more")

    with pytest.raises(MemoryError, match="no more"):
        run_by_slab(work, ARRAY)


def test_where_threads_cannot_be_set_apart_the_caller_does_all_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slabs, "_threads_are_separate", lambda: False)
    workers = run_by_slab(lambda start, stop: threading.current_thread(), ARRAY)
    assert len(workers) == 6
    assert set(workers) == {threading.main_thread()}


def _shared_in_a_child(queue: multiprocessing.Queue) -> None:
    queue.put(sum(run_by_slab(lambda start, stop: stop - start, ARRAY)))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_makes_threads_of_its_own() -> None:
    run_by_slab(lambda start, stop: None, ARRAY)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_shared_in_a_child, args=(queue,), daemon=True)
    child.start()
    try:
        assert queue.get(timeout=30) == 22
    finally:
        child.kill()
        child.join()
