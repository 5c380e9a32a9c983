"""Complete the card of a model: measure its training images, take the table of an evaluation, add what people know."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofuse_engine import catalog
from autofuse_engine.catalog import CatalogEntry
from autofuse_engine.data.atomic import replacing
from autofuse_engine.data.dataset import open_dataset
from autofuse_engine.data.image_measures import measure_image
from autofuse_engine.data.manifest import Manifest
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.errors import FileError, InputError, ModelError
from autofuse_engine.evaluation_rows import PairRow, read_rows
from autofuse_engine.events import Progress, Report, silent
from autofuse_engine.image_facts import ImageFacts, TrainingRange, spread_of
from autofuse_engine.model_card import SCHEMA, ModelCard, Preprocessing, card_text, read_card
from autofuse_engine.model_validation import MethodFigures, ModelValidation

_SHARE_DECIMALS = 6


def range_of_manifest(manifest: Manifest) -> TrainingRange | None:
    """How the images of the training cases look, as they were measured when the dataset was prepared; None if not."""
    measured = [case.source.get("facts") for case in manifest.cases if case.split == "train"]
    if not measured or not all(measured):
        return None
    facts = [ImageFacts.from_dict(content) for content in measured if content]
    return TrainingRange.of_images(facts, _counts(case.split for case in manifest.cases))


def range_of_dataset(
    path: str | Path,
    preprocessing: Preprocessing,
    *,
    splits: Mapping[str, str] | None = None,
    report: Report = silent,
) -> TrainingRange:
    """Measure the images of the training cases of a dataset.

    Args:
        path: as ``autofuse dataset prepare`` takes it.
        preprocessing: of the model.
        splits: split by case name, as the preparation chose it; None means as the dataset says. Cases that are not
            named were not prepared, and do not count.
        report: receives progress.

    Raises:
        InputError: ``pairs-too-few`` if there is no training case.
        AutoFuseError: if the dataset, or an image, cannot be read.
    """
    cases = open_dataset(path).cases
    found = {case.name: case.split if splits is None else splits.get(case.name) for case in cases}
    training = [case for case in cases if found[case.name] == "train"]
    if not training:
        raise InputError(
            "pairs-too-few",
            f"The dataset {path} has no training case of this model.",
            "Name the dataset that the model was trained on.",
        )
    facts: list[ImageFacts] = []
    for number, case in enumerate(training):
        report(Progress(stage="check", fraction=number / len(training), text=case.name))
        facts.append(measure_image(case.read_image(), preprocessing))
    return TrainingRange.of_images(facts, _counts(split for split in found.values() if split))


def label_shares(prepared: str | Path) -> dict[str, tuple[float, ...]]:
    """How much of the labelled volume each class takes in the training cases: its spread, by class number as text.

    Args:
        prepared: a prepared dataset; classes are numbered from 1 in the order of its label values.

    Raises:
        FileError: what opening it, or reading its labelmaps, raises.
    """
    dataset = PreparedDataset.open(prepared)
    values = sorted(label.value for label in dataset.labels)
    shares: list[NDArray[np.float64]] = []
    for number, case in enumerate(dataset.cases):
        labels = dataset.labelmap(number) if case.split == "train" else None
        if labels is not None:
            counts = np.bincount(np.ravel(labels), minlength=max(values, default=0) + 1)[values].astype(np.float64)
            shares.append(counts / max(counts.sum(), 1.0))
    if not shares or not values:
        return {}
    return {
        str(place + 1): spread_of([float(share[place]) for share in shares], _SHARE_DECIMALS)
        for place in range(len(values))
    }


def validation_of_evaluation(
    folder: str | Path, data: str, *, device: str = "", label_names: Mapping[str, str] | None = None
) -> ModelValidation:
    """The table of an evaluation's folder, methods in the order in which they ran.

    Where no method is ``affine``, its Dice stands first if the rows tell it: that of the shared initial alignment.

    Args:
        folder: of ``autofuse evaluate --out``.
        data: which images and pairs, for the reader.
        device: on what the seconds were measured.
        label_names: by label value as text; others keep their value.

    Raises:
        FileError: ``evaluation-invalid`` if it has no row that succeeded, or what reading the rows raises.
    """
    rows = [row for row in read_rows(folder) if row.error is None]
    if not rows:
        raise FileError(
            "evaluation-invalid",
            f"The folder {folder} holds no figures of an evaluation.",
            "Name the folder that 'autofuse evaluate --out' wrote.",
        )
    methods = list(dict.fromkeys(row.method for row in rows))
    figures = [_figures(method, [row for row in rows if row.method == method], label_names or {}) for method in methods]
    before = {(row.fixed, row.moving): row.dice_before for row in rows if row.method != "none"}
    if "affine" not in methods and any(dice is not None for dice in before.values()):
        mean, spread = _mean_and_sd(before.values())
        figures.insert(0, MethodFigures(method="affine", pairs=len(before), dice=mean, dice_sd=spread))
    return ModelValidation(data=data, device=device, rows=tuple(figures))


def label_names_of(card: ModelCard) -> dict[str, str]:
    """Names of the labels in the original files of the data that a model was trained on, by value as text."""
    data = card.training.get("dataset")
    labels = data.get("labels") if isinstance(data, Mapping) else None
    names: dict[str, str] = {}
    for label in labels or ():
        for value in label.get("sources") or (label["value"],):
            names[str(value)] = str(label["name"])
    for entry in card.training.get("classes") or ():
        names |= {str(value): str(entry["name"]) for value in entry.get("labels") or ()}
    return names


def describe_model(name_or_path: str | Path, changes: Callable[[ModelCard], Mapping[str, Any]]) -> CatalogEntry:
    """Write a model's card again with other values; the weights stay as they are.

    Args:
        name_or_path: of a model whose files can be written.
        changes: gets the card, gives new values by field name; empty ones leave the old value.

    Raises:
        ModelError: what :func:`catalog.verify` raises; ``model-card-invalid`` if a value breaks its rule.
        FileError: ``output-not-writable``.
    """
    entry = catalog.verify(name_or_path)
    card = read_card(entry.card_path)
    given = {name: value for name, value in changes(card).items() if value not in ("", None, ())}
    try:
        card = replace(card, schema=SCHEMA, **given)
    except (TypeError, ValueError) as error:
        raise ModelError(
            "model-card-invalid", f"The card of {entry.name} would not be valid: {error}.", "Correct the value."
        ) from error
    with replacing(entry.card_path) as temporary:
        temporary.write_text(card_text(card), encoding="utf-8")
    return catalog.find(entry.weights_path)


def _figures(method: str, rows: Sequence[PairRow], names: Mapping[str, str]) -> MethodFigures:
    dice, spread = _mean_and_sd(row.dice for row in rows)
    labels = list(dict.fromkeys(label for row in rows for label in row.dice_per_label))
    per_label: dict[str, float] = {}
    for label in labels:
        mean, _ = _mean_and_sd(row.dice_per_label.get(label) for row in rows)
        if mean is not None:
            per_label[names.get(label, label)] = mean
    return MethodFigures(
        method=method,
        pairs=len(rows),
        dice=dice,
        dice_sd=spread,
        dice_per_label=per_label,
        hd95_mm=_mean_and_sd(row.hd95_mm for row in rows)[0],
        folding_percent=_mean_and_sd((row.folding_percent for row in rows), digits=6)[0],
        seconds=_mean_and_sd((row.seconds for row in rows), digits=2)[0],
    )


def _mean_and_sd(values: Iterable[float | None], digits: int = 4) -> tuple[float | None, float | None]:
    """Mean and standard deviation (of a sample) of what is known; None where too little is."""
    known = [value for value in values if value is not None]
    if not known:
        return None, None
    mean = math.fsum(known) / len(known)
    if len(known) == 1:
        return round(mean, digits), None
    variance = math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1)
    return round(mean, digits), round(math.sqrt(variance), digits)


def _counts(splits: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for split in splits:
        counts[split] = counts.get(split, 0) + 1
    return counts
