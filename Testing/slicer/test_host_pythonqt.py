"""Widgets behave as PythonQt's: attributes, properties, connections, as they were observed in a real Slicer 5.13."""

from __future__ import annotations

import functools
import json

import pytest


@pytest.fixture
def button(host):
    import qt

    return qt.QPushButton("x")


def test_reading_an_unknown_attribute_of_a_widget_raises(button):
    with pytest.raises(AttributeError, match="QPushButton has no attribute named 'tooltip'"):
        _ = button.tooltip


def test_writing_an_unknown_attribute_of_a_widget_raises(button):
    with pytest.raises(AttributeError, match="'tooltip' does not exist on QPushButton and creating new attributes on"):
        button.tooltip = "lost"


def test_values_such_as_colours_take_no_new_attributes_either(host):
    import qt

    with pytest.raises(AttributeError, match="does not exist on QColor"):
        qt.QColor("red").shade = 3


def test_a_python_subclass_of_a_widget_takes_new_attributes(host):
    import qt

    class Panel(qt.QWidget):
        def __init__(self):
            super().__init__()
            self.logic = "mine"

    panel = Panel()
    panel.more = 2
    assert (panel.logic, panel.more) == ("mine", 2)
    with pytest.raises(AttributeError, match="has no attribute named 'fewer'"):
        _ = panel.fewer


@pytest.mark.parametrize(("name", "kind"), [("layout", "Slot"), ("destroyed", "Signal")])
def test_even_a_python_subclass_cannot_overwrite_a_member_of_qt(host, name, kind):
    import qt

    class Panel(qt.QWidget):
        pass

    with pytest.raises(AttributeError, match=f"{kind} '{name}' can not be overwritten on QWidget object"):
        setattr(Panel(), name, 1)


def test_a_property_is_an_attribute_and_no_method(button):
    assert button.text == "x"
    with pytest.raises(TypeError, match="not callable"):
        button.text()


def test_getters_of_another_name_and_setters_exist(button):
    button.enabled = False
    assert (button.isEnabled(), button.enabled) == (False, False)
    button.setEnabled(True)
    assert button.enabled is True


def test_a_read_only_property_cannot_be_written(button):
    with pytest.raises(AttributeError, match="Property 'width' of QPushButton object is not writable"):
        button.width = 40


@pytest.mark.parametrize(
    ("widget", "name", "value", "read"),
    [
        ("QLabel", "text", 5, "5"),
        ("QLabel", "text", None, "None"),
        ("QLabel", "enabled", None, False),
        ("QLabel", "enabled", object(), True),
        ("QSpinBox", "value", 7.9, 7),
        ("QDoubleSpinBox", "value", 3, 3.0),
    ],
)
def test_values_are_converted_to_the_type_of_the_property(host, widget, name, value, read):
    import qt

    instance = getattr(qt, widget)()
    setattr(instance, name, value)
    assert getattr(instance, name) == read
    assert type(getattr(instance, name)) is type(read)


def test_a_value_of_the_wrong_type_is_refused(host):
    import qt

    with pytest.raises(AttributeError, match="Property 'value' of type 'int' does not accept an object of type str"):
        qt.QSpinBox().value = "many"


def test_a_combo_box_has_count_current_text_and_data(host):
    import qt

    combo = qt.QComboBox()
    combo.addItem("first", 11)
    combo.addItem("second", "b")
    assert (combo.count, combo.currentText, combo.currentData, combo.itemData(1)) == (2, "first", 11, "b")
    combo.currentIndex = 1
    assert combo.currentText == "second"


def test_a_dynamic_property_reads_and_writes_as_an_attribute(button):
    assert button.setProperty("SlicerParameterName", "fixed") is False
    assert button.SlicerParameterName == "fixed"
    button.SlicerParameterName = "moving"
    assert button.property("SlicerParameterName") == "moving"
    assert button.property("neverSet") is None


def test_a_child_reads_as_an_attribute_under_its_name(host):
    import qt

    parent = qt.QWidget()
    child = qt.QLabel("inside", parent)
    child.name = "hint"
    assert parent.hint is child
    assert child.objectName == "hint"


def test_children_and_finds_are_tuples(host):
    import qt

    parent = qt.QWidget()
    label, box = qt.QLabel(parent), qt.QCheckBox(parent)
    box.objectName = "agree"
    assert parent.children() == (label, box)
    assert parent.findChildren("QLabel") == (label,)
    assert parent.findChildren(qt.QWidget) == (label, box)
    assert parent.findChild(qt.QCheckBox, "agree") is box
    assert parent.findChild("QSlider") is None


def test_lists_in_properties_read_as_tuples(host, button):
    import qt

    browser = qt.QTextBrowser()
    browser.searchPaths = ["figures", "tables"]
    assert browser.searchPaths == ("figures", "tables")
    button.setProperty("choices", ["a", "b"])
    assert button.choices == ("a", "b")


def test_classes_have_no_python_base_classes(button):
    import qt

    class Panel(qt.QDialog):
        pass

    assert isinstance(button, qt.QPushButton)
    assert not isinstance(button, qt.QWidget)
    assert isinstance(Panel(), qt.QDialog)
    assert not isinstance(Panel(), qt.QWidget)
    assert button.inherits("QWidget")
    assert (button.className(), Panel().className()) == ("QPushButton", "QDialog")


def test_enums_are_ints(host):
    import qt

    assert qt.Qt.Checked == 2
    assert isinstance(qt.Qt.Checked, int)
    assert qt.Qt.AlignLeft | qt.Qt.AlignTop == 0x21
    assert f"{qt.Qt.Checked}" == "2"
    assert json.dumps({"state": qt.Qt.PartiallyChecked}) == '{"state": 1}'
    box = qt.QCheckBox()
    box.setCheckState(qt.Qt.Checked)
    assert box.checkState() == 2
    label = qt.QLabel()
    label.alignment = 0x84
    assert label.alignment == qt.Qt.AlignCenter


def test_names_of_pyside_alone_and_of_qt_6_alone_are_absent(host):
    import qt

    for name in ("Slot", "Property", "Signal", "QtCore"):
        with pytest.raises(AttributeError):
            getattr(qt, name)
    with pytest.raises(AttributeError, match="checkStateChanged"):
        _ = qt.QCheckBox().checkStateChanged


class TestConnections:
    def test_connect_gives_true_and_passes_as_many_arguments_as_the_function_takes(self, button):
        got = []
        assert button.connect("clicked(bool)", lambda: got.append("none")) is True
        assert button.connect("clicked(bool)", lambda checked: got.append(checked)) is True
        assert button.connect("clicked(bool)", lambda *all_: got.append(all_)) is True
        assert button.connect("clicked()", lambda *all_: got.append(all_)) is True
        button.click()
        assert got == ["none", False, (False,), ()]

    def test_default_arguments_count_and_other_callables_get_everything(self, button):
        got = []

        class Receiver:
            def method(self, checked="default"):
                got.append(checked)

            def __call__(self, *all_):
                got.append(("called", *all_))

        receiver = Receiver()
        button.connect("clicked(bool)", receiver.method)
        button.connect("clicked(bool)", receiver)
        button.connect("clicked(bool)", functools.partial(lambda *all_: got.append(all_), "partial"))
        button.click()
        assert got == [False, ("called", False), ("partial", False)]

    def test_an_unknown_signal_gives_false_and_raises_nothing(self, button, capfd):
        assert button.connect("clicked(int)", print) is False
        assert button.connect("clicked", print) is False
        assert "signal 'clicked(int)' does not exist on QPushButton" in capfd.readouterr().err

    def test_signals_are_attributes_with_connect_disconnect_and_emit(self, button):
        got = []
        assert button.clicked.connect(got.append) is True
        button.clicked.emit(True)
        button.clicked(False)
        assert got == [True, False]
        assert button.clicked.disconnect(got.append) is True
        assert button.clicked.disconnect(got.append) is False
        button.click()
        assert got == [True, False]

    def test_disconnect_by_text_takes_all_or_one_connection_off(self, button):
        got = []

        def first():
            got.append(1)

        button.connect("clicked(bool)", first)
        button.connect("clicked(bool)", lambda: got.append(2))
        assert button.disconnect("clicked(bool)", first) is True
        button.click()
        assert button.disconnect("clicked(bool)") is True
        button.click()
        assert got == [2]

    def test_a_slot_of_another_widget_is_named_by_its_signature(self, button, capfd):
        import qt

        label = qt.QLabel("before")
        assert button.connect("clicked()", label, "clear()") is True
        assert button.connect("clicked()", label, "explode()") is False
        button.click()
        assert label.text == ""
        assert "No such slot QLabel::explode()" in capfd.readouterr().err

    def test_a_slot_of_qt_without_parameters_refuses_the_argument_of_clicked(self, host, button, capfd):
        import qt

        dialog = qt.QDialog()
        button.clicked.connect(dialog.accept)
        button.click()
        assert isinstance(host.uncaught.pop(), TypeError)
        assert button.clicked.disconnect(dialog.accept) is True
        assert button.connect("clicked()", dialog.accept) is True
        button.click()
        assert dialog.result() == 1
        capfd.readouterr()

    def test_a_bound_method_keeps_its_object_alive(self, button):
        got = []

        class Receiver:
            def heard(self):
                got.append("alive")

        button.clicked.connect(Receiver().heard)
        button.click()
        assert got == ["alive"]

    def test_what_a_slot_raises_does_not_reach_the_sender(self, host, button, capfd):
        reached = []
        button.clicked.connect(lambda: 1 / 0)
        button.clicked.connect(lambda: reached.append(True))
        button.click()
        assert reached == [True]
        assert isinstance(host.uncaught.pop(), ZeroDivisionError)
        assert "ZeroDivisionError" in capfd.readouterr().err

    def test_blocked_signals_stay_silent(self, host):
        import ctk

        slider, got = ctk.ctkSliderWidget(), []
        slider.valueChanged.connect(got.append)
        slider.blockSignals(True)
        slider.value = 3
        slider.blockSignals(False)
        slider.value = 4
        assert got == [4.0]
