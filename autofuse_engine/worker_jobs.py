"""What a worker can do: register a pair of arrays, list devices, list models; arrays travel as ``.npy`` files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofuse_engine import catalog
from autofuse_engine.commands import parse_config
from autofuse_engine.data.atomic import write_error
from autofuse_engine.data.transform import GridStep, MatrixStep, SpatialTransform
from autofuse_engine.data.volume import Volume
from autofuse_engine.devices import list_devices
from autofuse_engine.errors import CancelledError, FileError, InputError
from autofuse_engine.events import Progress, Report, Result
from autofuse_engine.guidance_inputs import guidance_from_names
from autofuse_engine.registration import ModelCache, RegistrationResult, register
from autofuse_engine.terminal import scaled
from autofuse_engine.training_jobs import training_jobs
from autofuse_engine.verdict import judge

_VOLUMES = ("fixed", "moving", "fixed_labels", "moving_labels", "fixed_mask", "moving_mask")
_POINTS = ("fixed_points_ras", "moving_points_ras")
_IMAGES = (
    "warped",
    "warped_labels",
    "jacobian",
    "displacement_magnitude",
    "uncertainty",
    "fixed_segmentation",
    "moving_segmentation",
    "regularity_weight",
)
_SAVING_STARTS = 0.97

Asked = Callable[[], bool]


class Jobs:
    """The kinds of jobs, and what stays warm between them: networks on their devices."""

    def __init__(self) -> None:
        self._models = ModelCache()
        self._kinds = {"register": self._register, "devices": _devices, "models": _models, **training_jobs()}

    def run(
        self, name: str, spec: Mapping[str, Any], *, report: Report, cancelled: Asked, finish_early: Asked
    ) -> Result:
        """Do one job.

        Args:
            name: its kind.
            spec: what the request says.
            report: receives its events, except for the answer.
            cancelled: asked between steps; True ends the job with an error.
            finish_early: asked between steps of a search; True goes on with the best result so far.

        Raises:
            InputError: ``job-unknown``, ``request-invalid``, ``options-invalid``.
            AutoFuseError: whatever the job raises.
        """
        if name not in self._kinds:
            known = ", ".join(self._kinds)
            raise InputError("job-unknown", f"There is no job {name!r}.", f"The worker knows {known}.")
        return self._kinds[name](spec, report, cancelled, finish_early)

    def _register(self, spec: Mapping[str, Any], report: Report, cancelled: Asked, finish_early: Asked) -> Result:
        known = {*_VOLUMES, *_POINTS, "config", "folder", "guide", "label_names", "start_from"}
        if unknown := sorted(set(spec) - known):
            raise _invalid(f"The spec of register does not know {', '.join(unknown)}.")
        folder = Path(_text(spec, "folder"))
        if not folder.is_dir():
            raise FileError("file-not-found", f"The job folder {folder} does not exist.", "Make it first.")
        config = parse_config(_object(spec, "config", {}))
        inputs: dict[str, Any] = {name: _volume(spec[name], name, folder) for name in _VOLUMES if spec.get(name)}
        inputs |= {name: _points(spec[name], name) for name in _POINTS if spec.get(name)}
        for name in ("fixed", "moving"):
            if name not in inputs:
                raise _invalid(f"The spec of register needs {name}.")
        names = _label_names(spec)
        guidance = None
        if spec.get("guide", False):
            both = inputs.get("fixed_labels"), inputs.get("moving_labels")
            if spec["guide"] is not True or both == (None, None):
                raise _invalid("guide is true or false, and needs fixed_labels, moving_labels or both.")
            guidance = guidance_from_names(*both, names)
        result = register(
            **inputs,
            config=config,
            guidance=guidance,
            start_from=_grid(spec["start_from"], "start_from", folder) if spec.get("start_from") else None,
            report=scaled(report, 0.0, _SAVING_STARTS),
            cancelled=cancelled,
            finish_early=finish_early,
            models=self._models,
        )
        report(Progress(stage="saving", fraction=_SAVING_STARTS))
        return _save(result, folder, cancelled)


def _devices(*_: Any) -> Result:
    return Result(report={"devices": list_devices()})


def _models(*_: Any) -> Result:
    models = [
        {"name": entry.name, "shipped": entry.shipped, "problem": entry.problem, "size_bytes": entry.size_bytes}
        for entry in catalog.list_models()
    ]
    return Result(report={"models": models})


def _save(result: RegistrationResult, folder: Path, cancelled: Asked) -> Result:
    """Write every array of a result into the folder; none stays behind when one cannot be written."""
    arrays: dict[str, NDArray] = {}
    places: dict[str, Any] = {}
    for name in _IMAGES:
        volume: Volume | None = getattr(result, name)
        if volume is not None:
            arrays[name] = volume.array
            places[name] = {"ras_from_ijk": volume.ras_from_ijk.tolist()}
    chains = {
        "transform": _chain(result.transform, "displacement", arrays),
        "inverse": _chain(result.inverse, "inverse_displacement", arrays),
    }
    files = {name: folder / f"{name}.npy" for name in arrays}
    try:
        for name, path in files.items():
            if cancelled():
                raise CancelledError
            np.save(path, arrays[name], allow_pickle=False)
    except BaseException as error:
        for path in files.values():
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise write_error(folder, error) from error
        raise
    verdict = judge(result.report)
    report = {**result.report, "outputs": places, **chains, "verdict": {"level": verdict.level, "text": verdict.text}}
    return Result(files={name: str(path) for name, path in files.items()}, report=report)


def _chain(transform: SpatialTransform, name: str, arrays: dict[str, NDArray]) -> list[dict[str, Any]]:
    """The steps as JSON, first to last; grids are added to ``arrays`` under ``name``, ``name_2`` and so on."""
    steps: list[dict[str, Any]] = []
    for step in transform.steps:
        if isinstance(step, MatrixStep):
            steps.append({"matrix_ras": step.matrix_ras.tolist()})
        elif isinstance(step, GridStep):
            count = sum("displacement" in other for other in steps)
            own = name if not count else f"{name}_{count + 1}"
            arrays[own] = step.displacement_ras
            steps.append({"displacement": own, "ras_from_ijk": step.ras_from_ijk.tolist()})
    return steps


def _grid(content: Any, role: str, folder: Path) -> SpatialTransform:
    array, matrix = _placed_array(content, role, folder)
    try:
        return SpatialTransform(steps=(GridStep(displacement_ras=array, ras_from_ijk=matrix),))
    except ValueError as error:
        raise _invalid(f"{role} is not a displacement grid: {error}.") from error


def _volume(content: Any, role: str, folder: Path) -> Volume:
    array, matrix = _placed_array(content, role, folder)
    try:
        return Volume(array=array, ras_from_ijk=matrix, name=str(content.get("name") or role))
    except ValueError as error:
        raise _invalid(f"{role} is not a volume: {error}.") from error


def _placed_array(content: Any, role: str, folder: Path) -> tuple[NDArray, NDArray[np.float64]]:
    """The array of a ``.npy`` file, and the numbers that say where it lies."""
    if not isinstance(content, Mapping):
        raise _invalid(f"{role} is an object with array and ras_from_ijk, received {content!r:.80}.")
    path = folder / _text(content, "array")
    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except FileNotFoundError as error:
        raise FileError("file-not-found", f"There is no file {path}.", "Write it before the job is sent.") from error
    except (OSError, ValueError) as error:
        raise _invalid(f"The array {path} of {role} is not a .npy file of numbers ({error}).") from error
    return array, _numbers(content.get("ras_from_ijk"), f"ras_from_ijk of {role}")


def _label_names(spec: Mapping[str, Any]) -> dict[int, str] | None:
    """Names by label value, or None where the request names none."""
    if spec.get("label_names") is None:
        return None
    content = _object(spec, "label_names", {})
    if not all(str(value).isdecimal() and isinstance(name, str) for value, name in content.items()):
        raise _invalid(f"label_names holds a text by each label value, received {content!r:.80}.")
    return {int(value): name for value, name in content.items()}


def _points(content: Any, role: str) -> NDArray[np.float64]:
    points = _numbers(content, role)
    if points.ndim != 2 or points.shape[1] != 3:
        raise _invalid(f"{role} is a list of [right, anterior, superior] in mm, received the shape {points.shape}.")
    return points


def _numbers(content: Any, name: str) -> NDArray[np.float64]:
    try:
        return np.array(content, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise _invalid(f"{name} is made of numbers, received {content!r:.80}.") from error


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    if not isinstance(value, str) or not value:
        raise _invalid(f"{name} is a text, received {value!r:.80}.")
    return value


def _object(content: Mapping[str, Any], name: str, default: Mapping[str, Any]) -> Mapping[str, Any]:
    value = content.get(name, default)
    if not isinstance(value, Mapping):
        raise _invalid(f"{name} is an object, received {value!r:.80}.")
    return value


def _invalid(text: str) -> InputError:
    return InputError("request-invalid", text, "See docs/worker-protocol.md.")
