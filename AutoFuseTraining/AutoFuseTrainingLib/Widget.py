"""The widget of the training module: its life with scene and application, and what its parts have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import slicer
import slicer.util
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from autofuse_engine.errors import AutoFuseError
from autofuse_engine.training_configs import TrainingConfig
from AutoFuseLib import Dependencies
from AutoFuseLib.RunWatcher import RunView

from .Boxes import TextBoxes
from .CurvePanel import CurvePanel
from .DatasetPanel import DatasetPanel
from .ExportPanel import ExportPanel
from .Jobs import Job
from .Logic import AutoFuseTrainingLogic
from .ParameterNode import AutoFuseTrainingParameterNode
from .RunsPanel import RunsPanel
from .TrainingPanel import TrainingPanel


class AutoFuseTrainingWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Dataset, Training, Runs, Export."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: AutoFuseTrainingLogic | None = None
        self._parameters: AutoFuseTrainingParameterNode | None = None
        self._guiTag: int | None = None

    # ------------------------------------------------------------------------------------------------ life

    def setup(self) -> None:
        """Build the panel; called once, when the module is first opened."""
        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath("UI/AutoFuseTraining.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = AutoFuseTrainingLogic()
        self.boxes = TextBoxes()
        self.dataset = DatasetPanel(self.ui, self.boxes, self._ask, self._showError, self._onChoice)
        self.training = TrainingPanel(self.ui, self.boxes, self._ask, self._start, self._showError)
        self.export = ExportPanel(self.ui, self._ask, self._showError, self.training.findModels)
        self.curves = CurvePanel(self.ui, self._ask)
        self.runs = RunsPanel(self.ui, self.logic, self.curves, self._onRun, self._showError)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndClose)
        slicer.app.connect("aboutToQuit()", self.onAboutToQuit)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Leave nothing behind but the trainings; called when the module is reloaded and when Slicer exits."""
        slicer.app.disconnect("aboutToQuit()", self.onAboutToQuit)
        for part in (self.dataset, self.training, self.export, self.curves, self.runs):
            part.cleanup()
        self.logic.stop()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        """The user opened the module."""
        self.initializeParameterNode()
        self.runs.enter()

    def exit(self) -> None:
        """The user went to another module; work goes on, and the layout is given back."""
        self.runs.exit()
        self.curves.exit()
        self.setParameterNode(None)

    def onReload(self) -> None:
        """Reload the module with the packages behind it (developer mode)."""
        import sys

        for name in list(sys.modules):
            if name.split(".")[0] in ("AutoFuseTrainingLib", "AutoFuseLib"):
                del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onAboutToQuit(self) -> None:
        """Slicer exits; trainings go on."""
        self.logic.stop(now=True)

    # ------------------------------------------------------------------------------------------------ scene

    def onSceneStartClose(self, caller: Any, event: Any) -> None:
        """The scene goes; work on files goes on."""
        self.dataset.forget()
        self.curves.forget()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller: Any, event: Any) -> None:
        """A new scene begins, or one was loaded."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Show the choices of the current scene."""
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameters: AutoFuseTrainingParameterNode | None) -> None:
        """Connect the panel to the choices of a scene, or to none."""
        if self._parameters is not None:
            self._parameters.disconnectGui(self._guiTag)
            self.removeObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self._onChoice)
        self._parameters = parameters
        for part in (self.boxes, self.dataset, self.training):
            part.setParameterNode(parameters)
        if parameters is not None:
            self._guiTag = parameters.connectGui(self.ui)
            self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self._onChoice)

    def _onChoice(self, caller: Any = None, event: Any = None) -> None:
        self.boxes.show()
        self.dataset.update()
        self.training.update()

    # ------------------------------------------------------------------------------------------------ for the parts

    def _ask(self, name: str, spec: Mapping[str, Any], listener: Callable[[Job], None]) -> Job:
        self._requirePackages()
        return self.logic.ask(name, spec, listener)

    def _start(self, config: TrainingConfig, folder: Path) -> None:
        self._requirePackages()
        self.logic.start(config, folder)
        self.runs.choose(folder.absolute())

    def _requirePackages(self) -> None:
        """The same question as in the registration module, at the first use."""
        if self.logic.missingPackages():
            Dependencies.ensure()

    def _onRun(self, view: RunView | None) -> None:
        self.export.setRun(view)
        self.training.update()

    @property
    def _logPath(self) -> Path | None:
        return self.logic.worker.logPath

    def _showError(self, error: AutoFuseError) -> None:
        details = _("Code: {code}").format(code=error.code)
        if self._logPath is not None:
            details += "\n" + _("Log file: {path}").format(path=self._logPath)
        slicer.util.errorDisplay(f"{error.text}\n\n{error.hint}".strip(), detailedText=details)
