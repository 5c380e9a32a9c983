"""The widget of the registration module: its life with scene and application, and what its parts have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
import slicer.util
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from autofuse_engine.errors import AutoFuseError
from AutoFuseLib import Dependencies

from . import Defaults, Inputs, Repetition
from .InputsPanel import InputsPanel
from .Logic import AutoFuseRegistrationLogic
from .ParameterNode import AutoFuseRegistrationParameterNode
from .ResultsPanel import ResultsPanel
from .Run import Run, State
from .RunPanel import RunPanel
from .SmoothnessPanel import SmoothnessPanel


class AutoFuseRegistrationWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Inputs, Outputs, Advanced, Register, Results."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: AutoFuseRegistrationLogic | None = None
        self._parameters: AutoFuseRegistrationParameterNode | None = None
        self._guiTag: int | None = None
        self._knowsDevices = False
        self._observedVolumes: tuple[Any, ...] = ()

    # ------------------------------------------------------------------------------------------------ life

    def setup(self) -> None:
        """Build the panel; called once, when the module is first opened."""
        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath("UI/AutoFuseRegistration.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = AutoFuseRegistrationLogic()
        self.inputs = InputsPanel(self.ui, self.logic.models)
        self.runPanel = RunPanel(self.ui, self.onRegister, self.onCancel, self.onFinishEarly)
        self.smoothness = SmoothnessPanel(self.ui, self.onSmoothness, self.onCancel)
        self.results = ResultsPanel(self.ui, self.resourcePath, self.onResultShown)
        self.ui.deviceButton.connect("clicked()", self.onFindDevices)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodeAdded)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)
        slicer.app.connect("aboutToQuit()", self.onAboutToQuit)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Leave nothing behind; called when the module is reloaded and when Slicer exits."""
        slicer.app.disconnect("aboutToQuit()", self.onAboutToQuit)
        self.logic.stop()
        self.results.cleanup()
        self.smoothness.cleanup()
        self.runPanel.cleanup()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        """The user opened the module."""
        self.initializeParameterNode()
        self._showWhetherToRepeat()

    def exit(self) -> None:
        """The user went to another module; a run goes on, and the views are given back."""
        self.results.hideChecks()
        self.onResultShown()
        self.setParameterNode(None)

    def onReload(self) -> None:
        """Reload the module with the packages behind it (developer mode)."""
        import sys

        for name in list(sys.modules):
            if name.split(".")[0] in ("AutoFuseRegistrationLib", "AutoFuseLib"):
                del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onAboutToQuit(self) -> None:
        """Slicer exits."""
        self.logic.stop()

    # ------------------------------------------------------------------------------------------------ scene

    def onSceneStartClose(self, caller: Any, event: Any) -> None:
        """The scene goes: so does a run, without a word."""
        self.logic.forget()
        self.smoothness.hide()
        self.results.forget()
        self.setParameterNode(None)
        self.runPanel.showIdle()
        self.inputs.setEnabled(True)

    def onSceneEndClose(self, caller: Any, event: Any) -> None:
        """A new scene begins."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller: Any, event: Any) -> None:
        """A scene was loaded: its results are offered."""
        if self.parent.isEntered:
            self.initializeParameterNode()
            self.results.showNewest(self.logic.results())

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(self, caller: Any, event: Any, node: Any) -> None:
        """A volume was loaded while the panel is open: it may fill an empty choice."""
        if self._parameters is None or slicer.mrmlScene.IsBatchProcessing():
            return
        isRunning = self.logic.run is not None and self.logic.run.active
        if not isRunning and node.IsA("vtkMRMLScalarVolumeNode"):
            import qt

            qt.QTimer.singleShot(0, self._chooseInputs)

    def onNodeRemoved(self, caller: Any, event: Any) -> None:
        """A node was deleted: it may be one that the shown result came from."""
        if not slicer.mrmlScene.IsClosing():
            self._showWhetherToRepeat()

    def _chooseInputs(self) -> None:
        if self._parameters is not None:
            Defaults.chooseInputs(self._parameters)

    def initializeParameterNode(self) -> None:
        """Show the choices of the current scene, with defaults from what is loaded."""
        self.setParameterNode(self.logic.getParameterNode())
        self._chooseInputs()

    def setParameterNode(self, parameters: AutoFuseRegistrationParameterNode | None) -> None:
        """Connect the panel to the choices of a scene, or to none."""
        if self._parameters is not None:
            self._parameters.disconnectGui(self._guiTag)
            self.removeObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self._onChoice)
        self._parameters = parameters
        self.inputs.setParameterNode(parameters)
        if parameters is not None:
            self._guiTag = parameters.connectGui(self.ui)
            self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self._onChoice)
            self._onChoice()
        else:
            self._observeVolumes()

    def _observeVolumes(self) -> None:
        """Hear when a chosen volume is put under a transform, or that transform changes."""
        parameters = self._parameters
        chosen = () if parameters is None else (parameters.fixedVolume, parameters.movingVolume)
        volumes = tuple(volume for volume in chosen if volume is not None)
        if volumes == self._observedVolumes:
            return
        for change, nodes in ((self.removeObserver, self._observedVolumes), (self.addObserver, volumes)):
            for node in dict.fromkeys(nodes):
                change(node, slicer.vtkMRMLTransformableNode.TransformModifiedEvent, self._onChoice)
        self._observedVolumes = volumes

    def _onChoice(self, caller: Any = None, event: Any = None) -> None:
        self._observeVolumes()
        self.inputs.update()
        self.runPanel.setReason(Inputs.reasonNotReady(self._parameters))

    # ------------------------------------------------------------------------------------------------ the buttons

    def onRegister(self) -> None:
        """Register was pressed."""
        try:
            if self.logic.missingPackages():
                Dependencies.ensure()
            self.results.hideChecks()
            self.runPanel.show(self.logic.start(self._parameters, self.onRun), self._logPath)
        except AutoFuseError as error:
            self.runPanel.showError(error, None)
            return
        self.inputs.setEnabled(False)
        self._showWhetherToRepeat()

    def onResultShown(self) -> None:
        """Another result is shown, or none, or the shown one was computed anew: so says the slider of smoothness."""
        result = self.results.result
        if self.smoothness.isRunning:
            return
        if result is None or not Repetition.hasEffect(result.report):
            self.smoothness.hide()
        else:
            self.smoothness.show(Repetition.smoothnessOf(result.report), self._reasonNotToRepeat(result))

    def _showWhetherToRepeat(self) -> None:
        if self.results.result is not None and not self.smoothness.isRunning:
            self.smoothness.setReason(self._reasonNotToRepeat(self.results.result))

    def _reasonNotToRepeat(self, result: Any) -> str:
        if self.logic.run is not None and self.logic.run.active:
            return _("A registration runs: wait for its end.")
        return self.logic.reasonNotToRepeat(result)

    def onSmoothness(self, smoothness: float) -> None:
        """The slider of smoothness was let go: the shown result is computed anew, or it is said why not."""
        try:
            run = self.logic.repeat(self.results.result, smoothness, self.onRepeated)
        except AutoFuseError as error:
            self.onResultShown()
            self.runPanel.showIdle(error.text)
            return
        if self._parameters is not None:
            self._parameters.smoothness = smoothness
        self.inputs.setEnabled(False)
        self.runPanel.show(run, self._logPath)
        self.smoothness.showRun(run)

    def onRepeated(self, run: Run) -> None:
        """The run that computes a result anew changed."""
        self.runPanel.show(run, self._logPath)
        if not run.active:
            self.inputs.setEnabled(True)
            self._onChoice()
            if run.state is State.DONE:
                self.results.refresh(run.result)
        self.smoothness.showRun(run)
        if not run.active and not self.smoothness.isRunning:
            self.onResultShown()

    def onCancel(self) -> None:
        """Cancel was pressed."""
        if self.logic.run is not None:
            self.logic.run.cancel()

    def onFinishEarly(self) -> None:
        """The user wants the result so far."""
        if self.logic.run is not None:
            self.logic.run.finishEarly()

    def onFindDevices(self) -> None:
        """Ask the worker for devices."""
        try:
            if self.logic.missingPackages():
                Dependencies.ensure()
        except AutoFuseError as error:
            self.runPanel.showError(error, None)
            return
        self.ui.deviceButton.enabled = False
        self.logic.askDevices(self.onDevices)

    def onDevices(self, devices: list[dict[str, Any]]) -> None:
        """The worker told which devices there are."""
        self._knowsDevices = True
        self.ui.deviceButton.enabled = True
        self.inputs.setDevices(devices)

    def onRun(self, run: Run) -> None:
        """The run changed."""
        self.runPanel.show(run, self._logPath)
        self._showWhetherToRepeat()
        if run.active:
            return
        self.inputs.setEnabled(True)
        self._onChoice()
        if run.state is State.DONE:
            self.results.showResult(run.result)
        if run.state is State.DONE and not self._knowsDevices:
            self.logic.askDevices(self.onDevices)

    @property
    def _logPath(self) -> Path | None:
        return self.logic.worker.logPath
