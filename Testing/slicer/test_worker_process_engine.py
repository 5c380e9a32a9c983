"""The real worker below Slicer's launcher: registrations, warm jobs, cancelling, death, a window that stays alive."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worker_jobs import Client, running

pytestmark = pytest.mark.slow
MATRIX = [[0, -2.0, 0, 5], [1.5, 0, 0, -8], [0, 0, -3.0, 11], [0, 0, 0, 1]]
TINY = (24, 20, 28)


@pytest.fixture
def client(host: Any, wait_until: Callable[..., Any], tmp_path: Path) -> Iterator[Client]:
    from AutoFuseLib.WorkerChild import Patience
    from AutoFuseLib.WorkerProcess import WorkerProcess

    patience = Patience(cancel=20)  # the machine of a test may be slow: what is asked politely is not to be killed
    worker = WorkerProcess(environment={"OMP_NUM_THREADS": "1"}, logFolder=tmp_path / "log", patience=patience)
    yield Client(worker, wait_until)
    worker.stopNow()


def pair(folder: Path, shape: tuple[int, int, int], **config: Any) -> dict[str, Any]:
    """A spec of ``register``: a ball, and one that lies a little further along j."""
    folder.mkdir(parents=True)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    spec: dict[str, Any] = {"folder": str(folder), "config": {"initial": "none", "device": "cpu", **config}}
    for name, shift in (("fixed", 0.0), ("moving", 0.08)):
        ball = 100.0 / (1 + np.exp(12 * (np.sqrt(k**2 + (j - shift) ** 2 + i**2) - 0.6)))
        np.save(folder / f"{name}.npy", ball.astype(np.float32))
        spec[name] = {"array": f"{name}.npy", "ras_from_ijk": MATRIX, "name": name}
    return spec


def test_a_registration_in_a_folder_of_any_name_and_a_second_one_in_the_warm_process(
    client: Client, tmp_path: Path
) -> None:
    first = client.submit("register", pair(tmp_path / "ein Auftrag Größe 中", TINY, refinement_steps=2))
    result = client.answered(first, timeout=300)
    assert result.event == "result", result
    assert result.report["metrics"]["after"]["ncc"] > result.report["metrics"]["before"]["ncc"]
    assert np.load(result.files["warped"]).shape == TINY
    stages = [event.stage for event in first.events if event.event == "progress"]
    assert stages[0] == "check"
    assert "refinement" in stages
    child = client.worker.processId
    assert running(child)
    assert client.run("register", pair(tmp_path / "b", TINY, refinement_steps=2), timeout=120).event == "result"
    assert client.worker.processId == child
    devices = client.run("devices").report["devices"]
    assert devices[0]["id"] == "cpu"
    assert client.worker.processId == child


def test_cancelling_in_the_middle_leaves_a_warm_worker_and_no_file(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    record = client.submit("register", pair(folder, (40, 32, 48), refinement_steps=100_000))
    client._waitUntil(lambda: any(event.event == "metric" for event in record.events), timeout=300)
    child = client.worker.processId
    client.worker.cancel(record.id)
    assert client.answered(record).code == "cancelled"
    assert sorted(path.name for path in folder.iterdir()) == ["fixed.npy", "moving.npy"]
    assert client.run("devices").event == "result"
    assert client.worker.processId == child


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_worker_is_told_and_the_next_job_works(client: Client, tmp_path: Path) -> None:
    record = client.submit("register", pair(tmp_path / "a", (40, 32, 48), refinement_steps=100_000))
    client._waitUntil(lambda: any(event.event == "metric" for event in record.events), timeout=300)
    os.kill(client.worker.processId, signal.SIGKILL)
    assert client.answered(record).code == "worker-died"
    assert "SIGKILL" in record.answer.text
    answer = client.run("register", pair(tmp_path / "b", TINY, refinement_steps=2), timeout=300)
    assert answer.event == "result"


def test_the_event_loop_lives_during_a_registration(client: Client, tmp_path: Path) -> None:
    import qt

    ticks: list[int] = []
    timer = qt.QTimer()
    timer.timeout.connect(lambda: ticks.append(1))
    timer.start(10)
    record = client.submit("register", pair(tmp_path / "job", TINY, refinement_steps=12))
    steps: list[int] = []
    while not record.answers:
        before = len(ticks)
        client._waitUntil(lambda before=before: len(ticks) > before or record.answers, timeout=60)
        steps.append(len(record.events))
    timer.stop()
    assert record.answer.event == "result"
    assert len(ticks) > 30
    assert len(set(steps)) > 10, "events come while the job runs, not at its end"
