"""A scene with the logics and nodes that Slicer's start-up gives it, on the libraries of slicer-core."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import slicer
import vtk

SHARE_FOLDER = "share"
MODULE_LOGICS = {
    "Cameras": "vtkSlicerCamerasModuleLogic",
    "Colors": "vtkSlicerColorLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Units": "vtkSlicerUnitsLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "Volumes": "vtkSlicerVolumesLogic",
}
"""C++ modules of Slicer whose logic is part of slicer-core."""


@dataclass
class SceneContext:
    """The scene of one test with everything that observes it."""

    scene: Any
    applicationLogic: Any
    layoutLogic: Any
    fileTransfer: list
    """What reads and writes bundles: kept alive here."""
    moduleLogics: dict[str, Any] = field(default_factory=dict)
    sliceLogics: dict[str, Any] = field(default_factory=dict)

    def update(self) -> None:
        """Give each slice node of the layout its logic."""
        for node in self._nodes("vtkMRMLSliceNode"):
            if node.GetLayoutName() not in self.sliceLogics:
                logic = slicer.vtkMRMLSliceLogic()
                logic.SetMRMLApplicationLogic(self.applicationLogic)
                self.applicationLogic.GetSliceLogics().AddItem(logic)
                logic.SetMRMLScene(self.scene)
                logic.SetSliceNode(node)
                self.sliceLogics[node.GetLayoutName()] = logic

    def viewNode(self, layoutName: str) -> Any:
        """The 3D view node of a layout name, None if the scene has none."""
        return next((node for node in self._nodes("vtkMRMLViewNode") if node.GetLayoutName() == layoutName), None)

    def _nodes(self, kind: str) -> list:
        count = self.scene.GetNumberOfNodesByClass(kind)
        return [self.scene.GetNthNodeByClass(index, kind) for index in range(count)]

    def dispose(self) -> None:
        """Let everything forget the scene, so that a later scene starts clean."""
        warned = vtk.vtkObject.GetGlobalWarningDisplay()
        vtk.vtkObject.GlobalWarningDisplayOff()  # logics complain that their scene is gone
        self.scene.Clear(False)
        self._silence()
        for logic in (*self.sliceLogics.values(), *self.moduleLogics.values()):
            logic.SetMRMLScene(None)
        self.layoutLogic.SetMRMLScene(None)
        self.applicationLogic.GetSliceLogics().RemoveAllItems()
        self.applicationLogic.GetViewLogics().RemoveAllItems()
        self.applicationLogic.SetMRMLScene(None)
        self.sliceLogics.clear()
        self.moduleLogics.clear()
        vtk.vtkObject.SetGlobalWarningDisplay(warned)

    def _silence(self) -> None:
        """Take off all observers that modules left: called while Python collects garbage they end the process."""
        nodes = self.scene.GetNodes()
        for index in range(nodes.GetNumberOfItems()):
            nodes.GetItemAsObject(index).RemoveAllObservers()
        self.scene.RemoveAllObservers()


def newScene(homeFolder: str) -> SceneContext:
    """A scene in Slicer's state after start-up: colours, view nodes of the four-up layout, module logics."""
    scene = slicer.vtkMRMLScene()
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetHomeDirectory(homeFolder)
    logic.SetShareDirectory(SHARE_FOLDER)
    logic.SetMRMLScene(scene)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    for factory in (
        slicer.vtkMRMLThreeDViewDisplayableManagerFactory,
        slicer.vtkMRMLSliceViewDisplayableManagerFactory,
    ):
        factory.GetInstance().SetMRMLApplicationLogic(logic)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    context = SceneContext(scene, logic, slicer.vtkMRMLLayoutLogic(), _fileTransfer(scene, logic, homeFolder))
    for name, className in MODULE_LOGICS.items():
        moduleLogic = getattr(slicer, className)()
        moduleLogic.SetMRMLApplicationLogic(logic)
        moduleLogic.SetMRMLScene(scene)
        logic.SetModuleLogic(name, moduleLogic)
        context.moduleLogics[name] = moduleLogic
    context.layoutLogic.SetMRMLScene(scene)
    layout = context.layoutLogic.GetLayoutNode()
    layout.SetViewArrangement(layout.SlicerLayoutFourUpView)
    context.update()
    return context


def _fileTransfer(scene: Any, logic: Any, homeFolder: str) -> list:
    """Give the scene its cache folder, which reading of .mrb bundles needs."""
    remote, manager = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()
    remote.GetCacheManager().SetRemoteCacheDirectory(f"{homeFolder}/cache")
    logic.SetMRMLSceneDataIO(scene, remote, manager)
    return [remote, manager]
