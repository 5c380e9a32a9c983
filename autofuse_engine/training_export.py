"""Make a model of a checkpoint: weights and a card that says how it was trained, ready for ``register``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from autofuse_engine import catalog
from autofuse_engine.checkpoint import save_checkpoint
from autofuse_engine.configs import NetworkConfig, RefinementConfig
from autofuse_engine.data.manifest import MANIFEST, Manifest, read_manifest
from autofuse_engine.errors import FileError
from autofuse_engine.events import Report, silent
from autofuse_engine.image_facts import TrainingRange
from autofuse_engine.label_trial import try_labels
from autofuse_engine.model_card import IntendedUse, ModelCard, Preprocessing, Storage, begun_with, sha256_of
from autofuse_engine.model_description import label_shares, range_of_dataset, range_of_manifest
from autofuse_engine.networks.build import build_network
from autofuse_engine.run_folder import RunFolder
from autofuse_engine.training_configs import TrainingConfig
from autofuse_engine.training_state import read_state, restore

_CITATION = (
    "Meng M, Fulham M, Feng D, Bi L, Kim J. AutoFuse: Automatic fusion networks for deformable medical image "
    "registration. Pattern Recognition, 2024. arXiv:2309.05271."
)


def export_model(
    run_folder: str | Path,
    name: str,
    *,
    checkpoint: Literal["best", "last"] = "best",
    folder: str | Path | None = None,
    overwrite: bool = False,
    title: str = "",
    licence: str = "",
    attribution: str = "",
    intended_use: IntendedUse | None = None,
    not_for: tuple[str, ...] | None = None,
    storage: Storage = "float32",
    images: str | Path | None = None,
    changes: Callable[[ModelCard], Mapping[str, Any]] = lambda card: {},
    tries_labels: bool = False,
    report: Report = silent,
    cancelled: Callable[[], bool] = lambda: False,
) -> Path:
    """Write the model that a run has come to; the run may be going on.

    Args:
        run_folder: of the run.
        name: of the new model.
        checkpoint: ``best`` by validation, or ``last``.
        folder: where the model goes; None means the user's models.
        overwrite: whether a model of that name may be replaced.
        title: one line for people.
        licence: of the weights; empty means what the dataset says of itself.
        attribution: who is to be named for the data; empty means what the dataset says of itself.
        intended_use: modality and body part.
        not_for: uses that the model is not made for; None means clinical decisions.
        storage: number format of the weights.
        images: the dataset as it was before its preparation: its training images are measured for the card's
            ``training_range``. None takes the measures that the preparation left, if it is still there.
        changes: gets the card, gives further values by field name; empty ones leave the old value.
        tries_labels: try on validation pairs how much the labels that the model sees shall count in its refinement,
            unless ``changes`` says it. It takes up to some minutes (:mod:`.label_trial`). Otherwise, and where it
            cannot be tried, they count where the best validation segments better than it registers.
        report: receives the progress of that.
        cancelled: asked meanwhile; True ends with :class:`CancelledError`, and nothing is written.

    Returns:
        The path of the new weights file.

    Raises:
        FileError: ``run-not-found``, ``run-checkpoint-missing``, ``run-checkpoint-invalid``, ``output-not-writable``.
        ModelError: ``model-name``, ``model-exists``, ``model-not-finite``.
    """
    run = RunFolder(run_folder)
    run.read_config()
    path = run.best if checkpoint == "best" else run.last
    weights_path, _ = catalog.files_for(name, folder, overwrite=overwrite)
    tensors, facts = read_state(path)
    try:
        card = _card(name, checkpoint, facts)
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(
            "run-checkpoint-invalid",
            f"The checkpoint {path} does not say what a model needs to know ({error}).",
            "Export it with the version of AutoFuse that wrote it.",
        ) from error
    given = {"title": title, "licence": licence, "attribution": attribution}
    given |= {"intended_use": intended_use, "not_for": not_for}
    given |= {"training_range": _training_range(facts, card.preprocessing, images)}
    card = replace(card, **{field: value for field, value in given.items() if value not in ("", None)})
    changed = {field: value for field, value in changes(card).items() if value not in ("", None, ())}
    card = replace(card, **changed)
    network = build_network(card.network)
    restore(path, tensors, network)
    if tries_labels and card.network.classes and card.refinement_steps != 0 and "label_weight" not in changed:
        with tempfile.TemporaryDirectory(prefix="autofuse-export-", ignore_cleanup_errors=True) as place:
            tried = save_checkpoint(network, card, place, storage)
            trial = try_labels(tried, facts["config"]["dataset"], report=report, cancelled=cancelled)
        if trial is not None:
            training = {**card.training, "label_trial": trial.to_dict()}
            card = replace(card, label_weight=trial.weight, training=training)
    return save_checkpoint(network, card, weights_path.parent, storage)


def _card(name: str, checkpoint: str, facts: dict[str, Any]) -> ModelCard:
    """The card as far as the checkpoint knows it."""
    config, dataset, place = facts["config"], facts["dataset"], facts["place"]
    preprocessing = Preprocessing.from_dict(dataset["preprocessing"])
    spacing = min(preprocessing.spacing_mm)
    return ModelCard(
        name=name,
        title=f"Trained on {dataset.get('name') or 'a dataset without a name'}",
        network=NetworkConfig.from_dict(config["network"]),
        preprocessing=preprocessing,
        training={
            "checkpoint": checkpoint,
            "step": place["step"],
            "validation": place["best"] if checkpoint == "best" else {"best": place["best"]},
            "dataset": {key: value for key, value in dataset.items() if key not in ("preprocessing", "labels")},
            "classes": [{"value": 0, "name": "background"}, *_classes(config, dataset)],
            "started_from": facts.get("start"),
            "config": {key: value for key, value in config.items() if key not in ("network", "dataset", "device")},
            "engine": facts["engine"],
            "torch": facts["torch"],
        },
        licence=_joined(dataset.get("licence"), facts.get("start"), "licence"),
        attribution=_joined(dataset.get("reference"), facts.get("start"), "attribution"),
        citation=_CITATION,
        intended_use=IntendedUse(spacing_mm=spacing),
        not_for=("Clinical decisions",),
        label_weight=_label_weight(place["best"]),
        predicts_field=_predicts_field(TrainingConfig.from_dict(config), place["step"], facts.get("start")),
    )


def _joined(own: object, start: Mapping[str, Any] | None, name: str) -> str:
    """What the dataset says of its rights, and what the model says with whose weights the training began."""
    begun = start or {}
    return begun_with(str(own or ""), str(begun.get("name")), str(begun.get(name) or ""))


def _predicts_field(config: TrainingConfig, step: int, start: Mapping[str, Any] | None) -> bool:
    """False where nothing but the segmentation was ever trained, here and in the model that it began with."""
    reached, _ = config.stage_at(min(max(step, 1), config.steps) - 1)
    learned = {stage.learns for stage in config.stages[: reached + 1]}
    return learned != {"segmentation"} or bool((start or {}).get("predicts_field"))


def _label_weight(judged: Mapping[str, Any] | None) -> float | None:
    """Labels count in the refinement where they are better than what the network's own field achieves.

    Args:
        judged: the best validation of the run, or None.
    """
    segmented, carried = ((judged or {}).get(name) for name in ("segmentation_dice", "dice"))
    if segmented is None or carried is None:
        return None
    return RefinementConfig().labels if segmented > carried else 0.0


def _training_range(
    facts: dict[str, Any], preprocessing: Preprocessing, images: str | Path | None
) -> TrainingRange | None:
    """Measured now, or as the preparation measured it where the prepared dataset is still that of the training."""
    folder = Path(facts["config"]["dataset"])
    manifest: Manifest | None = None
    if (folder / MANIFEST).is_file() and sha256_of(folder / MANIFEST) == facts["dataset"].get("manifest_sha256"):
        manifest = read_manifest(folder)
    found = None if manifest is None else range_of_manifest(manifest)
    if images is not None:
        splits = None if manifest is None else {case.name: case.split for case in manifest.cases}
        found = range_of_dataset(images, preprocessing, splits=splits)
    if found is None or manifest is None or not facts["config"]["network"].get("classes"):
        return found
    return replace(found, label_shares=label_shares(folder))


def _classes(config: dict[str, Any], dataset: dict[str, Any]) -> list[dict[str, Any]]:
    """What the values of the model's segmentations mean; none for a model that does not segment.

    ``labels`` are the values in the original files of the dataset, as far as the checkpoint knows them.
    """
    if not config["network"].get("classes"):
        return []
    labels = sorted(dataset["labels"], key=lambda label: label["value"])
    return [
        {"value": number, "name": label["name"]} | ({"labels": label["sources"]} if label.get("sources") else {})
        for number, label in enumerate(labels, start=1)
    ]
