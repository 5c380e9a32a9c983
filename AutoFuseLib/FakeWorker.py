"""Takes the place of the worker process in tests: "finds" a known translation, at the pace that the test sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import qt
from numpy.typing import NDArray

from autofuse_engine.events import Error, Event, Progress, Result

Told = Callable[[Event], None]


class FakeWorker:
    """Has the members of ``WorkerProcess``; every answer is made by :meth:`progress`, :meth:`succeed`, :meth:`fail`.

    Attributes:
        shiftMm: the answer: ``transform(x) = x + shiftMm``, right anterior superior. Moving and fixed image of a test
            lie on one grid, along which the shift is a whole number of voxels.
        jobs: name and spec of every job, in the order of arrival.
        calls: of ``cancel`` and ``finish``: name and job id.
        images: further images on the fixed grid, by their name in the protocol, that every result has.
        automatic: whether registrations are answered by themselves at the next turn of the event loop.
    """

    state = "ready"
    logPath: Path | None = None

    def __init__(self, shiftMm: tuple[float, float, float] = (0.0, 0.0, 0.0), *, automatic: bool = False) -> None:
        self.shiftMm = shiftMm
        self.automatic = automatic
        self.jobs: list[tuple[str, Mapping[str, Any]]] = []
        self.calls: list[tuple[str, int]] = []
        self.images: dict[str, NDArray] = {}
        self.stopped = False
        self._callbacks: dict[int, tuple[Told, Told]] = {}

    # ------------------------------------------------------------------------------------------------ as the real one

    def submit(self, job: str, spec: Mapping[str, Any], onEvent: Told, onAnswer: Told) -> int:
        """Take a job; devices are told at once, registrations wait for the test unless ``automatic`` is set."""
        self.jobs.append((job, spec))
        number = len(self.jobs)
        self._callbacks[number] = (onEvent, onAnswer)
        if job == "devices":
            report = {"devices": [{"id": "cpu", "name": "CPU", "free_gib": 8.0}]}
            qt.QTimer.singleShot(0, lambda: self._answer(number, Result(report=report)))
        elif self.automatic:
            qt.QTimer.singleShot(0, lambda: self.succeed(number))
        return number

    def cancel(self, jobId: int) -> None:
        """Remember the wish; the test answers with :meth:`fail`."""
        self.calls.append(("cancel", jobId))

    def finish(self, jobId: int) -> None:
        """Remember the wish."""
        self.calls.append(("finish", jobId))

    def stop(self) -> None:
        """Forget all jobs."""
        self.stopped = True
        self._callbacks.clear()

    stopNow = stop

    # ------------------------------------------------------------------------------------------------ what tests say

    def progress(self, stage: str, fraction: float, number: int = 0) -> None:
        """Tell how far the job is; 0 means the last one."""
        number = number or len(self.jobs)
        if number in self._callbacks:
            self._callbacks[number][0](Progress(stage=stage, fraction=fraction))

    def succeed(self, number: int = 0, **report: Any) -> None:
        """Answer with the known translation; ``report`` adds to the report or replaces entries."""
        number = number or len(self.jobs)
        if number in self._callbacks:
            self._answer(number, self._result(self.jobs[number - 1][1], report))

    def fail(self, code: str, text: str = "It failed.", hint: str = "Try again.", number: int = 0) -> None:
        """Answer with an error; the code ``cancelled`` is the answer to a cancel."""
        self._answer(number or len(self.jobs), Error(code=code, text=text, hint=hint))

    def _answer(self, number: int, event: Event) -> None:
        callbacks = self._callbacks.pop(number, None)
        if callbacks is not None:
            callbacks[1](event)

    # ------------------------------------------------------------------------------------------------ the translation

    def _result(self, spec: Mapping[str, Any], additions: Mapping[str, Any]) -> Result:
        folder = Path(spec["folder"])
        fixed, moving = spec["fixed"], spec["moving"]
        place = np.array(fixed["ras_from_ijk"])
        arrays = {"warped": self._shifted(np.load(folder / moving["array"]), place).astype(np.float32)}
        if "moving_labels" in spec:
            arrays["warped_labels"] = self._shifted(np.load(folder / spec["moving_labels"]["array"]), place)
        arrays["jacobian"] = np.ones(arrays["warped"].shape, np.float32)
        length = float(np.linalg.norm(self.shiftMm))
        arrays["displacement_magnitude"] = np.full(arrays["warped"].shape, length, np.float32)
        arrays |= self.images
        files = {name: folder / f"{name}.npy" for name in arrays}
        for name, path in files.items():
            np.save(path, arrays[name])
        forward, back = np.eye(4), np.eye(4)
        forward[:3, 3], back[:3, 3] = self.shiftMm, np.negative(self.shiftMm)
        report = {
            "metrics": {"before": {"ncc": 0.5}, "initial": {"ncc": 0.6}, "after": {"ncc": 0.9}},
            "folding_percent": 0.0,
            "folding_count": 0,
            "inverse_consistency_mm": {"mean": 0.0, "p99": 0.0},
            "seconds": {"check": 0.1, "initial alignment": 0.2, "total": 0.3},
            "peak_memory_gib": 0.25,
            "gate_means": None,
            "initial_matrix_ras": forward.tolist(),
            "warnings": [],
            "provenance": {"engine": "test", "torch": "none", "device": "cpu", "model": "none", "model_sha256": None,
                           "config": dict(spec["config"]), "seed": 0, "fixed": fixed["name"],
                           "moving": moving["name"]},
            "outputs": {name: {"ras_from_ijk": fixed["ras_from_ijk"]} for name in arrays},
            "transform": [{"matrix_ras": forward.tolist()}],
            "inverse": [{"matrix_ras": back.tolist()}],
            "verdict": {"level": "good", "text": "Better aligned (NCC 0.500 -> 0.900); nothing folds."},
            **additions,
        }  # fmt: skip
        return Result(files={name: str(path) for name, path in files.items()}, report=report)

    def _shifted(self, moving: NDArray, rasFromIjk: NDArray) -> NDArray:
        """``moving(x + shift)`` by whole voxels, zero where that lies outside."""
        shift = np.rint(np.linalg.solve(rasFromIjk[:3, :3], np.array(self.shiftMm))).astype(int)[::-1]
        result = np.zeros_like(moving)
        target = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(shift, moving.shape, strict=True))
        source = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(shift, moving.shape, strict=True))
        result[target] = moving[source]
        return result
