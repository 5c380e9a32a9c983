"""Stand-in of Slicer's IO manager: loads and saves nodes through the real storage nodes and module logics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore

from Testing.host.qt_namespace import declare
from Testing.host.signals import cppSignal

FILE_TYPES = {
    "SceneFile": (".mrml", ".mrb"),
    "SegmentationFile": (".seg.nrrd", ".seg.vtm"),
    "TransformFile": (".h5", ".tfm", ".txt", ".mat"),
    "MarkupsFile": (".mrk.json", ".fcsv"),
    "ModelFile": (".vtk", ".vtp", ".stl", ".ply", ".obj"),
    "TableFile": (".csv", ".tsv"),
    "VolumeFile": (".nrrd", ".nhdr", ".nii.gz", ".nii", ".mha", ".mhd", ".hdr", ".tif", ".png", ".dcm"),
}
TYPE_OF_CLASS = {
    "vtkMRMLSegmentationNode": "SegmentationFile",
    "vtkMRMLTransformNode": "TransformFile",
    "vtkMRMLMarkupsNode": "MarkupsFile",
    "vtkMRMLModelNode": "ModelFile",
    "vtkMRMLTableNode": "TableFile",
    "vtkMRMLVolumeNode": "VolumeFile",
}


@declare(slicer)
class qSlicerIOManager(QtCore.QObject):
    """Reads and writes volumes, segmentations, transforms, markups, models, tables and scenes."""

    newFileLoaded = cppSignal("qSlicerIO::IOProperties")
    fileSaved = cppSignal("qSlicerIO::IOProperties")

    def fileType(self, fileName: str) -> str:
        lower = str(fileName).lower()
        return next((kind for kind, endings in FILE_TYPES.items() if lower.endswith(endings)), "NoFile")

    def fileWriterFileType(self, node: Any) -> str:
        return next((kind for name, kind in TYPE_OF_CLASS.items() if node.IsA(name)), "NoFile")

    def extractKnownExtension(self, fileName: str, _node: Any) -> str:
        lower = str(fileName).lower()
        known = [ending for endings in FILE_TYPES.values() for ending in endings if lower.endswith(ending)]
        return max(known, key=len, default=Path(fileName).suffix)

    def fileWriterExtensions(self, node: Any) -> tuple:
        endings = FILE_TYPES.get(self.fileWriterFileType(node), ())
        return tuple(f"{node.GetNodeTagName()} (*{ending})" for ending in endings)

    def loadNodes(self, kind: str, parameters: dict, loaded: Any = None, messages: Any = None) -> bool:
        fileName = str(parameters["fileName"])
        readers: dict[str, Callable[[str, dict, Any], Any]] = {
            "SceneFile": _readScene,
            "SegmentationFile": _readSegmentation,
            "TransformFile": lambda name, _, notes: _logic("Transforms").AddTransform(name, slicer.mrmlScene, notes),
            "MarkupsFile": _readMarkups,
            "ModelFile": _readModel,
            "TableFile": lambda name, *_: _logic("Tables").AddTable(name),
            "VolumeFile": _readVolume,
        }
        if kind not in readers or not Path(fileName).is_file():
            return False
        node = readers[kind](fileName, parameters, messages)
        if node is None:
            return False
        if loaded is not None and node is not slicer.mrmlScene:
            loaded.AddItem(node)
        self.newFileLoaded.emit({**parameters, "fileType": kind})
        return True

    def loadScene(self, fileName: str, clear: bool = True, messages: Any = None) -> bool:
        return self.loadNodes("SceneFile", {"fileName": fileName, "clear": clear}, None, messages)

    def saveNodes(self, kind: str, parameters: dict, messages: Any = None, scene: Any = None) -> bool:
        scene = scene if scene is not None else slicer.mrmlScene
        fileName = str(parameters["fileName"])
        saved = _writeScene(scene, fileName) if kind == "SceneFile" else _writeNode(scene, fileName, parameters)
        if saved:
            self.fileSaved.emit({**parameters, "fileType": kind})
        return saved

    def exportNodes(self, nodeIDs: Any, fileNames: Any, parameters: dict, harden: bool, messages: Any = None) -> bool:
        done = []
        for identifier, fileName in zip(nodeIDs, fileNames, strict=True):
            node = slicer.mrmlScene.GetNodeByID(identifier)
            copy = slicer.mrmlScene.CreateNodeByClass(node.GetClassName())
            copy.UnRegister(None)
            copy.CopyContent(node)
            slicer.mrmlScene.AddNode(copy)
            if harden and node.GetParentTransformNode() is not None:
                copy.SetAndObserveTransformNodeID(node.GetTransformNodeID())
                copy.HardenTransform()
            done.append(_writeNode(slicer.mrmlScene, str(fileName), {**parameters, "nodeID": copy.GetID()}))
            slicer.mrmlScene.RemoveNode(copy)
        return all(done)


def _logic(name: str) -> Any:
    return slicer.app.moduleLogic(name)


def _readVolume(fileName: str, parameters: dict, _messages: Any) -> Any:
    names = ("labelmap", "center", "singleFile", "autoWindowLevel", "discardOrientation")
    options = sum(1 << bit for bit, name in enumerate(names) if parameters.get(name, name == "autoWindowLevel"))
    name = parameters.get("name") or _stem(fileName)
    node = _logic("Volumes").AddArchetypeVolume(fileName, name, options)
    if node is not None and parameters.get("show", True):
        selection = slicer.app.applicationLogic().GetSelectionNode()
        labelmap = node.IsA("vtkMRMLLabelMapVolumeNode")
        (selection.SetActiveLabelVolumeID if labelmap else selection.SetActiveVolumeID)(node.GetID())
        slicer.app.applicationLogic().PropagateVolumeSelection()
    return node


def _readSegmentation(fileName: str, parameters: dict, _messages: Any) -> Any:
    name = parameters.get("name") or _stem(fileName)
    return _logic("Segmentations").LoadSegmentationFromFile(fileName, True, name)


def _readMarkups(fileName: str, parameters: dict, _messages: Any) -> Any:
    identifier = _logic("Markups").LoadMarkups(fileName, parameters.get("name") or _stem(fileName))
    return slicer.mrmlScene.GetNodeByID(identifier) if identifier else None


def _readModel(fileName: str, _parameters: dict, _messages: Any) -> Any:
    return _logic("Models").AddModel(fileName, slicer.vtkMRMLStorageNode.CoordinateSystemLPS)


def _readScene(fileName: str, parameters: dict, _messages: Any) -> Any:
    scene, clear = slicer.mrmlScene, bool(parameters.get("clear", False))
    if fileName.lower().endswith(".mrb"):
        return scene if scene.ReadFromMRB(fileName, clear) else None
    scene.SetURL(fileName)
    return scene if (scene.Connect() if clear else scene.Import()) else None


def _writeScene(scene: Any, fileName: str) -> bool:
    if fileName.lower().endswith(".mrb"):
        return bool(scene.WriteToMRB(fileName))
    if fileName.lower().endswith(".mrml"):
        scene.SetURL(fileName)
        return bool(scene.Commit(fileName))
    Path(fileName).mkdir(parents=True, exist_ok=True)
    return bool(scene.SaveSceneToSlicerDataBundleDirectory(fileName))


def _writeNode(scene: Any, fileName: str, parameters: dict) -> bool:
    node = scene.GetNodeByID(parameters["nodeID"])
    if node is None or not node.IsA("vtkMRMLStorableNode"):
        return False
    if node.GetStorageNode() is None:
        node.AddDefaultStorageNode(fileName)
    storage = node.GetStorageNode()
    storage.SetFileName(fileName)
    storage.SetUseCompression(bool(parameters.get("useCompression", True)))
    return bool(storage.WriteData(node))


def _stem(fileName: str) -> str:
    name = Path(fileName).name
    endings = [ending for every in FILE_TYPES.values() for ending in every if name.lower().endswith(ending)]
    return name[: len(name) - max((len(ending) for ending in endings), default=0)] or name
