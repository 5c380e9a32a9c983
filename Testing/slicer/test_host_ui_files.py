"""Forms from .ui files: stand-ins, dynamic properties, connections, and loud errors where Slicer only warns."""

from __future__ import annotations

from pathlib import Path

import pytest

FORM = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Form</class>
 <widget class="qMRMLWidget" name="Form"><layout class="QVBoxLayout" name="box">
  <item><widget class="{widget}" name="inner">{properties}</widget></item>
  <item><widget class="QCheckBox" name="check"><property name="text"><string>Über</string></property></widget></item>
 </layout></widget>
 <connections>{connections}</connections></ui>
"""
CONNECTION = "<connection><sender>{}</sender><signal>{}</signal><receiver>{}</receiver><slot>{}</slot></connection>"


@pytest.fixture
def load(host, tmp_path):
    import slicer.util

    def make(widget="QLabel", properties="", connections=()):
        text = "".join(CONNECTION.format(*connection) for connection in connections)
        path = tmp_path / "ein formular.ui"
        path.write_text(FORM.format(widget=widget, properties=properties, connections=text), encoding="utf-8")
        return slicer.util.loadUI(str(path))

    return make


def test_widgets_are_found_by_name_with_their_classes_and_texts(host, load):
    import slicer.util

    ui = slicer.util.childWidgetVariables(load("ctkSliderWidget"))
    assert ui.inner.className() == "ctkSliderWidget"
    assert ui.check.text == "Über"


def test_the_scene_reaches_the_selectors_through_the_connection(host, load):
    connection = ("Form", "mrmlSceneChanged(vtkMRMLScene*)", "inner", "setMRMLScene(vtkMRMLScene*)")
    form = load("qMRMLNodeComboBox", connections=[connection])
    assert form.inner.mrmlScene() is None
    form.setMRMLScene(host.scene)
    assert form.inner.mrmlScene() is host.scene


def test_connections_between_plain_widgets_work(host, load):
    form = load("QPushButton", connections=[("check", "toggled(bool)", "inner", "setEnabled(bool)")])
    form.check.setChecked(True)
    form.check.setChecked(False)
    assert form.inner.enabled is False


def test_dynamic_properties_and_properties_of_stand_ins_are_set(host, load):
    form = load(
        "qMRMLNodeComboBox",
        '<property name="nodeTypes"><stringlist><string>vtkMRMLModelNode</string></stringlist></property>'
        '<property name="noneEnabled"><bool>true</bool></property>'
        '<property name="SlicerParameterName" stdset="0"><string>model</string></property>',
    )
    assert form.inner.nodeTypes == ("vtkMRMLModelNode",)
    assert form.inner.noneEnabled is True
    assert form.inner.SlicerParameterName == "model"


def test_enum_values_of_stand_ins_are_understood(host, load):
    filters = "<property name='filters'><set>ctkPathLineEdit::Files|ctkPathLineEdit::Readable</set></property>"
    assert load("ctkPathLineEdit", filters).inner.filters == 0x12
    shape = "<property name='contentsFrameShape'><enum>QFrame::StyledPanel</enum></property>"
    assert load("ctkCollapsibleButton", shape).inner.contentsFrameShape == 6


@pytest.mark.parametrize(
    ("widget", "properties", "connection", "complaint"),
    [
        ("qMRMLVolumeWidget", "", None, "qMRMLVolumeWidget is not emulated"),
        ("QLabel", "", ("Form", "sceneChanged()", "inner", "clear()"), "has no signal sceneChanged"),
        ("QLabel", "", ("check", "toggled(bool)", "inner", "setWord(bool)"), "has no slot setWord"),
        ("QLabel", "", ("check", "toggled(bool)", "outer", "clear()"), "outer, which it does not contain"),
        (
            "ctkPathLineEdit",
            "<property name='filters'><set>ctkPathLineEdit::Folders</set></property>",
            None,
            "Folders of property filters is unknown",
        ),
    ],
)
def test_what_slicer_answers_with_a_warning_is_an_error(host, load, widget, properties, connection, complaint):
    with pytest.raises(RuntimeError, match=complaint):
        load(widget, properties, [connection] if connection else [])


def test_a_missing_or_broken_form_is_an_error(host, tmp_path):
    import slicer.util

    with pytest.raises(RuntimeError, match="file not found"):
        slicer.util.loadUI(str(tmp_path / "none.ui"))
    broken = Path(tmp_path / "broken.ui")
    broken.write_text("<ui><widget></ui>", encoding="utf-8")
    with pytest.raises(RuntimeError, match="Could not load UI file"):
        slicer.util.loadUI(str(broken))
