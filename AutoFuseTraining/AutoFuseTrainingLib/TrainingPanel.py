"""The section Training: schedule, network, what a step will cost, Start."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import slicer.util
from slicer.i18n import tr as _

from autofuse_engine import catalog
from autofuse_engine.configs import NETWORKS, SIMILARITIES
from autofuse_engine.errors import AutoFuseError
from autofuse_engine.training_configs import TrainingConfig
from autofuse_engine.training_presets import PRESETS
from AutoFuseLib.PreparedFolder import readPrepared

from . import Choices, Texts
from .Boxes import TextBoxes
from .DatasetPanel import Ask
from .Jobs import Job
from .ParameterNode import NO_MODEL

_GIB_TO_GB = 1.073741824


class TrainingPanel:
    """Everything between a prepared dataset and a running process."""

    def __init__(
        self,
        ui: Any,
        boxes: TextBoxes,
        ask: Ask,
        start: Callable[[TrainingConfig, Path], None],
        showError: Callable[[AutoFuseError], None],
    ) -> None:
        """
        Args:
            ui: the widgets by name.
            boxes: connects combo boxes and paths to parameters.
            ask: begins a job of the worker.
            start: starts a training in a folder; raises what keeps it from that.
            showError: shows an error in a window.
        """
        self._ui, self._boxes, self._ask, self._start, self._showError = ui, boxes, ask, start, showError
        self._parameters: Any = None
        self._trial: Job | None = None
        boxes.addCombo(ui.presetBox, "preset", {name: _presetName(name) for name in PRESETS}, self._presetChosen)
        boxes.addCombo(ui.startBox, "startModel", {NO_MODEL: _("Nothing: a new network")}, self._startChosen)
        boxes.addCombo(ui.networkBox, "network", {name: name for name in Choices.NETWORK_NAMES}, self._networkChosen)
        boxes.addCombo(ui.precisionBox, "precision", {name: name for name in ("float32", "bfloat16")})
        boxes.addCombo(ui.deviceBox, "device", {"auto": _("Automatic"), "cpu": _("CPU")})
        boxes.addCombo(ui.similarityBox, "similarity", {name: _similarityName(name) for name in SIMILARITIES})
        boxes.addPath(ui.runFolderEdit, "runFolder")
        ui.estimateButton.connect("clicked()", self.onEstimate)
        ui.startButton.connect("clicked()", self.onStart)
        ui.deviceButton.connect("clicked()", self.onFindDevices)
        self._showStatus("")
        self.update()

    def setParameterNode(self, parameters: Any) -> None:
        """Show and change this node from now on; None between scenes."""
        self._parameters = parameters
        self.findModels()
        self.update()

    def findModels(self) -> None:
        """Offer the models that there are now."""
        if self._parameters is not None:
            self._boxes.fill("startModel", _startNames())

    def update(self) -> None:
        """Buttons say why they cannot be pressed; the schedule is explained."""
        ui, parameters, trial = self._ui, self._parameters, self._trial
        whyNotTry, whyNotStart = Choices.whyNotTry(parameters), Choices.whyNotStart(parameters)
        if trial is not None:
            ui.estimateButton.text = _("Cancelling...") if trial.cancelling else _("Cancel")
            ui.estimateButton.enabled, ui.estimateButton.toolTip = not trial.cancelling, _("Stop the trial.")
        else:
            ui.estimateButton.text = _("Estimate")
            ui.estimateButton.enabled = not whyNotTry
            ui.estimateButton.toolTip = whyNotTry or _("Take a few steps, and tell time and memory. Writes nothing.")
        ui.startButton.enabled = not whyNotStart and trial is None
        ui.startButton.toolTip = (
            _("Wait for the end of the trial, or cancel it.")
            if trial is not None
            else whyNotStart or _("Train in a process of its own, which goes on when Slicer is closed.")
        )
        ui.presetLabel.text = "" if parameters is None else self._scheduleText(parameters)
        semi = parameters is not None and PRESETS[parameters.preset].semi_supervised
        for widget in (ui.segmentationWeightBox, ui.fusionWeightBox):
            widget.enabled = semi
        for widget in (ui.networkBox, ui.channelsBox):
            widget.enabled = parameters is not None and not parameters.startModel

    def cleanup(self) -> None:
        """Leave nothing behind."""
        if self._trial is not None:
            self._trial.abandon()
            self._trial = None

    # ------------------------------------------------------------------------------------------------ choices

    def _presetChosen(self) -> None:
        with slicer.util.NodeModify(self._parameters):
            for name, value in Choices.presetValues(PRESETS[self._parameters.preset]).items():
                setattr(self._parameters, name, value)

    def _startChosen(self) -> None:
        if not self._parameters.startModel:
            return
        try:
            network = Choices.networkOf(self._parameters)
        except AutoFuseError:
            return  # Start says so in its tooltip
        self._parameters.network = Choices.networkName(network)
        self._networkChosen()
        self._parameters.channels = network.channels

    def _networkChosen(self) -> None:
        config = NETWORKS[self._parameters.network]
        predictsDisplacement = config.field == "displacement" and not config.varying_regularity
        with slicer.util.NodeModify(self._parameters):
            self._parameters.channels = config.channels
            self._parameters.smoothness = Choices.DISPLACEMENT_SMOOTHNESS if predictsDisplacement else 0.0

    def _scheduleText(self, parameters: Any) -> str:
        lines = [_presetText(parameters.preset)]
        try:
            prepared = readPrepared(parameters.preparedFolder)
        except AutoFuseError:
            prepared = None  # Start says so in its tooltip
        if prepared is not None:
            preset = PRESETS[parameters.preset]
            if Choices.stagesFor(preset, prepared) != preset.stages:
                lines.append(_("Every case has labels: all pairs are pairs with labels."))
            lines.append(Texts.preparedText(prepared))
        if parameters.startModel:
            with suppress(AutoFuseError):  # likewise
                lines.append(Texts.startText(Choices.startCard(parameters.startModel), prepared))
        return "<br>".join(f"<i>{html.escape(line)}</i>" for line in lines if line)

    # ------------------------------------------------------------------------------------------------ buttons

    def onFindDevices(self) -> None:
        """Ask the worker for devices."""

        def told(job: Job) -> None:
            if job.active:
                return
            self._ui.deviceButton.enabled = True
            if job.error is not None:
                self._showStatus(Texts.errorText(job.error))
            else:
                self._boxes.fill("device", _deviceNames(job.result.report["devices"]))

        self._ui.deviceButton.enabled = False
        try:
            self._ask("devices", {}, told)
        except AutoFuseError as error:
            self._ui.deviceButton.enabled = True
            self._fail(error)

    def onEstimate(self) -> None:
        """Estimate, or Cancel, was pressed."""
        if self._trial is not None:
            self._trial.cancel()
            return
        try:
            config = self._config()
            self._trial = self._ask("train_trial", {"config": config.to_dict(), "steps": 2}, self._onTrial)
        except AutoFuseError as error:
            self._fail(error)
            return
        self._kinds = {stage.learns for stage in config.stages}
        self._onTrial(self._trial)

    def onStart(self) -> None:
        """Start was pressed."""
        try:
            self._start(self._config(), Path(self._parameters.runFolder))
        except AutoFuseError as error:
            self._fail(error)
            return
        self._ui.runFolderEdit.addCurrentPathToHistory()
        self._showStatus(html.escape(_("Started; watch it below. Slicer may be closed: the training goes on.")))
        self.update()

    def _config(self) -> TrainingConfig:
        return Choices.trainingOf(self._parameters, readPrepared(self._parameters.preparedFolder))

    def _onTrial(self, job: Job) -> None:
        if job.active:
            stage = _("Cancelling...") if job.cancelling else Texts.stageName(job.stage)
            self._showStatus(html.escape(f"{stage} {job.text}".strip()))
        else:
            self._trial = None
            if job.cancelled:
                self._showStatus(_("Cancelled."))
            elif job.error is not None:
                self._showStatus(Texts.errorText(job.error))
            else:
                self._showStatus(Texts.trialText(job.result.report, mixed=len(self._kinds) > 1))
        self.update()

    def _fail(self, error: AutoFuseError) -> None:
        self._showStatus(Texts.errorText(error))
        self._showError(error)

    def _showStatus(self, text: str) -> None:
        self._ui.trainingStatusLabel.text = text
        self._ui.trainingStatusLabel.visible = bool(text)


def _startNames() -> dict[str, str]:
    names = {NO_MODEL: _("Nothing: a new network")}
    for entry in catalog.list_models():
        if entry.card is not None:
            names.setdefault(entry.name, entry.card.title or entry.name)
    return names


def _deviceNames(devices: list[Mapping[str, Any]]) -> dict[str, str]:
    names = {"auto": _("Automatic")}
    for device in devices:
        name = _("CPU") if device["id"] == "cpu" else f"{device['name']} ({device['id']})"
        free = device.get("free_gib")
        names[device["id"]] = name + ("" if free is None else _(", {free:.1f} GB free").format(free=free * _GIB_TO_GB))
    return names


def _presetName(name: str) -> str:
    return {
        "brain-unsupervised": _("Brains or other organs, without labels"),
        "brain-semi": _("Brains or other organs, some with labels"),
        "cardiac-unsupervised": _("Hearts in two phases, without labels"),
        "cardiac-semi": _("Hearts in two phases, some with labels"),
        "short-semi": _("Any images with labels, small budget"),
    }.get(name, name)


def _presetText(name: str) -> str:
    return {
        "brain-unsupervised": _("Images of different patients; no labels needed."),
        "brain-semi": _("Images of different patients: first those with labels alone, then all."),
        "cardiac-unsupervised": _("Any two frames, then the two phases of one heart."),
        "cardiac-semi": _("Any two frames, some with labels, then the two phases of one heart."),
        "short-semi": _(
            "Images of different patients: first the network learns to segment them, in quick steps, then to register "
            "and to segment. Cases without labels are left aside."
        ),
    }.get(name, PRESETS[name].description if name in PRESETS else "")


def _similarityName(name: str) -> str:
    return {
        "lncc": _("Local correlation: same modality"),
        "mse": _("Mean squares: same intensities"),
        "mind": _("MIND: different modalities"),
    }.get(name, name)
