"""The stand-ins of CTK's and Slicer's widgets act as the real ones were observed to."""

from __future__ import annotations

from pathlib import Path

import pytest


def test_a_collapsible_section_is_a_button_that_hides_its_contents(host):
    import ctk
    import qt

    section = ctk.ctkCollapsibleButton("Advanced")
    label = qt.QLabel("inside", section)
    qt.QVBoxLayout(section).addWidget(label)
    heard = []
    section.contentsCollapsed.connect(heard.append)
    section.show()
    assert section.inherits("QAbstractButton")
    assert (section.text, section.checkable, section.checked, section.collapsed) == ("Advanced", True, True, False)
    height = section.sizeHint.height()
    section.collapsed = True
    assert (section.checked, label.visible, heard) == (False, False, [True])
    assert section.maximumHeight < height
    section.click()
    assert (section.collapsed, label.visible, heard) == (False, True, [True, False])


def test_what_code_hides_in_a_collapsed_section_stays_hidden_when_it_opens(host):
    import ctk
    import qt

    section = ctk.ctkCollapsibleButton("Results")
    shown, hidden = qt.QLabel("a", section), qt.QLabel("b", section)
    layout = qt.QVBoxLayout(section)
    layout.addWidget(shown)
    layout.addWidget(hidden)
    section.show()
    section.collapsed = True
    hidden.setVisible(False)
    shown.setVisible(True)
    assert not shown.visible
    section.collapsed = False
    assert (shown.visible, hidden.visible) == (True, False)


def test_a_slider_widget_starts_at_0_between_0_and_99_99_with_step_1_and_2_decimals(host):
    import ctk

    slider = ctk.ctkSliderWidget()
    assert (slider.value, slider.minimum, slider.maximum) == (0.0, 0.0, 99.99)
    assert (slider.singleStep, slider.decimals) == (1.0, 2)


def test_a_slider_widget_bounds_its_value_and_moves_slider_and_spin_box_together(host):
    import ctk

    slider, heard = ctk.ctkSliderWidget(), []
    slider.minimum, slider.maximum, slider.singleStep = -2.0, 3.0, 0.5
    slider.connect("valueChanged(double)", heard.append)
    slider.value = 7
    assert (slider.value, heard) == (3.0, [3.0])
    inner = slider.findChild("QSlider")
    inner.setValue(3)
    assert slider.value == pytest.approx(-0.5)
    slider.findChild("QDoubleSpinBox").value = 1.5
    assert (inner.value, heard[-1]) == (7, 1.5)


def test_methods_that_are_no_slots_of_the_real_slider_are_absent(host):
    import ctk

    for name in ("setMinimum", "setRange", "spinBox"):
        with pytest.raises(AttributeError):
            getattr(ctk.ctkSliderWidget(), name)


def test_a_path_line_knows_its_filters_and_announces_paths(host, tmp_path):
    import ctk

    line, heard = ctk.ctkPathLineEdit(), []
    line.currentPathChanged.connect(heard.append)
    line.filters = ctk.ctkPathLineEdit.Files | ctk.ctkPathLineEdit.Writable
    line.nameFilters = ["Images (*.nii.gz)", "*.nrrd"]
    line.setCurrentPath(str(tmp_path / "scan.nii.gz"))
    assert (line.filters, line.nameFilters) == (0x22, ("Images (*.nii.gz)", "*.nrrd"))
    assert heard == [line.currentPath] == [str(tmp_path / "scan.nii.gz")]


def test_a_path_line_remembers_its_history_under_its_key(host, tmp_path):
    import ctk

    line = ctk.ctkPathLineEdit()
    line.settingKey = "AutoFuse/Model"
    for name in ("one", "two"):
        line.currentPath = str(tmp_path / name)
        line.addCurrentPathToHistory()
    later = ctk.ctkPathLineEdit()
    later.settingKey = "AutoFuse/Model"
    assert Path(later.currentPath).name == "two"
    assert later.comboBox().count == 2


def test_browsing_asks_for_a_file_or_a_folder(host, tmp_path, click):
    import ctk

    line, button = ctk.ctkPathLineEdit(), ctk.ctkDirectoryButton()
    line.filters = ctk.ctkPathLineEdit.Files
    host.messages.answer(tmp_path / "model.json", tmp_path)
    click(line.findChild("QToolButton"))
    click(button.findChild("QPushButton"))
    assert line.currentPath == str(tmp_path / "model.json")
    assert Path(button.directory) == tmp_path
    asked = [message.details["function"] for message in host.messages.ofKind("file")]
    assert asked == ["getOpenFileName", "getExistingDirectory"]


def test_a_checkable_combo_box_announces_each_change_once(host):
    import ctk
    import qt

    combo, heard = ctk.ctkCheckableComboBox(), []
    combo.addItems(["liver", "spleen", "aorta"])
    combo.checkedIndexesChanged.connect(lambda: heard.append([index.row() for index in combo.checkedIndexes()]))
    combo.setCheckState(combo.model().index(2, 0), qt.Qt.Checked)
    combo.setCheckState(combo.model().index(0, 0), qt.Qt.Checked)
    combo.setCheckState(combo.model().index(2, 0), qt.Qt.Unchecked)
    assert heard == [[2], [0, 2], [0]]
    assert not combo.allChecked()
    assert not combo.noneChecked()


def test_a_range_widget_keeps_its_ends_in_order(host):
    import ctk

    widget, heard = ctk.ctkRangeWidget(), []
    widget.setRange(-10, 50)
    widget.valuesChanged.connect(lambda low, high: heard.append((low, high)))
    widget.setValues(5, 20)
    widget.setMinimumValue(30)
    assert heard[0] == (5.0, 20.0)
    assert (widget.minimumValue, widget.maximumValue) == (20.0, 20.0)


def test_a_colour_button_announces_its_colour(host):
    import ctk
    import qt

    button, heard = ctk.ctkColorPickerButton(), []
    button.colorChanged.connect(lambda color: heard.append(color.name()))
    button.color = qt.QColor("#336699")
    assert (button.color.name(), heard) == ("#336699", ["#336699"])


def test_a_stand_in_takes_no_new_attributes(host):
    import ctk
    import slicer

    for widget in (ctk.ctkSliderWidget(), ctk.ctkPathLineEdit(), slicer.qMRMLNodeComboBox()):
        with pytest.raises(AttributeError, match="creating new attributes on C\\+\\+ objects is not allowed"):
            widget.label2 = 1
    with pytest.raises(AttributeError, match="Slot 'currentNode' can not be overwritten"):
        slicer.qMRMLNodeComboBox().currentNode = None


def test_a_widget_that_the_host_does_not_emulate_says_so(host):
    import ctk
    import slicer

    with pytest.raises(RuntimeError, match="ctkDoubleRangeSlider is not emulated by the test host"):
        ctk.ctkDoubleRangeSlider()
    with pytest.raises(AttributeError, match="ctkVTKScalarBarWidget"):
        _ = ctk.ctkVTKScalarBarWidget
    with pytest.raises(AttributeError):
        _ = slicer.qMRMLPlotWidget


def test_the_wheel_leaves_no_names_in_slicer_that_the_application_does_not_have(host):
    import slicer

    assert not hasattr(slicer, "arrayFromVolume")
    assert slicer.moduleNames.Volumes == "Volumes"
    assert slicer.modules.volumes.logic().IsA("vtkSlicerVolumesLogic")


@pytest.mark.parametrize("dark", [False, True])
def test_sections_and_buttons_are_legible_in_both_themes(host, dark):
    import ctk
    import qt

    host.setDark(dark)
    panel = qt.QWidget()
    layout = qt.QVBoxLayout(panel)
    layout.addWidget(ctk.ctkCollapsibleButton("Outputs"))
    layout.addWidget(qt.QPushButton("Apply"))
    image = panel.grab().toImage()
    lightness = [image.pixelColor(x, y).lightness() for x in range(image.width()) for y in range(image.height())]
    middle = sorted(lightness)[len(lightness) // 2]
    assert middle < 90 if dark else middle > 160
    assert max(lightness) > 200
    assert min(lightness) < 60
