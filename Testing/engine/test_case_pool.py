"""Work for many cases in several processes: all outcomes arrive, errors keep their words, and nobody stays behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autofuse_engine.case_pool import CasePool, usable_cores
from autofuse_engine.errors import AutoFuseError, CancelledError, FileError, InputError


def square(number: int, cancelled: Callable[[], bool]) -> int:
    if number == 3:
        raise InputError("three", "Three is not liked.", "Take four.")
    return number * number


def end_badly(number: int, cancelled: Callable[[], bool]) -> int:
    os._exit(7)


def wait_until_cancelled(number: int, cancelled: Callable[[], bool]) -> int:
    while not cancelled():
        time.sleep(0.01)
    raise CancelledError


def collected(jobs: int) -> dict[int, Any]:
    found: dict[int, Any] = {}
    with CasePool(jobs) as pool:
        pool.map(square, [0, 1, 2, 3, 4], found.__setitem__)
    return found


def check(found: dict[int, Any]) -> None:
    error = found.pop(3)
    assert isinstance(error, InputError)
    assert (error.code, error.text, error.hint) == ("three", "Three is not liked.", "Take four.")
    assert found == {0: 0, 1: 1, 2: 4, 4: 16}


def test_one_process_does_everything_here() -> None:
    check(collected(1))


def test_two_processes_give_the_same() -> None:
    check(collected(2))


def test_errors_survive_the_way_between_processes() -> None:
    import pickle

    for error in (FileError("a", "b", "c"), CancelledError("stopped")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (again.code, again.text, again.hint, str(again)) == (error.code, error.text, error.hint, str(error))


def test_what_done_raises_stops_the_work() -> None:
    def done(index: int, outcome: int | AutoFuseError) -> None:
        raise FileError("disk-full", "x", "y")

    with pytest.raises(FileError), CasePool(1) as pool:
        pool.map(square, [0, 1], done)


def test_cancelling_reaches_the_processes_within_their_work() -> None:
    asked = iter([False, False, True])
    with pytest.raises(CancelledError, match="goes on"), CasePool(2, lambda: next(asked, True)) as pool:
        pool.map(wait_until_cancelled, [1, 2], lambda *_: None)


def test_a_process_that_dies_is_explained() -> None:
    with pytest.raises(InputError) as caught, CasePool(2) as pool:
        pool.map(end_badly, [1, 2], lambda *_: None)
    assert caught.value.code == "processes-lost"


KILLED = """
import os, sys, time
sys.path.insert(0, {folder!r})
from test_case_pool import tell_and_wait
from autofuse_engine.case_pool import CasePool
if __name__ == "__main__":
    with CasePool(2) as pool:
        pool.map(tell_and_wait, [{folder_out!r}] * 2, lambda *_: None)
"""


def tell_and_wait(folder: str, cancelled: Callable[[], bool]) -> int:
    (Path(folder) / f"{os.getpid()}.pid").touch()
    time.sleep(300)
    return 0


def is_alive(process_id: int) -> bool:
    if sys.platform == "win32":
        listed = subprocess.run(["tasklist", "/FI", f"PID eq {process_id}"], capture_output=True, check=False)
        return str(process_id).encode() in listed.stdout
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process_id}/stat")
    return not (state.exists() and state.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] == "Z")


def test_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    out = tmp_path / "out"
    out.mkdir()
    script.write_text(KILLED.format(folder=str(Path(__file__).parent), folder_out=str(out)), encoding="utf-8")
    parent = subprocess.Popen([sys.executable, str(script)], cwd=Path(__file__).resolve().parents[2])
    try:
        children = _wait_for(lambda: [int(path.stem) for path in out.glob("*.pid")], lambda found: len(found) == 2)
    finally:
        parent.kill()
        parent.wait()
    assert _wait_for(lambda: [child for child in children if is_alive(child)], lambda alive: not alive) == []


def _wait_for(look: Callable[[], list[int]], good: Callable[[list[int]], bool]) -> list[int]:
    for _ in range(1200):
        if good(found := look()):
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited two minutes, last seen {found}")


def test_there_is_at_least_one_core() -> None:
    assert usable_cores() >= 1
