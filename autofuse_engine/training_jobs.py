"""What a worker can do for training: check, look at and prepare a dataset, try a training, preview it, export it.

A training itself is no job: it runs in a process of its own that nobody has to wait for (docs/training.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.data.atomic import write_error
from autofuse_engine.data.dataset import open_dataset
from autofuse_engine.data.label_groups import read_label_rules
from autofuse_engine.dataset_check import check_dataset, worthwhile_jobs
from autofuse_engine.dataset_configs import PreparationConfig
from autofuse_engine.dataset_preparation import prepare_dataset
from autofuse_engine.errors import FileError, InputError
from autofuse_engine.events import Report, Result
from autofuse_engine.model_card import IntendedUse
from autofuse_engine.training_configs import TrainingConfig
from autofuse_engine.training_export import export_model
from autofuse_engine.training_preview import preview_pair
from autofuse_engine.training_trial import try_training

Asked = Callable[[], bool]


def training_jobs() -> dict[str, Callable[[Mapping[str, Any], Report, Asked, Asked], Result]]:
    """The kinds of jobs by name; docs/worker-protocol.md is the reference of their specs and reports."""
    return {
        "dataset_check": _check,
        "dataset_case": _case,
        "dataset_prepare": _prepare,
        "train_trial": _trial,
        "train_pair": _pair,
        "train_export": _export,
    }


def _check(spec: Mapping[str, Any], report: Report, cancelled: Asked, _: Asked) -> Result:
    _known(spec, "dataset_check", {"folder"})
    return Result(report=check_dataset(_text(spec, "folder"), report, cancelled=cancelled).to_dict())


def _case(spec: Mapping[str, Any], report: Report, cancelled: Asked, _: Asked) -> Result:
    """One case, as arrays: its image and, where it has labels, its labelmap."""
    _known(spec, "dataset_case", {"folder", "case", "output"})
    dataset = open_dataset(_text(spec, "folder"))
    name = _text(spec, "case")
    found = [case for case in dataset.cases if case.name == name]
    if not found:
        raise InputError("case-unknown", f"The dataset has no case {name!r}.", "Check the dataset again.")
    image, labels = found[0].read_image(), found[0].read_labelmap()
    arrays = {"image": image.array} | ({} if labels is None else {"labels": labels.array})
    places = {"image": image.ras_from_ijk} | ({} if labels is None else {"labels": labels.ras_from_ijk})
    return Result(
        files=_saved(arrays, _folder(spec, "output")),
        report={
            "case": name,
            "ras_from_ijk": {name: place.tolist() for name, place in places.items()},
            "label_names": {str(value): text for value, text in dataset.label_names.items()},
        },
    )


def _prepare(spec: Mapping[str, Any], report: Report, cancelled: Asked, _: Asked) -> Result:
    _known(spec, "dataset_prepare", {"folder", "output", "config", "labels"})
    content = dict(_object(spec, "config"))
    try:
        config = PreparationConfig.from_dict(content)
        if spec.get("labels"):
            rules = [rule.to_dict() for rule in read_label_rules(Path(_text(spec, "labels")))]
            config = PreparationConfig.from_dict({**content, "label_rules": rules})
    except (ValueError, TypeError) as error:
        raise InputError("options-invalid", f"An option is invalid: {error}.", "Correct it and run again.") from error
    folder = _text(spec, "folder")
    jobs = worthwhile_jobs(open_dataset(folder))
    dataset = prepare_dataset(folder, _text(spec, "output"), config, report=report, jobs=jobs, cancelled=cancelled)
    return Result(
        files={"manifest": str(dataset.folder / "manifest.json")},
        report={"folder": str(dataset.folder), "cases": len(dataset.cases), "shape": list(dataset.shape)},
    )


def _trial(spec: Mapping[str, Any], report: Report, cancelled: Asked, _: Asked) -> Result:
    _known(spec, "train_trial", {"config", "steps"})
    try:
        config = TrainingConfig.from_dict(_object(spec, "config"))
    except (ValueError, TypeError) as error:
        text = f"The training configuration is invalid: {error}."
        raise InputError("training-config-invalid", text, "Correct it; docs/training.md lists the fields.") from error
    steps = spec.get("steps", 2)
    if type(steps) is not int or not 1 <= steps <= 100:
        raise _invalid(f"steps is a whole number of 1..100, received {steps!r:.80}.")
    return Result(report=try_training(config, steps=steps, report=report, cancelled=cancelled).to_dict())


def _pair(spec: Mapping[str, Any], report: Report, cancelled: Asked, _: Asked) -> Result:
    """A validation pair under a checkpoint, as arrays."""
    _known(spec, "train_pair", {"run", "number", "checkpoint", "output"})
    number, checkpoint = spec.get("number", 0), spec.get("checkpoint", "last")
    if type(number) is not int or number < 0 or checkpoint not in ("best", "last"):
        raise _invalid(f"number counts pairs and checkpoint is best or last, received {number!r} and {checkpoint!r}.")
    shown = preview_pair(_text(spec, "run"), number, checkpoint)
    arrays = {"fixed": shown.fixed, "moving": shown.moving, "warped": shown.warped}
    return Result(
        files=_saved(arrays, _folder(spec, "output")),
        report={
            "ras_from_ijk": shown.ras_from_ijk.tolist(),
            "names": list(shown.names),
            "step": shown.step,
            "pairs": shown.pairs,
        },
    )


def _export(spec: Mapping[str, Any], report: Report, cancelled: Asked, _: Asked) -> Result:
    optional = {"checkpoint", "overwrite", "storage", "not_for", "intended_use", "title", "licence", "attribution"}
    _known(spec, "train_export", {"run", "name", "try_labels", *optional})
    checkpoint, storage = spec.get("checkpoint", "best"), spec.get("storage", "float32")
    if checkpoint not in ("best", "last") or storage not in ("float32", "float16"):
        raise _invalid(f"checkpoint is best or last, storage float32 or float16, received {checkpoint!r}, {storage!r}.")
    not_for = spec.get("not_for")
    if not_for is not None and (not isinstance(not_for, list) or not all(isinstance(text, str) for text in not_for)):
        raise _invalid(f"not_for is a list of texts, received {not_for!r:.80}.")
    use = spec.get("intended_use")
    try:
        intended_use = None if use is None else IntendedUse.from_dict(_object(spec, "intended_use"))
    except ValueError as error:
        raise _invalid(f"intended_use is invalid: {error}.") from error
    path = export_model(
        _text(spec, "run"),
        _text(spec, "name"),
        checkpoint=checkpoint,
        overwrite=spec.get("overwrite", False) is True,
        storage=storage,
        intended_use=intended_use,
        not_for=None if not_for is None else tuple(not_for),
        title=_optional(spec, "title"),
        licence=_optional(spec, "licence"),
        attribution=_optional(spec, "attribution"),
        tries_labels=spec.get("try_labels", False) is True,
        report=report,
        cancelled=cancelled,
    )
    return Result(files={"weights": str(path), "card": str(path.with_suffix(".json"))}, report={"name": path.stem})


def _saved(arrays: Mapping[str, NDArray], folder: Path) -> dict[str, str]:
    files = {name: folder / f"{name}.npy" for name in arrays}
    try:
        for name, path in files.items():
            np.save(path, arrays[name], allow_pickle=False)
    except OSError as error:
        raise write_error(folder, error) from error
    return {name: str(path) for name, path in files.items()}


def _folder(spec: Mapping[str, Any], name: str) -> Path:
    folder = Path(_text(spec, name))
    if not folder.is_dir():
        raise FileError("file-not-found", f"The job folder {folder} does not exist.", "Make it first.")
    return folder


def _known(spec: Mapping[str, Any], job: str, names: set[str]) -> None:
    if unknown := sorted(set(spec) - names):
        raise _invalid(f"The spec of {job} does not know {', '.join(unknown)}.")


def _text(spec: Mapping[str, Any], name: str) -> str:
    value = spec.get(name)
    if not isinstance(value, str) or not value:
        raise _invalid(f"{name} is a text, received {value!r:.80}.")
    return value


def _optional(spec: Mapping[str, Any], name: str) -> str:
    return _text(spec, name) if spec.get(name) else ""


def _object(spec: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = spec.get(name, {})
    if not isinstance(value, Mapping):
        raise _invalid(f"{name} is an object, received {value!r:.80}.")
    return value


def _invalid(text: str) -> InputError:
    return InputError("request-invalid", text, "See docs/worker-protocol.md.")
