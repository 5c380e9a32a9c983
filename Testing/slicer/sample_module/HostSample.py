"""A small scripted module in the form of Slicer's module template, which proves the test host.

It thresholds a volume into a segmentation-like labelmap and counts voxels in a child process.
"""

import enum
import json
import pathlib
import sys
from typing import Annotated

import numpy as np
import qt
import slicer
import slicer.util
import vtk
from slicer import vtkMRMLLabelMapVolumeNode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, Default, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

COUNT = "import json,sys; d=json.loads(sys.stdin.readline()); print(json.dumps({'sum': sum(d)})); sys.exit(d[0])"


class HostSample(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Host Sample")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Examples")]
        self.parent.contributors = ["AutoFuse developers"]
        self.parent.helpText = _("Proves the test host.") + self.parent.defaultDocumentationLink
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """Offer two files in Slicer's gallery of sample data."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="HostSample",
        sampleName="HostSamplePair",
        uris=["https://example.invalid/fixed.nrrd", "https://example.invalid/moving.nrrd"],
        fileNames=["fixed.nrrd", "moving.nrrd"],
        nodeNames=["fixed", "moving"],
        checksums=["SHA256:" + "0" * 64, "SHA256:" + "1" * 64],
        thumbnailFileName=str(pathlib.Path(__file__).parent / "Resources" / "Icons" / "HostSample.png"),
    )


class Side(enum.Enum):
    ABOVE = "above"
    BELOW = "below"


@parameterNodeWrapper
class HostSampleParameterNode:
    inputVolume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode | None
    outputVolume: vtkMRMLLabelMapVolumeNode
    threshold: Annotated[float, WithinRange(-50.0, 150.0)] = 20.0
    iterations: Annotated[int, WithinRange(1, 9), Default(3)]
    invert: bool = False
    side: Side
    interpolation: Annotated[str, Choice(["nearest", "linear", "cubic"])] = "linear"
    comment: str
    folder: pathlib.Path


class HostSampleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self.calls = []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/HostSample.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = HostSampleLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.ui.countButton.clicked.connect(self.onCount)
        slicer.app.connect("aboutToQuit()", self.onAboutToQuit)
        self.initializeParameterNode()

    def cleanup(self):
        self.calls.append("cleanup")
        slicer.app.disconnect("aboutToQuit()", self.onAboutToQuit)
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        self.calls.append("enter")
        self.initializeParameterNode()

    def exit(self):
        self.calls.append("exit")
        self.setParameterNode(None)

    def onAboutToQuit(self):
        self.calls.append("aboutToQuit")

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            first = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            if first:
                self._parameterNode.inputVolume = first

    def setParameterNode(self, node):
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanApply)
        self._parameterNode = node
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanApply)
            self._checkCanApply()

    def _checkCanApply(self, caller=None, event=None):
        ready = self._parameterNode and self._parameterNode.inputVolume
        self.ui.applyButton.enabled = ready
        self.ui.applyButton.toolTip = _("Threshold the volume.") if ready else _("Select an input volume.")

    def onApplyButton(self):
        with slicer.util.tryWithErrorDisplay(_("Failed to compute results."), waitCursor=True):
            node = self._parameterNode
            if not node.outputVolume:
                node.outputVolume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Result")
            self.logic.process(node.inputVolume, node.outputVolume, node.threshold, node.side is Side.BELOW)
            slicer.util.setSliceViewerLayers(background=node.inputVolume, label=node.outputVolume, fit=True)

    def onCount(self):
        if slicer.util.confirmOkCancelDisplay(_("Count the voxels in a child process?")):
            self.logic.count([3, 4, 5], self.onCounted)

    def onCounted(self, result, exitCode):
        self.ui.resultLabel.text = _("{sum} ({code})").format(sum=result["sum"], code=exitCode)


class HostSampleLogic(ScriptedLoadableModuleLogic):
    def getParameterNode(self):
        return HostSampleParameterNode(super().getParameterNode())

    def process(self, inputVolume, outputVolume, threshold, below=False):
        """Label the voxels above (or below) the threshold with 1."""
        if not inputVolume or not outputVolume:
            raise ValueError("Input or output volume is invalid")
        image = slicer.util.arrayFromVolume(inputVolume)
        label = (image < threshold) if below else (image > threshold)
        slicer.util.updateVolumeFromArray(outputVolume, label.astype(np.uint8))
        outputVolume.CopyOrientation(inputVolume)
        outputVolume.CreateDefaultDisplayNodes()

    def count(self, values, finished):
        """Sum values in a child process and hand result and exit code on."""
        process = qt.QProcess()

        def done(exitCode, exitStatus):
            finished(json.loads(process.readAllStandardOutput().data()), exitCode)

        process.finished.connect(done)
        process.start(sys.executable, ["-c", COUNT])
        process.waitForStarted()
        process.write(json.dumps(values) + "\n")
        process.closeWriteChannel()
        self.child = process


class HostSampleTest(ScriptedLoadableModuleTest):
    def setUp(self):
        slicer.mrmlScene.Clear()

    def test_thresholdMarksTheBrightVoxels(self):
        array = np.zeros((4, 5, 6), np.int16)
        array[1, 2, 3] = 99
        inputVolume = slicer.util.addVolumeFromArray(array)
        outputVolume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
        HostSampleLogic().process(inputVolume, outputVolume, 50)
        label = slicer.util.arrayFromVolume(outputVolume)
        assert label.sum() == 1
        assert label[1, 2, 3] == 1
        self.delayDisplay("Test passed")
