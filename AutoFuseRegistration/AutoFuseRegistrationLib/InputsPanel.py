"""The sections Inputs, Outputs and Advanced, as far as their widgets are more than a view of one parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer.util
from slicer.i18n import tr as _

from autofuse_engine import catalog, model_fit
from autofuse_engine.configs import AUTOMATIC_MODEL, NO_MODEL

from . import Defaults, GuidingSegments
from .GuidanceText import guidanceText
from .ParameterNode import AutoFuseRegistrationParameterNode, InitialAlignment

AUTOMATIC = "auto"


class InputsPanel:
    """Fills the lists of models, devices and segments, and shows only what the other choices allow."""

    def __init__(self, ui: Any, models: Callable[[], list[catalog.CatalogEntry]]) -> None:
        """
        Args:
            ui: the widgets by name.
            models: gives the models at hand.
        """
        self._ui = ui
        self._models = models
        self._parameters: AutoFuseRegistrationParameterNode | None = None
        self._devices: dict[str, str] = {AUTOMATIC: _("Automatic"), "cpu": _("CPU")}
        self._filling = False
        ui.refinementStepsBox.setRange(-1, 500)
        ui.swapButton.connect("clicked()", self.swap)
        ui.modelBox.connect("currentIndexChanged(int)", self._modelChosen)
        ui.deviceBox.connect("currentIndexChanged(int)", self._deviceChosen)
        for side in ("fixed", "moving"):
            box = getattr(ui, f"{side}MaskSegmentBox")
            box.connect("currentIndexChanged(int)", lambda index, side=side: self._segmentChosen(side))
        self._fillModels()
        self._fillDevices()

    def setParameterNode(self, parameters: AutoFuseRegistrationParameterNode | None) -> None:
        """Show and change this node from now on; None between scenes."""
        self._parameters = parameters
        if parameters is not None:
            self._fillModels()
            self.update()

    def setDevices(self, devices: list[dict[str, Any]]) -> None:
        """Offer these devices, with their free memory, as the worker reported them."""
        self._devices = {AUTOMATIC: _("Automatic")}
        for device in devices:
            name = _("CPU") if device["id"] == "cpu" else f"{device['name']} ({device['id']})"
            free = device.get("free_gib")
            memory = "" if free is None else _(", {free:.1f} GB free").format(free=free * 1.073741824)
            self._devices[device["id"]] = name + memory
        self._fillDevices()
        self.update()

    def setEnabled(self, enabled: bool) -> None:
        """Let the user change inputs and choices, or not while a registration runs."""
        for name in ("inputsCollapsibleButton", "outputsCollapsibleButton", "advancedCollapsibleButton"):
            for child in getattr(self._ui, name).children():
                if child.isWidgetType():
                    child.setEnabled(enabled)

    def swap(self) -> None:
        """Exchange everything that belongs to the fixed with what belongs to the moving volume."""
        parameters = self._parameters
        if parameters is None:
            return
        with slicer.util.NodeModify(parameters):
            for name in ("Volume", "Segmentation", "Mask", "MaskSegmentId"):
                fixed, moving = getattr(parameters, f"fixed{name}"), getattr(parameters, f"moving{name}")
                setattr(parameters, f"fixed{name}", moving)
                setattr(parameters, f"moving{name}", fixed)

    def update(self) -> None:
        """Show the parameters' values where no connector does."""
        parameters = self._parameters
        if parameters is None or self._filling:
            return
        self._filling = True
        try:
            self._showData(self._ui.modelBox, parameters.model, parameters.model)
            self._showData(self._ui.deviceBox, parameters.device, parameters.device)
            for side in ("fixed", "moving"):
                self._fillSegments(side)
        finally:
            self._filling = False
        self._showModel(parameters)
        self._showGuidance(parameters)
        fromTransform = parameters.initialAlignment is InitialAlignment.TRANSFORM
        for widget in (self._ui.initialTransformLabel, self._ui.initialTransformSelector):
            widget.visible = fromTransform
        hasModel = Defaults.expectedModel(parameters, self._entries.values()) != NO_MODEL
        for widget in (self._ui.samplesLabel, self._ui.samplesBox):
            widget.visible = hasModel
        for widget in (self._ui.smoothnessSlider, self._ui.smoothnessLabel):
            widget.enabled = self._smoothnessCounts(parameters)

    def _smoothnessCounts(self, parameters: AutoFuseRegistrationParameterNode) -> bool:
        """Whether the smoothness changes anything: a refinement follows, or the model takes one."""
        entry = self._entries.get(Defaults.expectedModel(parameters, self._entries.values()))
        card = None if entry is None else entry.card
        return (card is not None and card.network.conditional) or Defaults.refines(parameters, card)

    # ------------------------------------------------------------------------------------------------ models

    def _fillModels(self) -> None:
        self._entries = {entry.name: entry for entry in self._models()}
        texts = {AUTOMATIC_MODEL: _("Automatic: by the images"), NO_MODEL: _("None (refinement only)")}
        for name, entry in self._entries.items():
            title = entry.card.title if entry.card and entry.card.title else name
            texts[name] = _("{title} (cannot be used)").format(title=title) if entry.problem else title
        self._fill(self._ui.modelBox, texts)

    def _showModel(self, parameters: AutoFuseRegistrationParameterNode) -> None:
        name = parameters.model
        entry = self._entries.get(name)
        if name == NO_MODEL:
            text = ""
        elif name == AUTOMATIC_MODEL:
            text = self._describeAutomatic(parameters)
        elif entry is None:
            text = _("The model {name} is not on this computer.").format(name=name)
        elif entry.card is None:
            text = entry.problem
        else:
            text = describeModel(entry)
        self._ui.modelInfoLabel.text = text
        self._ui.modelInfoLabel.visible = bool(text)

    def _showGuidance(self, parameters: AutoFuseRegistrationParameterNode) -> None:
        """Offer guidance where a segmentation is chosen; it can be switched on where something can guide."""
        box = self._ui.guideCheckBox
        box.visible = parameters.fixedSegmentation is not None or parameters.movingSegmentation is not None
        if box.visible:
            guides = GuidingSegments.guides(parameters)
            box.enabled = guides.possible
            box.toolTip = guidanceText(guides, parameters)

    def _describeAutomatic(self, parameters: AutoFuseRegistrationParameterNode) -> str:
        choice = Defaults.likelyModel(parameters, self._entries.values())
        if choice is None:
            return _("The model that fits both volumes is chosen when the run begins; none, if none fits.")
        if choice.model == NO_MODEL:
            return _("No model, refinement only: {reason}.").format(reason=choice.reason)
        entry = self._entries[choice.model]
        title = (entry.card.title if entry.card else "") or choice.model
        text = _("Probably {title}; the images decide when the run begins.").format(title=title)
        return f"{text}\n{describeModel(entry)}"

    def _modelChosen(self, index: int) -> None:
        if self._parameters is not None and not self._filling and index >= 0:
            self._parameters.model = self._ui.modelBox.itemData(index)

    # ------------------------------------------------------------------------------------------------ devices, segments

    def _fillDevices(self) -> None:
        self._fill(self._ui.deviceBox, self._devices)

    def _deviceChosen(self, index: int) -> None:
        if self._parameters is not None and not self._filling and index >= 0:
            self._parameters.device = self._ui.deviceBox.itemData(index)

    def _fillSegments(self, side: str) -> None:
        box, mask = getattr(self._ui, f"{side}MaskSegmentBox"), getattr(self._parameters, f"{side}Mask")
        isSegmentation = mask is not None and mask.IsA("vtkMRMLSegmentationNode")
        box.visible = isSegmentation
        texts = {"": _("Choose a segment")}
        if isSegmentation:
            segmentation = mask.GetSegmentation()
            for index in range(segmentation.GetNumberOfSegments()):
                identifier = segmentation.GetNthSegmentID(index)
                texts[identifier] = segmentation.GetSegment(identifier).GetName()
        self._fill(box, texts)
        chosen = getattr(self._parameters, f"{side}MaskSegmentId")
        self._showData(box, chosen if chosen in texts else "", "")

    def _segmentChosen(self, side: str) -> None:
        if self._parameters is not None and not self._filling:
            box = getattr(self._ui, f"{side}MaskSegmentBox")
            setattr(self._parameters, f"{side}MaskSegmentId", box.itemData(box.currentIndex) or "")

    # ------------------------------------------------------------------------------------------------ combo boxes

    @staticmethod
    def _fill(box: Any, texts: dict[str, str]) -> None:
        """Replace the entries; the chosen one stays chosen where it still exists."""
        if [(box.itemData(line), box.itemText(line)) for line in range(box.count)] == list(texts.items()):
            return
        chosen = box.currentData
        wasBlocked = box.blockSignals(True)
        box.clear()
        for data, text in texts.items():
            box.addItem(text, data)
        box.setCurrentIndex(max(0, box.findData(chosen)))
        box.blockSignals(wasBlocked)

    @staticmethod
    def _showData(box: Any, data: str, text: str) -> None:
        """Choose the entry with that data; one that is absent, as in a scene of another computer, is added."""
        line = box.findData(data)
        if line < 0:
            box.addItem(text, data)
            line = box.count - 1
        box.setCurrentIndex(line)


def describeModel(entry: catalog.CatalogEntry) -> str:
    """What a model is for, where it may be used, and its licence, from its card."""
    card = entry.card
    use = card.intended_use
    facts = [use.body_part, use.modality]
    if use.spacing_mm is not None:
        facts.append(_("trained at {spacing:g} mm").format(spacing=use.spacing_mm))
    lines = [", ".join(fact for fact in facts if fact)]
    spacings = model_fit.spacing_range_mm(card)
    if spacings is not None:
        lines.append(_("For voxels of {low:.2g} to {high:.2g} mm.").format(low=spacings[0], high=spacings[1]))
    if card.training_range is not None:
        volumes = card.training_range.foreground_ml
        text = _("For images that show {low:.0f} to {high:.0f} ml.")
        lines.append(text.format(low=volumes[0], high=volumes[-1]))
    if not card.predicts_field:
        lines.append(_("It segments both images; these labels guide the refinement."))
    if card.not_for:
        lines.append(_("Not for: {uses}.").format(uses="; ".join(card.not_for)))
    if card.licence:
        lines.append(_("Licence: {licence}.").format(licence=card.licence))
    return "\n".join(line for line in lines if line)
