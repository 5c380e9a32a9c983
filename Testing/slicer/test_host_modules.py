"""A module's life: load, use, reload, scene close, exit; with and without ``--testing``."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def volume(host):
    import slicer.util

    array = np.random.default_rng(5).integers(0, 100, (5, 6, 7)).astype(np.int16)
    node = slicer.util.addVolumeFromArray(array, name="CT")
    return node, array


@pytest.fixture
def module(volume, load_module, sample):
    return load_module(sample)


def test_a_loaded_module_stands_under_slicer_modules(host, module, sample):
    import slicer
    import slicer.util

    assert slicer.modules.hostsample.title == "Host Sample"
    assert slicer.modules.hostsample.categories == ("Examples",)
    assert slicer.modules.hostsample.path == str(sample)
    assert slicer.modules.HostSampleWidget is module.widget
    assert slicer.modules.HostSampleInstance.moduleName == "HostSample"
    assert slicer.util.getModuleWidget("HostSample") is module.widget
    assert slicer.util.getModuleLogic("HostSample") is module.widget.logic
    assert slicer.util.selectedModule() == "HostSample"
    assert "HostSample" in slicer.util.moduleNames()
    with pytest.raises(AttributeError, match="creating new attributes"):
        slicer.modules.hostsample.summary = "no such property"


def test_sample_data_is_registered_when_the_start_up_is_complete(host, load_module, sample):
    import slicer

    load_module(sample, show=False)
    assert not hasattr(slicer.modules, "sampleDataSources")
    host.completeStartup()
    host.completeStartup()
    (source,) = slicer.modules.sampleDataSources["HostSample"]
    assert (source.sampleName, source.nodeNames) == ("HostSamplePair", ["fixed", "moving"])
    import SampleData

    with pytest.raises(ValueError, match="1 uris and 2 checksums"):
        SampleData.SampleDataSource("wrong", uris="a", fileNames="a", checksums=["x", "y"])


def test_apply_computes_and_shows_the_result(host, module, volume, click):
    import slicer.util

    node, array = volume
    assert module.widget.ui.inputSelector.currentNode() is node
    module.widget.ui.thresholdSlider.value = 60
    click(module.widget.ui.applyButton)
    result = slicer.mrmlScene.GetFirstNodeByName("Result")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(result), (array > 60).astype(np.uint8))
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert (composite.GetBackgroundVolumeID(), composite.GetLabelVolumeID()) == (node.GetID(), result.GetID())


def test_a_disabled_or_hidden_button_cannot_be_clicked(host, module, click):
    host.scene.RemoveNode(host.scene.GetFirstNodeByName("CT"))
    assert "Select an input volume" in module.widget.ui.applyButton.toolTip
    with pytest.raises(RuntimeError, match="disabled or hidden"):
        click(module.widget.ui.applyButton)


def test_typed_text_reaches_the_parameters(host, module):
    node = module.widget.logic.getParameterNode()
    with pytest.raises(RuntimeError, match="'commentEdit' is disabled or hidden"):
        host.type(module.widget.ui.commentEdit, "in a collapsed section")
    module.widget.ui.advancedCollapsibleButton.collapsed = False
    host.type(module.widget.ui.commentEdit, "Größe 3")
    host.type(module.widget.ui.iterationsBox, "7")
    host.type(module.widget.ui.thresholdSlider, "-12.5")
    assert (node.comment, node.iterations, node.threshold) == ("Größe 3", 7, -12.5)
    module.widget.ui.commentEdit.enabled = False
    with pytest.raises(RuntimeError, match="'commentEdit' is disabled or hidden"):
        host.type(module.widget.ui.commentEdit, "no")


def test_the_module_works_with_a_child_process(host, module, click, wait_until):
    host.setTesting(False)
    host.messages.answer(True)
    click(module.widget.ui.countButton)
    wait_until(lambda: module.widget.ui.resultLabel.text, timeout=20)
    assert module.widget.ui.resultLabel.text == "12 (3)"
    assert [message.kind for message in host.messages] == ["okCancel"]


def test_in_testing_mode_a_question_counts_as_declined_as_in_slicer(host):
    """slicer.util compares its own True with the button's number, so "OK" comes out as False."""
    import slicer.util

    assert slicer.util.confirmOkCancelDisplay("Install?") is False
    assert slicer.util.confirmYesNoDisplay("Install?") is False
    assert [message.kind for message in host.messages] == ["okCancel", "yesNo"]


def test_without_testing_mode_a_question_needs_an_answer(host, module, click):
    host.setTesting(False)
    host.messages.answer(False)
    click(module.widget.ui.countButton)
    assert not hasattr(module.widget.logic, "child")
    click(module.widget.ui.countButton)
    assert "without a queued answer" in str(host.uncaught.pop())


def test_errors_are_recorded_with_text_and_details(host):
    import slicer.util

    host.setTesting(False)
    slicer.util.errorDisplay("It failed.", detailedText="because")
    slicer.util.infoDisplay("By the way")
    with pytest.raises(ValueError, match="deep"), slicer.util.tryWithErrorDisplay("Shown."):
        raise ValueError("deep")
    host.messages.answer(True)
    slicer.util.warningDisplay("A warning has one button only.")
    assert slicer.util.confirmYesNoDisplay("Go on?") is True
    kinds = [(message.kind, message.text.splitlines()[0]) for message in host.messages]
    assert kinds[:3] == [("error", "It failed."), ("info", "By the way"), ("error", "Shown.")]
    assert [kind for kind, _ in kinds[3:]] == ["warning", "yesNo"]
    assert host.messages[0].details["detailedText"] == "because"


def test_dialogs_of_the_module_are_answered_by_a_function(host):
    import qt

    dialog = qt.QDialog()
    edit, ok = qt.QLineEdit(dialog), qt.QPushButton("OK", dialog)
    ok.connect("clicked()", dialog.accept)

    def typeAndAccept(shown):
        shown.findChild("QLineEdit").text = "typed"
        shown.findChild("QPushButton").click()

    host.messages.answer(typeAndAccept, False)
    assert dialog.exec_() == 1
    assert edit.text == "typed"
    assert dialog.exec_() == 0


def test_standard_questions_and_files_are_answered_from_the_queue(host, tmp_path):
    import qt

    box = qt.QMessageBox
    host.messages.answer(True, False, "Discard", tmp_path / "a.nrrd", "name")
    assert box.question(None, "t", "Sure?", box.Yes | box.No) == box.Yes
    assert box.question(None, "t", "Sure?", box.Yes | box.No) == box.No
    own = box()
    own.text = "Unsaved"
    own.setStandardButtons(box.Save | box.Discard)
    assert own.exec_() == box.Discard
    assert qt.QFileDialog.getSaveFileName(None, "Save as") == str(tmp_path / "a.nrrd")
    assert qt.QInputDialog.getText(None, "t", "Name:") == "name"


def test_leaving_and_entering_disconnects_and_connects_the_form(host, module):
    import slicer.util

    slicer.util.selectModule("Volumes")
    module.widget.ui.thresholdSlider.value = 33
    assert module.widget.logic.getParameterNode().threshold == 20.0
    slicer.util.selectModule(slicer.modules.hostsample)
    assert module.widget.ui.thresholdSlider.value == 20.0
    assert module.widget.calls == ["enter", "exit", "enter"]


def test_closing_the_scene_gives_the_module_a_new_parameter_node(host, module):
    module.widget.ui.thresholdSlider.value = 33
    host.closeScene()
    assert module.widget.ui.thresholdSlider.value == 20.0
    assert module.widget.ui.inputSelector.currentNode() is None
    module.widget.ui.thresholdSlider.value = 44
    assert module.widget.logic.getParameterNode().threshold == 44.0


def test_reload_reads_the_file_again_and_cleans_the_old_widget_up(host, module, volume, click):
    before = module.widget
    again = host.reload(module)
    assert before.calls == ["enter", "cleanup"]
    assert again.widget is not before
    assert type(again.widget) is not type(before)
    assert before.Observations == []
    click(again.widget.ui.applyButton)
    assert host.scene.GetFirstNodeByName("Result") is not None


def test_the_end_of_the_application_reaches_the_module_once(host, module):
    import slicer

    host.exitApplication()
    assert module.widget.calls == ["enter", "aboutToQuit", "exit", "cleanup"]
    assert not hasattr(slicer.modules, "hostsample")


def test_a_modules_own_test_runs_and_its_failure_is_raised(host, module, monkeypatch):
    host.runModuleTest(module)
    assert host.messages.texts()[-1] == "Test passed"
    monkeypatch.setattr(module.source.HostSampleLogic, "process", lambda *_: None)
    with pytest.raises((AssertionError, AttributeError, TypeError)):
        host.runModuleTest(module)


def test_connections_to_the_application_end_with_the_test(host):
    import slicer

    heard = []
    slicer.app.connect("startupCompleted()", lambda: heard.append(1))
    slicer.app.aboutToQuit.connect(lambda: heard.append(2))
    host.reset()
    host.completeStartup()
    slicer.app.aboutToQuit.emit()
    assert heard == []


def test_each_test_starts_with_a_new_scene_and_no_module(host):
    import slicer

    assert not hasattr(slicer.modules, "hostsample")
    assert host.scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode") is None
    assert host.messages == []
    assert slicer.app.testingEnabled()


def test_an_error_in_the_module_is_raised_when_it_loads(host, load_module, sample, tmp_path):
    text = sample.read_text(encoding="utf-8").replace("HostSample", "Broken").replace("self.ui = ", "self.uj = ")
    (tmp_path / "Resources" / "UI").mkdir(parents=True)
    ui = (sample.parent / "Resources" / "UI" / "HostSample.ui").read_text(encoding="utf-8")
    (tmp_path / "Resources" / "UI" / "Broken.ui").write_text(ui.replace("HostSample", "Broken"), encoding="utf-8")
    (tmp_path / "Broken.py").write_text(text, encoding="utf-8")
    with pytest.raises(AttributeError, match="'BrokenWidget' object has no attribute 'ui'"):
        load_module(tmp_path / "Broken.py")


def test_packages_are_asked_for_and_never_installed(host):
    import slicer.packaging

    assert slicer.packaging.pip_check("numpy>=1.24")
    assert not slicer.packaging.pip_check("numpy>=99")
    slicer.packaging.pip_ensure("no-such-package-xyz", requester="AutoFuse")
    assert host.messages.ofKind("pipInstall") == []
    host.setTesting(False)
    host.messages.answer(False, True)
    with pytest.raises(RuntimeError, match="declined"):
        slicer.packaging.pip_ensure("no-such-package-xyz", requester="AutoFuse")
    slicer.packaging.pip_ensure("no-such-package-xyz", requester="AutoFuse", prompt_restart=False)
    assert host.messages.ofKind("pipInstall")[0].text == "no-such-package-xyz"


def test_translations_keep_the_text_and_know_their_context(host, tmp_path):
    from slicer.i18n import getContext, tr, translate

    assert tr("Register {name}").format(name="CT") == "Register CT"
    assert translate("qSlicerAbstractCoreModule", "Registration") == "Registration"
    (tmp_path / "package").mkdir()
    for name in ("__init__.py", "Widget.py"):
        (tmp_path / "package" / name).write_text("", encoding="utf-8")
    assert getContext(str(tmp_path / "package" / "Widget.py")) == "package.Widget"


def test_developer_mode_adds_a_reload_button_that_works(host, volume, load_module, sample):
    import qt

    qt.QSettings().setValue("Developer/DeveloperMode", True)
    loaded = load_module(sample)
    before = loaded.widget
    host.click(before.reloadButton)
    assert before.calls == ["enter", "cleanup"]
    assert loaded.parent.self() is not before
