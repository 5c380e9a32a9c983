"""The section Export: a checkpoint becomes a model with a card, which the registration module offers."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import slicer.util
from slicer.i18n import tr as _

from autofuse_engine import catalog
from autofuse_engine.errors import AutoFuseError
from autofuse_engine.model_card import begun_with, is_model_name
from autofuse_engine.run_folder import RunFolder
from AutoFuseLib.PreparedFolder import readPrepared
from AutoFuseLib.RunWatcher import RunView

from . import Choices, Texts
from .DatasetPanel import Ask
from .Jobs import Job


class ExportPanel:
    """Fills in what the dataset says of itself; the user says the rest."""

    def __init__(
        self, ui: Any, ask: Ask, showError: Callable[[AutoFuseError], None], exported: Callable[[], None]
    ) -> None:
        """
        Args:
            ui: the widgets by name.
            ask: begins a job of the worker.
            showError: shows an error in a window.
            exported: called when there is a new model.
        """
        self._ui, self._ask, self._showError, self._exported = ui, ask, showError, exported
        self._folder: Path | None = None
        self._spacing: float | None = None
        self._job: Job | None = None
        ui.checkpointBox.addItem(_("Best"), "best")
        ui.checkpointBox.addItem(_("Last"), "last")
        ui.checkpointBox.connect("currentIndexChanged(int)", self._changed)
        ui.modelNameEdit.connect("textChanged(QString)", self._changed)
        ui.exportButton.connect("clicked()", self.onExport)
        self._showStatus("")
        self.setRun(None)

    def setRun(self, view: RunView | None) -> None:
        """Offer this run; called after each look at it."""
        folder = view.folder if view is not None else None
        if folder != self._folder:
            self._folder = folder
            self._prefill()
            self._showStatus("")
        self._changed()

    def cleanup(self) -> None:
        """Leave nothing behind."""
        if self._job is not None:
            self._job.abandon()
            self._job = None

    def onExport(self) -> None:
        """Export, or Cancel, was pressed."""
        if self._job is not None:
            self._job.cancel()
            return
        ui, name = self._ui, self._ui.modelNameEdit.text
        overwrite = any(entry.name == name for entry in catalog.list_models())
        if overwrite and not slicer.util.confirmYesNoDisplay(
            _("There is a model {name} already. Replace it?").format(name=name), _("AutoFuse - Export a model")
        ):
            return
        use: dict[str, Any] = {"modality": ui.modalityEdit.text, "body_part": ui.bodyPartEdit.text}
        spec = {
            "run": str(self._folder),
            "name": name,
            "checkpoint": ui.checkpointBox.itemData(ui.checkpointBox.currentIndex),
            "overwrite": overwrite,
            "storage": "float16" if ui.halfBox.checked else "float32",
            "title": ui.titleEdit.text,
            "licence": ui.licenceEdit.text,
            "attribution": ui.attributionEdit.text,
            "intended_use": {**use, "spacing_mm": self._spacing},
            "try_labels": True,
            "not_for": [text.strip() for text in ui.notForEdit.text.split(";") if text.strip()],
        }
        try:
            self._job = self._ask("train_export", spec, self._onJob)
        except AutoFuseError as error:
            self._showStatus(Texts.errorText(error))
            self._showError(error)
            return
        self._showStatus(html.escape(_("Exporting...")))
        self._changed()

    def _onJob(self, job: Job) -> None:
        if job.active:
            if job.cancelling:
                self._showStatus(html.escape(_("Cancelling...")))
            elif job.stage:
                self._showStatus(html.escape(f"{Texts.stageName(job.stage)} {round(100 * job.fraction)} %"))
            self._changed()
            return
        self._job = None
        if job.cancelled:
            self._showStatus(html.escape(_("Cancelled; nothing was written.")))
        elif job.error is not None:
            self._showStatus(Texts.errorText(job.error))
            self._showError(job.error)
        else:
            text = _("The model {name} is ready: choose it in the module AutoFuse Registration.")
            lines = [f"{Texts.dot('good')} {html.escape(text.format(name=job.result.report['name']))}"]
            lines += [f"{Texts.dot('warning')} {html.escape(warning)}" for warning in job.warnings]
            self._showStatus("<br>".join(lines))
            self._exported()
        self._changed()

    def _prefill(self) -> None:
        """What follows from the run; what the user wrote for another run goes."""
        ui, folder = self._ui, self._folder
        ui.exportRunLabel.text = "" if folder is None else html.escape(folder.name)
        ui.exportRunLabel.toolTip = "" if folder is None else str(folder)
        texts = dict.fromkeys(("modelName", "title", "bodyPart", "modality", "licence", "attribution"), "")
        texts["notFor"] = _("Clinical decisions")
        self._spacing = None
        if folder is not None:
            texts["modelName"] = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).strip("-._")
            start, prepared = None, None
            with suppress(AutoFuseError):  # what is gone is filled in by hand, or by the checkpoint itself
                config = RunFolder(folder).read_config()
                start = Choices.startCard(config.start_from) if config.start_from else None
            with suppress(AutoFuseError):
                prepared = readPrepared(RunFolder(folder).read_config().dataset)
            if prepared is not None:
                self._spacing = min(prepared.spacingMm)
                texts["title"] = _("Trained on {name}").format(name=prepared.name)
                texts["licence"], texts["attribution"] = prepared.licence, prepared.reference
            if start is not None:
                for right in ("licence", "attribution"):
                    texts[right] = begun_with(texts[right], start.name, getattr(start, right))
        for name, text in texts.items():
            getattr(ui, f"{name}Edit").text = text

    def _changed(self, value: Any = None) -> None:
        button, job = self._ui.exportButton, self._job
        if job is not None:
            button.text = _("Cancelling...") if job.cancelling else _("Cancel")
            button.enabled, button.toolTip = not job.cancelling, _("Stop the export; nothing is written.")
            return
        reason = self._whyNot()
        button.text, button.enabled = _("Export"), not reason
        button.toolTip = reason or _("Write the model into your folder of models.")

    def _whyNot(self) -> str:
        ui = self._ui
        if self._folder is None:
            return _("Choose a run above.")
        run = RunFolder(self._folder)
        best = ui.checkpointBox.itemData(ui.checkpointBox.currentIndex) == "best"
        if not (run.best if best else run.last).exists():
            return _("This run has written no such checkpoint yet.")
        if not is_model_name(ui.modelNameEdit.text):
            return _("Give the model a name of letters, digits, '.', '_' and '-', at most 64.")
        if any(entry.shipped and entry.name == ui.modelNameEdit.text for entry in catalog.list_models()):
            return _("A model of that name came with AutoFuse: choose another one.")
        return ""

    def _showStatus(self, text: str) -> None:
        self._ui.exportStatusLabel.text = text
        self._ui.exportStatusLabel.visible = bool(text)
