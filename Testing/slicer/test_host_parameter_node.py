"""Parameter nodes: values, their place in the scene, and their binding to widgets.

These tests hold for the stand-in and, with AUTOFUSE_SLICER_SOURCE, for Slicer's own files.
"""

from __future__ import annotations

import enum
import pathlib
from typing import Annotated, Optional

import pytest


class Mode(enum.Enum):
    RIGID = 1
    AFFINE = 2

    def label(self):
        return f"{self.name.title()} alignment"


@pytest.fixture
def parameters(host):
    """A wrapped parameter node with one member of each usual type."""
    import slicer
    from slicer.parameterNodeWrapper import Choice, Default, Minimum, WithinRange, parameterNodeWrapper

    class Parameters:
        weight = 0.5
        name = "warped"
        refine = True
        mode = Mode.AFFINE
        folder = pathlib.Path("out")
        similarity = "ncc"

    Parameters.__annotations__ = {
        "fixed": slicer.vtkMRMLScalarVolumeNode,
        "mask": Optional[slicer.vtkMRMLSegmentationNode],  # noqa: UP045
        "other": slicer.vtkMRMLLabelMapVolumeNode | slicer.vtkMRMLModelNode | None,
        "steps": Annotated[int, WithinRange(0, 200), Default(30)],
        "weight": Annotated[float, Minimum(0)],
        "name": str,
        "refine": bool,
        "mode": Mode,
        "folder": pathlib.Path,
        "similarity": Annotated[str, Choice(["ncc", "mse"])],
        "labels": list[int],
    }
    wrapped = parameterNodeWrapper(Parameters)
    return wrapped(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))


def add(kind: str, name: str = "node"):
    import slicer

    return slicer.mrmlScene.AddNewNodeByClass(kind, name)


def test_every_member_starts_at_its_default(parameters):
    assert (parameters.fixed, parameters.mask, parameters.other) == (None, None, None)
    assert (parameters.steps, parameters.weight, parameters.name, parameters.refine) == (30, 0.5, "warped", True)
    assert (parameters.mode, parameters.folder, parameters.similarity) == (Mode.AFFINE, pathlib.Path("out"), "ncc")
    assert parameters.labels == []


def test_values_stand_in_the_node_under_slicers_names(parameters):
    volume, segmentation, model = (
        add("vtkMRMLScalarVolumeNode"),
        add("vtkMRMLSegmentationNode"),
        add("vtkMRMLModelNode"),
    )
    parameters.fixed, parameters.mask, parameters.other = volume, segmentation, model
    parameters.steps, parameters.refine, parameters.mode = 7, False, Mode.RIGID
    parameters.labels = [4, 5]
    node = parameters.parameterNode
    names = ["steps", "refine", "mode", "weight", "folder", "labels.len", "labels.0", "labels.1", "fixed", "mask.0"]
    values = ["7", "False", "RIGID", "0.5", "out", "2", "4", "5", "", ""]
    assert [node.GetParameter(name) for name in names] == values
    assert node.GetNodeReference("fixed") is volume
    assert node.GetNodeReference("mask.0") is segmentation
    assert node.GetNodeReference("other.1") is model
    parameters.mask = None
    assert node.GetParameter("mask.1") == "True"
    assert not node.HasParameter("mask.0")


def test_values_come_back_after_the_scene_is_saved_and_loaded(host, parameters, tmp_path):
    import slicer.util

    parameters.fixed = add("vtkMRMLScalarVolumeNode", "CT")
    parameters.weight = 0.125
    parameters.labels = [3, 1]
    path = tmp_path / "szene mit lücke.mrml"
    assert slicer.util.saveScene(str(path))
    wrapperClass = type(parameters)
    identifier = parameters.parameterNode.GetID()
    host.scene.Clear(False)
    assert slicer.app.coreIOManager().loadScene(str(path))
    again = wrapperClass(host.scene.GetNodeByID(identifier))
    assert again.fixed.GetName() == "CT"
    assert (again.weight, again.labels, again.mode) == (0.125, [3, 1], Mode.AFFINE)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("steps", 201, ValueError),
        ("steps", 2.5, TypeError),
        ("weight", -0.1, ValueError),
        ("similarity", "mi", ValueError),
        ("name", None, ValueError),
        ("refine", "yes", TypeError),
        ("mode", "RIGID", TypeError),
        ("labels", [1, "two"], TypeError),
    ],
)
def test_a_value_outside_its_type_or_range_is_refused_and_changes_nothing(parameters, name, value, error):
    before = getattr(parameters, name)
    with pytest.raises(error):
        setattr(parameters, name, value)
    assert getattr(parameters, name) == before


def test_a_node_of_another_class_is_refused(parameters):
    with pytest.raises(TypeError):
        parameters.fixed = add("vtkMRMLModelNode")


def test_a_list_writes_its_changes_to_the_node(parameters):
    parameters.labels.append(8)
    parameters.labels[0] = 9
    parameters.labels.append(10)
    del parameters.labels[1]
    assert parameters.labels == [9]
    assert parameters.parameterNode.GetParameter("labels.len") == "1"


def test_an_unknown_parameter_of_a_widget_is_refused(parameters):
    import qt

    panel = qt.QWidget()
    qt.QLineEdit(panel).setProperty("SlicerParameterName", "nmae")
    with pytest.raises(ValueError, match="nmae"):
        parameters.connectGui(panel)


def test_a_widget_that_cannot_show_the_type_is_refused(parameters):
    import ctk
    import qt

    with pytest.raises(RuntimeError, match="Unable to create GUI connector"):
        parameters.connectParametersToGui({"refine": qt.QLineEdit()})
    with pytest.raises(RuntimeError, match="unbounded"):
        parameters.connectParametersToGui({"weight": ctk.ctkSliderWidget()})


class TestGui:
    @pytest.fixture
    def widgets(self, host, parameters):
        import ctk
        import qt
        import slicer

        made = {
            "fixed": slicer.qMRMLNodeComboBox(),
            "mask": slicer.qMRMLNodeComboBox(),
            "other": slicer.qMRMLNodeComboBox(),
            "steps": qt.QSpinBox(),
            "weight": qt.QDoubleSpinBox(),
            "name": qt.QLineEdit(),
            "refine": qt.QCheckBox(),
            "mode": qt.QComboBox(),
            "folder": ctk.ctkPathLineEdit(),
            "similarity": ctk.ctkComboBox(),
        }
        for name in ("fixed", "mask", "other"):
            made[name].noneEnabled = True
            made[name].setMRMLScene(host.scene)
        return made

    def test_widgets_get_range_and_values_when_they_are_connected(self, parameters, widgets):
        parameters.steps = 12
        parameters.connectParametersToGui(widgets)
        assert (widgets["steps"].value, widgets["steps"].minimum, widgets["steps"].maximum) == (12, 0, 200)
        assert (widgets["name"].text, widgets["refine"].checked) == ("warped", True)
        assert widgets["mode"].currentText == "Affine alignment"
        assert widgets["folder"].currentPath == "out"
        assert widgets["similarity"].count == 2
        assert widgets["other"].nodeTypes == ("vtkMRMLLabelMapVolumeNode", "vtkMRMLModelNode")

    def test_input_of_the_user_reaches_the_parameters(self, host, parameters, widgets):
        volume, segmentation = add("vtkMRMLScalarVolumeNode", "CT"), add("vtkMRMLSegmentationNode", "organs")
        parameters.connectParametersToGui(widgets)
        widgets["steps"].setValue(99)
        widgets["weight"].value = 1.25
        widgets["name"].setText("moved")
        widgets["refine"].click()
        widgets["folder"].setCurrentPath("here")
        host.choose(widgets["mode"], "Rigid alignment")
        host.choose(widgets["similarity"], "mse")
        host.choose(widgets["fixed"], "CT")
        host.choose(widgets["mask"], "organs")
        assert (parameters.steps, parameters.weight, parameters.name, parameters.refine) == (99, 1.25, "moved", False)
        assert (parameters.mode, parameters.similarity) == (Mode.RIGID, "mse")
        assert parameters.folder == pathlib.Path("here")
        assert (parameters.fixed, parameters.mask) == (volume, segmentation)

    def test_changes_of_the_parameters_reach_the_widgets_of_each_connection(self, parameters, widgets):
        import qt

        second = qt.QSpinBox()
        parameters.connectParametersToGui(widgets)
        tag = parameters.connectParametersToGui({"steps": second})
        parameters.steps = 5
        parameters.parameterNode.SetParameter("name", "from outside")
        parameters.fixed = volume = add("vtkMRMLScalarVolumeNode", "CT")
        assert (widgets["steps"].value, second.value) == (5, 5)
        assert widgets["name"].text == "from outside"
        assert widgets["fixed"].currentNode() is volume
        parameters.disconnectGui(tag)
        parameters.steps = 6
        second.setValue(77)
        assert (widgets["steps"].value, parameters.steps) == (6, 6)

    def test_a_removed_node_leaves_the_parameter_and_the_widget_empty(self, host, parameters, widgets):
        parameters.connectParametersToGui(widgets)
        parameters.fixed = volume = add("vtkMRMLScalarVolumeNode", "CT")
        host.scene.RemoveNode(volume)
        assert parameters.fixed is None
        assert widgets["fixed"].currentNode() is None
