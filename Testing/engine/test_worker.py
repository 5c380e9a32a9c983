"""The worker as a real child process: protocol, cancelling, and leaving without being asked twice."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autofuse_engine.data.resample import resample_image
from autofuse_engine.data.transform import GridStep, MatrixStep, SpatialTransform
from autofuse_engine.data.volume import Volume
from autofuse_engine.events import STAGES, from_json_line

ROOT = Path(__file__).resolve().parents[2]
STAGED = [sys.executable, str(Path(__file__).with_name("staged_worker.py"))]
FIXED_MATRIX = [[0, -2.0, 0, 5], [1.5, 0, 0, -8], [0, 0, -3.0, 11], [0, 0, 0, 1]]
MOVING_MATRIX = [[1.8, 0, 0, -12], [0, 0, 1.6, -7], [0, 2.1, 0, -14], [0, 0, 0, 1]]


class Worker:
    """A child process, its events as they arrive, and its log."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        self.lines: list[str] = []
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.append(line.decode("utf-8"))
            self._events.put(json.loads(line))
        self._events.put(None)

    def send(self, content: object) -> None:
        line = content if isinstance(content, str) else json.dumps(content)
        if self.process.stdin is None:
            raise RuntimeError("no stdin")
        self.process.stdin.write(line.encode("utf-8") + b"\n")
        self.process.stdin.flush()

    def event(self, timeout_s: float = 30) -> dict[str, Any]:
        event = self._events.get(timeout=timeout_s)
        if event is None:
            raise EOFError(self.log.read_text(encoding="utf-8", errors="replace"))
        return event

    def answer(self, job_id: int, timeout_s: float = 30) -> dict[str, Any]:
        """Skip to the result or error of a job."""
        while True:
            event = self.event(timeout_s)
            if event["id"] == job_id and event["event"] in ("result", "error"):
                return event

    def await_stage(self, job_id: int, stage: str) -> None:
        while True:
            event = self.event()
            if event["id"] == job_id and event.get("stage") == stage:
                return

    def close_stdin(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None and not stream.closed:
                stream.close()


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    worker = Worker([*STAGED, "120"], tmp_path_factory.mktemp("log") / "staged.log")
    yield worker
    worker.end()


def job(job_id: int, place: Path, fixed_name: str = "plain", **more: Any) -> dict[str, Any]:
    """A register request on a small pair, whose arrays are written into the place."""
    place.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(job_id)
    np.save(place / "fixed.npy", random.random((10, 12, 9)).astype(np.float32))
    np.save(place / "moving.npy", random.random((11, 8, 13)).astype(np.float32))
    np.save(place / "moving_labels.npy", random.integers(0, 3, (11, 8, 13)).astype(np.int16))
    spec = {
        "folder": str(place),
        "fixed": {"array": "fixed.npy", "ras_from_ijk": FIXED_MATRIX, "name": fixed_name},
        "moving": {"array": "moving.npy", "ras_from_ijk": MOVING_MATRIX, "name": "Bewegtes Bild, Übung"},
        "moving_labels": {"array": str(place / "moving_labels.npy"), "ras_from_ijk": MOVING_MATRIX},
        "config": {"model": "none"},
        **more,
    }
    return {"id": job_id, "job": "register", "spec": spec}


def chain(steps: list[dict[str, Any]], files: dict[str, str]) -> SpatialTransform:
    """What a reader of the protocol makes of the JSON."""
    return SpatialTransform(
        steps=tuple(
            MatrixStep(matrix_ras=np.array(step["matrix_ras"]))
            if "matrix_ras" in step
            else GridStep(
                displacement_ras=np.load(files[step["displacement"]]), ras_from_ijk=np.array(step["ras_from_ijk"])
            )
            for step in steps
        )
    )


def npy_names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.npy")}


INPUT_NAMES = {"fixed.npy", "moving.npy", "moving_labels.npy"}


def test_a_result_describes_arrays_geometry_and_the_chain_that_made_the_warped_image(
    staged: Worker, tmp_path: Path
) -> None:
    folder = tmp_path / "Auftrag Ä 1"
    staged.send(job(11, folder))
    answer = staged.answer(11)
    assert answer["event"] == "result", answer
    files, report = answer["files"], answer["report"]
    assert set(files) == {"warped", "warped_labels", "jacobian", "displacement_magnitude", "displacement"}
    assert npy_names(folder) == INPUT_NAMES | {f"{name}.npy" for name in files}
    for name in set(files) - {"displacement"}:
        assert np.load(files[name]).shape == (10, 12, 9)
        assert report["outputs"][name]["ras_from_ijk"] == FIXED_MATRIX
    assert np.load(files["warped_labels"]).dtype == np.int16
    fixed = Volume(array=np.load(folder / "fixed.npy"), ras_from_ijk=np.array(FIXED_MATRIX))
    moving = Volume(array=np.load(folder / "moving.npy"), ras_from_ijk=np.array(MOVING_MATRIX))
    assert [set(step) for step in report["transform"]] == [{"displacement", "ras_from_ijk"}, {"matrix_ras"}]
    again = resample_image(moving, chain(report["transform"], files), fixed)
    np.testing.assert_allclose(np.load(files["warped"]), again.array, atol=1e-5)
    assert report["inverse"][0]["matrix_ras"][0][3] == -1.5
    assert report["verdict"]["level"] == "good"
    assert report["metrics"]["after"]["ncc"] == 0.91


def test_events_come_in_order_with_rising_fractions_and_known_stages(staged: Worker, tmp_path: Path) -> None:
    staged.send(job(12, tmp_path))
    staged.answer(12)
    events = [event for number, event in map(from_json_line, staged.lines) if number == 12]
    progress = [event for event in events if event.event == "progress"]
    fractions = [event.fraction for event in progress]
    assert fractions == sorted(fractions)
    assert 0.9 < fractions[-1] <= 1.0
    assert {event.stage for event in progress} <= set(STAGES)
    assert {"warning", "metric", "result"} <= {event.event for event in events}
    assert events[-1].event == "result"


def test_nothing_that_anybody_prints_reaches_the_protocol(staged: Worker, tmp_path: Path) -> None:
    staged.send(job(13, tmp_path, "noisy"))
    assert staged.answer(13)["event"] == "result"
    assert not [event for number, event in map(from_json_line, staged.lines) if number == 99]
    log = staged.log.read_text(encoding="utf-8")
    assert "from a library written in C" in log
    assert "from a child process" in log
    assert '"id": 99' in log


def test_a_running_job_stops_within_a_second_and_the_next_one_runs(staged: Worker, tmp_path: Path) -> None:
    staged.send(job(14, tmp_path / "a", "slow"))
    staged.await_stage(14, "refinement")
    started = time.monotonic()
    staged.send({"cancel": 14})
    answer = staged.answer(14, timeout_s=5)
    assert time.monotonic() - started < 1.0
    assert (answer["event"], answer["code"]) == ("error", "cancelled")
    assert npy_names(tmp_path / "a") == INPUT_NAMES
    staged.send(job(15, tmp_path / "b"))
    assert staged.answer(15)["event"] == "result"


def test_a_search_that_shall_finish_early_goes_on_to_its_result(staged: Worker, tmp_path: Path) -> None:
    staged.send(job(29, tmp_path, "slow"))
    staged.await_stage(29, "refinement")
    staged.send({"finish": 29})
    answer = staged.answer(29, timeout_s=5)
    assert answer["event"] == "result"
    assert "warped" in answer["files"]


def test_a_waiting_job_is_cancelled_at_once_and_jobs_run_one_after_the_other(staged: Worker, tmp_path: Path) -> None:
    staged.send(job(16, tmp_path / "a", "slow"))
    staged.send(job(17, tmp_path / "b"))
    staged.send(job(18, tmp_path / "c"))
    staged.await_stage(16, "refinement")
    staged.send({"cancel": 17})
    assert staged.answer(17, timeout_s=2)["code"] == "cancelled"
    staged.send({"cancel": 16})
    assert staged.answer(16, timeout_s=2)["code"] == "cancelled"
    assert staged.answer(18)["event"] == "result"
    events = [(number, event.event) for number, event in map(from_json_line, staged.lines)]
    assert [kind for number, kind in events if number == 17] == ["error"]
    assert events.index((16, "error")) < min(place for place, (number, _) in enumerate(events) if number == 18)


def test_cancelling_what_was_answered_already_does_nothing(staged: Worker, tmp_path: Path) -> None:
    staged.send(job(19, tmp_path))
    staged.answer(19)
    staged.send({"cancel": 19})
    staged.send({"id": 20, "job": "models"})
    assert staged.answer(20)["event"] == "result"
    answers = [event.event for number, event in map(from_json_line, staged.lines) if number == 19]
    assert answers.count("result") == 1
    assert "error" not in answers


@pytest.mark.parametrize(
    ("line", "job_id"),
    [
        ("this is not JSON", 0),
        ('{"id": 3, "job": "register"', 0),
        ("[1, 2]", 0),
        ('{"job": "devices"}', 0),
        ('{"id": true, "job": "devices"}', 0),
        ('{"id": -4, "job": "devices"}', 0),
        ('{"id": 21, "spec": {}}', 21),
        ('{"id": 21, "job": "devices", "spec": []}', 21),
    ],
)
def test_requests_that_make_no_sense_are_refused_and_the_worker_lives_on(
    staged: Worker, line: str, job_id: int
) -> None:
    staged.send(line)
    while (event := staged.event())["event"] != "error":
        pass
    assert (event["id"], event["code"]) == (job_id, "request-invalid")
    staged.send({"id": 22, "job": "models", "spec": {}})
    assert staged.answer(22)["event"] == "result"


def test_the_id_of_an_unfinished_job_is_refused(staged: Worker, tmp_path: Path) -> None:
    staged.send(job(23, tmp_path, "slow"))
    staged.await_stage(23, "refinement")
    staged.send({"id": 23, "job": "models"})
    assert staged.answer(0, timeout_s=2)["code"] == "request-invalid"
    staged.send({"cancel": 23})
    assert staged.answer(23, timeout_s=2)["code"] == "cancelled"


def broken_specs() -> list[tuple[str, dict[str, Any], str, str]]:
    volume = {"array": "fixed.npy", "ras_from_ijk": FIXED_MATRIX}
    return [
        ("no fixed image", {"fixed": None}, "request-invalid", "fixed"),
        ("an unknown field", {"fixd": volume}, "request-invalid", "fixd"),
        ("a volume that is text", {"fixed": "fixed.npy"}, "request-invalid", "fixed"),
        ("an absent file", {"fixed": {**volume, "array": "gone.npy"}}, "file-not-found", "gone.npy"),
        ("a pickle", {"fixed": {**volume, "array": "pickle.npy"}}, "request-invalid", "pickle.npy"),
        ("a 3x3 matrix", {"fixed": {**volume, "ras_from_ijk": [[1, 0, 0]] * 3}}, "request-invalid", "4x4"),
        ("words in a matrix", {"fixed": {**volume, "ras_from_ijk": "identity"}}, "request-invalid", "identity"),
        ("a 2D array", {"fixed": {**volume, "array": "flat.npy"}}, "request-invalid", "(4, 5)"),
        ("a start without directions", {"start_from": volume}, "request-invalid", "(10, 12, 9)"),
        ("a start that is text", {"start_from": "start.npy"}, "request-invalid", "start_from"),
        ("an unknown option", {"config": {"colour": 1}}, "options-invalid", "colour"),
        ("an option out of range", {"config": {"samples": -1}}, "options-invalid", "-1"),
        ("no folder", {"folder": ""}, "request-invalid", "folder"),
        ("an absent folder", {"folder": "/nowhere/at/all"}, "file-not-found", "nowhere"),
        ("points in the plane", {"fixed_points_ras": [[1, 2], [3, 4]]}, "request-invalid", "(2, 2)"),
    ]


@pytest.mark.parametrize(("change", "code", "words"), [item[1:] for item in broken_specs()],
                         ids=[item[0] for item in broken_specs()])  # fmt: skip
def test_a_spec_with_a_fault_is_refused_by_name(
    staged: Worker, tmp_path: Path, change: dict[str, Any], code: str, words: str
) -> None:
    request = job(24, tmp_path, **change)
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "flat.npy", np.zeros((4, 5)))
    staged.send(request)
    answer = staged.answer(24)
    assert (answer["event"], answer["code"]) == ("error", code)
    assert words in answer["text"]
    assert answer["hint"]


def test_an_unknown_job_is_refused_with_the_known_ones(staged: Worker) -> None:
    staged.send({"id": 25, "job": "teleport"})
    answer = staged.answer(25)
    assert answer["code"] == "job-unknown"
    assert "register" in answer["hint"]


def test_errors_for_users_pass_unchanged_and_defects_leave_their_traceback_in_the_log(
    staged: Worker, tmp_path: Path
) -> None:
    staged.send(job(26, tmp_path, "refused"))
    answer = staged.answer(26)
    assert (answer["code"], answer["text"], answer["hint"]) == (
        "image-constant", "The fixed image is 7 everywhere.", "Choose another one.")  # fmt: skip
    staged.send(job(27, tmp_path, "broken"))
    answer = staged.answer(27)
    assert (answer["code"], answer["text"]) == ("unexpected", "ZeroDivisionError: staged")
    assert "Traceback" in staged.log.read_text(encoding="utf-8")


def test_devices_name_the_cpu_and_its_memory(staged: Worker) -> None:
    staged.send({"id": 28, "job": "devices"})
    cpu = staged.answer(28)["report"]["devices"][0]
    assert cpu["id"] == "cpu"
    assert cpu["free_gib"] > 0 if sys.platform in ("linux", "win32") else cpu["free_gib"] is None


@pytest.mark.parametrize("behaviour", ["idle", "slow", "deaf"])
def test_it_leaves_when_stdin_closes_whatever_it_does(tmp_path: Path, behaviour: str) -> None:
    worker = Worker([*STAGED, "120"], tmp_path / "log.txt")
    try:
        assert worker.event()["stage"] == "ready"
        if behaviour != "idle":
            worker.send(job(31, tmp_path / "job", behaviour))
            worker.await_stage(31, "check")
        worker.close_stdin()
        assert worker.process.wait(timeout=4) == 0
        if behaviour != "idle":
            assert npy_names(tmp_path / "job") == INPUT_NAMES
    finally:
        worker.end()


def test_it_leaves_when_nobody_reads_its_answers(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([*STAGED, "120"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          env=environment) as process:  # fmt: skip
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        process.stdin.write(json.dumps(job(32, tmp_path, "slow")).encode() + b"\n")
        process.stdin.flush()
        next(line for line in process.stdout if b"refinement" in line)
        process.stdout.close()
        assert process.wait(timeout=10) == 0


def test_the_real_worker_greets_registers_and_leaves_when_idle(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "autofuse_engine", "worker", "--idle-seconds", "1.5"]
    worker = Worker(command, tmp_path / "log.txt")
    try:
        greeting = worker.event()
        assert (greeting["id"], greeting["stage"], greeting["fraction"]) == (0, "ready", 1.0)
        assert "protocol 1" in greeting["text"]
        folder = tmp_path / "job"
        request = job(33, folder, config={"initial": "none", "refinement_steps": 2})
        k, j, i = np.meshgrid(*(np.linspace(-1, 1, side) for side in (24, 20, 28)), indexing="ij")
        for name, shift in (("fixed", 0.0), ("moving", 0.08)):
            ball = 100.0 / (1 + np.exp(12 * (np.sqrt(k**2 + (j - shift) ** 2 + i**2) - 0.6)))
            np.save(folder / f"{name}.npy", ball.astype(np.float32))
            request["spec"][name]["ras_from_ijk"] = FIXED_MATRIX
        del request["spec"]["moving_labels"]
        worker.send(request)
        answer = worker.answer(33, timeout_s=120)
        assert answer["event"] == "result", answer
        files, report = answer["files"], answer["report"]
        assert {"warped", "jacobian", "displacement_magnitude", "displacement", "inverse_displacement"} <= set(files)
        assert report["metrics"]["after"]["ncc"] > report["metrics"]["before"]["ncc"]
        moving = Volume(array=np.load(folder / "moving.npy"), ras_from_ijk=np.array(FIXED_MATRIX))
        again = resample_image(moving, chain(report["transform"], files), moving)
        np.testing.assert_allclose(np.load(files["warped"])[2:-2, 2:-2, 2:-2], again.array[2:-2, 2:-2, 2:-2], atol=0.1)
        vectors = np.load(files["displacement"])
        np.save(folder / "start.npy", vectors)
        start = {"array": "start.npy", "ras_from_ijk": report["transform"][0]["ras_from_ijk"]}
        spec = {**request["spec"], "start_from": start, "config": {"initial": "transform", "refinement_steps": 0}}
        worker.send({"id": 34, "job": "register", "spec": spec})
        second = worker.answer(34, timeout_s=120)
        assert second["event"] == "result", second
        assert second["report"]["initial_deformation"] is True
        np.testing.assert_allclose(np.load(second["files"]["warped"]), np.load(files["warped"]), atol=0.5)
        assert worker.process.wait(timeout=20) == 0
    finally:
        worker.end()
