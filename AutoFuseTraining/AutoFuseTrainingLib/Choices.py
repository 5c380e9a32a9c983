"""From the parameters of the panel to the engine's configurations; and why something cannot start, in a sentence."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from autofuse_engine import catalog
from autofuse_engine.configs import NETWORKS, NetworkConfig
from autofuse_engine.dataset_configs import PreparationConfig
from autofuse_engine.errors import AutoFuseError, InputError
from autofuse_engine.model_card import ModelCard, read_card
from autofuse_engine.training_configs import AugmentationConfig, LossConfig, Stage, TrainingConfig
from autofuse_engine.training_presets import PRESETS, Preset
from AutoFuseLib.PreparedFolder import PreparedFolder, readPrepared
from AutoFuseLib.RunWatcher import lookAt

from .ParameterNode import AUTOMATIC_SPACING, NO_CLIPPING, AutoFuseTrainingParameterNode

SEMI_KINDS = ("autofuse", "autofuse-trans")
NETWORK_NAMES = tuple(name for name, config in NETWORKS.items() if not config.classes)
"""Those of the engine's list that are offered; whether one learns to segment follows from the preset."""

LOSS_WEIGHTS = {
    "klWeight": "kl",
    "klSmoothness": "kl_smoothness",
    "folding": "folding",
    "segmentationWeight": "segmentation",
    "fusionWeight": "fusion",
}
"""Parameters, and the fields of the losses that a schedule brings along; the user may change each afterwards."""

DISPLACEMENT_SMOOTHNESS = 1.0
"""What networks that predict displacements start with: nothing else keeps them smooth."""


def preparationOf(parameters: AutoFuseTrainingParameterNode) -> PreparationConfig:
    """How the dataset shall be prepared, without the table of labels.

    Raises:
        InputError: ``options-invalid``.
    """
    spacing = parameters.preparedSpacingMm
    try:
        return PreparationConfig(
            alignment=parameters.alignment,
            spacing_mm=None if spacing == AUTOMATIC_SPACING else (spacing, spacing, spacing),
            intensity_window=(parameters.windowLow, parameters.windowHigh) if parameters.useWindow else None,
            validation_percent=parameters.validationPercent,
        )
    except ValueError as error:
        raise _invalid(error) from error


def trainingOf(parameters: AutoFuseTrainingParameterNode, prepared: PreparedFolder) -> TrainingConfig:
    """The training that the panel describes.

    Raises:
        InputError: ``options-invalid``.
    """
    preset = PRESETS[parameters.preset]
    try:
        return TrainingConfig(
            dataset=str(prepared.path.resolve()),
            network=replace(networkOf(parameters), classes=len(prepared.labels) + 1 if preset.semi_supervised else 0),
            start_from=parameters.startModel or None,
            losses=_lossesOf(parameters, preset),
            stages=_stagesOf(
                stagesFor(preset, prepared), parameters.steps, parameters.learningRate, preset.learning_rate
            ),
            augmentation=_augmentationOf(parameters),
            batch=parameters.batch,
            seed=parameters.seed,
            device=parameters.device,
            precision=parameters.precision,
            recompute=parameters.recompute,
            channels_last=parameters.channelsLast,
            clip_norm=None if parameters.clipNorm == NO_CLIPPING else parameters.clipNorm,
            validation_every=parameters.validationEvery,
            validation_pairs=parameters.validationPairs,
            checkpoint_minutes=parameters.checkpointMinutes,
        )
    except (ValueError, KeyError) as error:
        raise _invalid(error) from error


def networkOf(parameters: AutoFuseTrainingParameterNode) -> NetworkConfig:
    """The network of the model to start from, or the one that the panel describes; its classes are left to the dataset.

    Raises:
        ModelError: if there is no such model.
        InputError: ``options-invalid``.
    """
    if parameters.startModel:
        return replace(startCard(parameters.startModel).network, classes=0)
    try:
        return replace(NETWORKS[parameters.network], channels=parameters.channels, align_corners=False)
    except (ValueError, KeyError) as error:
        raise _invalid(error) from error


def startCard(model: str) -> ModelCard:
    """The card of a model to start from.

    Raises:
        ModelError: if there is no such model, or it cannot be used.
    """
    return read_card(catalog.find(model).card_path)


def networkName(network: NetworkConfig) -> str:
    """The name in the list of networks that says most of a network."""
    left = ("channels", "classes", "align_corners")
    own = {field: value for field, value in network.to_dict().items() if field not in left}
    like = [name for name in NETWORK_NAMES if own.items() <= NETWORKS[name].to_dict().items()]
    return like[0] if like else network.kind


def presetValues(preset: Preset) -> dict[str, Any]:
    """What choosing a schedule sets, by parameter."""
    weights = {name: getattr(preset.losses, field) for name, field in LOSS_WEIGHTS.items()}
    return {"steps": sum(stage.steps for stage in preset.stages), "learningRate": preset.learning_rate, **weights}


def stagesFor(preset: Preset, prepared: PreparedFolder) -> tuple[Stage, ...]:
    """The stages of a preset; where every case has labels, all pairs are pairs with labels."""
    if prepared.splits.get("train", 0) > prepared.labelled:
        return preset.stages
    return tuple(
        replace(stage, pairs="labelled") if stage.pairs == "labelled+unlabelled" else stage for stage in preset.stages
    )


def whyNotPrepare(parameters: AutoFuseTrainingParameterNode | None) -> str:
    """The first reason why Prepare cannot run; empty if it can."""
    if parameters is None:
        return _("The scene is being closed.")
    if reason := whyNotCheck(parameters):
        return reason
    if not parameters.preparedFolder:
        return _("Choose the folder that the prepared dataset shall be written to.")
    if Path(parameters.preparedFolder) == Path(parameters.datasetFolder):
        return _("The prepared dataset needs a folder of its own: choose another one than that of the images.")
    if parameters.labelsFile and not Path(parameters.labelsFile).is_file():
        return _("The table of labels {path} does not exist.").format(path=parameters.labelsFile)
    if parameters.useWindow and parameters.windowLow >= parameters.windowHigh:
        return _("The lower limit of the intensities must lie below the upper one.")
    return ""


def whyNotCheck(parameters: AutoFuseTrainingParameterNode | None) -> str:
    """The first reason why the dataset cannot be checked; empty if it can."""
    if parameters is None:
        return _("The scene is being closed.")
    if not parameters.datasetFolder:
        return _("Choose the folder of your images.")
    if not Path(parameters.datasetFolder).exists():
        return _("The folder {path} does not exist.").format(path=parameters.datasetFolder)
    return ""


def whyNotTry(parameters: AutoFuseTrainingParameterNode | None) -> str:
    """The first reason why the training that the panel describes is impossible; empty if there is none."""
    if parameters is None:
        return _("The scene is being closed.")
    if not parameters.preparedFolder:
        return _("Choose the folder of a prepared dataset, in the section Dataset.")
    try:
        prepared = readPrepared(parameters.preparedFolder)
        if reason := _whyNotTogether(parameters, prepared):
            return reason
        trainingOf(parameters, prepared)
    except AutoFuseError as error:
        return f"{error.text} {error.hint}"
    return ""


def whyNotStart(parameters: AutoFuseTrainingParameterNode | None) -> str:
    """The first reason why Start cannot be pressed; empty if it can."""
    if reason := whyNotTry(parameters):
        return reason
    if not parameters.runFolder:
        return _("Choose the folder that the run shall be written to; a new one for each training.")
    folder = Path(parameters.runFolder)
    view = lookAt(folder)
    if view.active:
        return _("A training runs in {path}: choose another folder, or stop it below.").format(path=folder)
    if view.status is not None:
        return _("{path} holds a run already: resume it below, or choose another folder.").format(path=folder)
    if folder.exists() and not folder.is_dir():
        return _("{path} is a file: choose a folder.").format(path=folder)
    standing = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if standing is None or not os.access(standing, os.W_OK):
        return _("{path} does not allow writing: choose another folder.").format(path=standing or folder)
    return ""


def _whyNotTogether(parameters: AutoFuseTrainingParameterNode, prepared: PreparedFolder) -> str:
    """What engine and dataset would refuse, in words of the panel."""
    preset, network = PRESETS[parameters.preset], networkOf(parameters)
    if preset.semi_supervised and prepared.labelled < 2:
        return _("The schedule learns from labels, and fewer than two training cases have some: choose another one.")
    if any(stage.pairs == "within-group" for stage in preset.stages) and not prepared.pairedPatients:
        return _(
            "The schedule learns from two images of one patient, and no patient has two: choose another schedule, or "
            "say in cases.csv which images belong together, and prepare again."
        )
    if prepared.splits.get("validation", 0) < 1:
        return _("The prepared dataset has no cases for validation: prepare it again with some.")
    if preset.semi_supervised and network.kind not in SEMI_KINDS:
        return _("The network {name} cannot learn from labels: choose an unsupervised schedule or autofuse.").format(
            name=parameters.network
        )
    if any(stage.learns == "segmentation" for stage in preset.stages) and parameters.segmentationWeight == 0:
        return _("The schedule begins with the segmentation, which needs a weight above 0 (Advanced).")
    if prepared.splits.get("train", 0) < 2:
        return _("Training needs at least two cases: the prepared dataset has {count}.").format(
            count=prepared.splits.get("train", 0)
        )
    if parameters.steps < len(preset.stages):
        return _("The schedule has {count} stages: it needs at least as many steps.").format(count=len(preset.stages))
    if network.field == "displacement" and not network.varying_regularity and parameters.smoothness == 0:
        return _("The network {name} needs a weight of smoothness above 0 (Advanced).").format(name=parameters.network)
    return ""


def _lossesOf(parameters: AutoFuseTrainingParameterNode, preset: Preset) -> LossConfig:
    shown = {field: getattr(parameters, name) for name, field in LOSS_WEIGHTS.items()}
    return replace(preset.losses, similarity=parameters.similarity, smoothness=parameters.smoothness, **shown)


def _augmentationOf(parameters: AutoFuseTrainingParameterNode) -> AugmentationConfig:
    return AugmentationConfig(
        rotation_degrees=parameters.rotationDegrees,
        scaling=parameters.scaling,
        translation_vox=parameters.translationVox,
        gamma=parameters.gamma,
        bias=parameters.bias,
        noise=parameters.noise,
    )


def _stagesOf(
    stages: tuple[Stage, ...], steps: int, learningRate: float, presetLearningRate: float
) -> tuple[Stage, ...]:
    """The stages of a preset, stretched or shrunk to so many steps; each has at least one.

    Those that have the preset's learning rate get the given one; those of others keep their ratio to it.
    """
    whole, given = sum(stage.steps for stage in stages), 0
    made = []
    for number, stage in enumerate(stages):
        left = len(stages) - number - 1
        share = steps - given if not left else min(max(1, round(stage.steps * steps / whole)), steps - given - left)
        ratio = stage.learning_rate / presetLearningRate
        made.append(replace(stage, steps=share, learning_rate=ratio * learningRate))
        given += share
    return tuple(made)


def _invalid(error: Any) -> InputError:
    return InputError(
        "options-invalid", _("A choice is invalid: {error}.").format(error=error), _("Correct it and try again.")
    )
