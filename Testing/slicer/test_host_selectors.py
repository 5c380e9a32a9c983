"""Node and segment selectors follow the scene as the real ones do."""

from __future__ import annotations

import pytest


@pytest.fixture
def selector(host):
    import slicer

    combo = slicer.qMRMLNodeComboBox()
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    return combo


def add(kind: str, name: str):
    import slicer

    return slicer.mrmlScene.AddNewNodeByClass(kind, name)


def test_a_selector_is_disabled_and_empty_until_it_gets_a_scene(host, selector):
    add("vtkMRMLScalarVolumeNode", "CT")
    assert not selector.enabled
    assert selector.nodeCount() == 0
    selector.setMRMLScene(host.scene)
    assert selector.enabled
    assert selector.nodeCount() == 1


def test_types_read_back_as_a_tuple_and_the_current_node_by_method_and_property(host, selector):
    volume = add("vtkMRMLScalarVolumeNode", "CT")
    selector.setMRMLScene(host.scene)
    assert selector.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert selector.currentNode() is volume
    assert selector.currentNodeID == volume.GetID()


def test_without_none_the_first_node_is_chosen_and_with_none_nothing(host, selector):
    first = add("vtkMRMLScalarVolumeNode", "CT")
    add("vtkMRMLScalarVolumeNode", "MR")
    selector.setMRMLScene(host.scene)
    assert selector.currentNode() is first

    import slicer

    other = slicer.qMRMLNodeComboBox()
    other.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    other.noneEnabled = True
    other.setMRMLScene(host.scene)
    assert other.currentNode() is None


def test_all_overloads_of_the_change_signal_are_emitted(host, selector):
    heard = []
    selector.noneEnabled = True
    selector.setMRMLScene(host.scene)
    volume = add("vtkMRMLScalarVolumeNode", "CT")
    selector.currentNodeChanged.connect(lambda node: heard.append(node))
    assert selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: heard.append(node))
    assert selector.connect("currentNodeChanged(bool)", lambda valid: heard.append(valid))
    assert selector.connect("currentNodeIDChanged(QString)", lambda identifier: heard.append(identifier))
    assert not selector.connect("currentNodeChanged(vtkMRMLVolumeNode*)", print)
    selector.setCurrentNode(volume)
    selector.setCurrentNode(volume)
    assert heard == [volume, volume, True, volume.GetID()]


def test_child_classes_hidden_nodes_and_attributes_are_filtered(host, selector):
    import slicer

    add("vtkMRMLLabelMapVolumeNode", "labels")
    plain, marked, hidden = (add("vtkMRMLScalarVolumeNode", name) for name in ("plain", "marked", "hidden"))
    hidden.SetHideFromEditors(True)
    marked.SetAttribute("AutoFuse.Role", "warped")
    selector.setMRMLScene(host.scene)
    assert selector.nodeCount() == 3
    selector.showChildNodeTypes = False
    assert [selector.nodeFromIndex(index) for index in range(selector.nodeCount())] == [plain, marked]
    selector.showHidden = True
    assert selector.nodeCount() == 3
    selector.addAttribute("vtkMRMLScalarVolumeNode", "AutoFuse.Role", "warped")
    assert selector.nodeFromIndex(0) is marked
    assert selector.nodeCount() == 1
    assert isinstance(slicer.mrmlScene.GetNodeByID(selector.currentNodeID), slicer.vtkMRMLScalarVolumeNode)


def test_a_removed_current_node_gives_way_to_the_last_one_or_to_none(host, selector):
    volumes = [add("vtkMRMLScalarVolumeNode", name) for name in ("a", "b", "c")]
    selector.setMRMLScene(host.scene)
    selector.setCurrentNode(volumes[1])
    host.scene.RemoveNode(volumes[1])
    assert selector.currentNode() is volumes[2]
    selector.noneEnabled = True
    host.scene.RemoveNode(volumes[2])
    assert selector.currentNode() is None


def test_a_renamed_node_shows_its_new_name(host, selector):
    volume = add("vtkMRMLScalarVolumeNode", "before")
    selector.setMRMLScene(host.scene)
    volume.SetName("after")
    assert selector.findChild("QComboBox").currentText == "after"
    assert selector.currentNode() is volume


def test_closing_the_scene_empties_the_selector(host, selector):
    add("vtkMRMLScalarVolumeNode", "CT")
    selector.setMRMLScene(host.scene)
    heard = []
    selector.currentNodeChanged.connect(heard.append)
    host.closeScene()
    assert (selector.currentNode(), selector.nodeCount(), heard) == (None, 0, [None])


def test_the_user_creates_renames_and_deletes_nodes_from_the_menu(host, selector):
    selector.baseName = "Warped"
    selector.renameEnabled = True
    selector.noneEnabled = True
    selector.setMRMLScene(host.scene)
    heard = []
    selector.nodeAddedByUser.connect(lambda node: heard.append(node.GetName()))
    host.choose(selector, "Create new Volume")
    host.messages.answer("Result")
    host.choose(selector, "Create new Volume as...")
    assert heard == ["Warped", "Warped_1"]
    assert selector.currentNode().GetName() == "Result"
    host.messages.answer("Final")
    host.choose(selector, "Rename current Volume")
    assert selector.currentNode().GetName() == "Final"
    host.choose(selector, "Delete current Volume")
    assert [selector.nodeFromIndex(index).GetName() for index in range(selector.nodeCount())] == ["Warped"]
    assert selector.currentNode() is None


def test_the_user_chooses_a_node_and_that_is_told_apart_from_code(host, selector):
    volumes = [add("vtkMRMLScalarVolumeNode", name) for name in ("a", "b")]
    selector.setMRMLScene(host.scene)
    activated = []
    selector.nodeActivated.connect(activated.append)
    selector.setCurrentNode(volumes[1])
    host.choose(selector, "a")
    assert activated == [volumes[0]]
    with pytest.raises(LookupError, match="offers"):
        host.choose(selector, "z")


def test_a_deleted_selector_no_longer_listens_to_the_scene(host, selector):
    selector.setMRMLScene(host.scene)
    selector.delete()
    add("vtkMRMLScalarVolumeNode", "later")
    assert host.uncaught == []


def test_several_nodes_are_checked(host):
    import qt
    import slicer

    volumes = [add("vtkMRMLScalarVolumeNode", name) for name in ("a", "b", "c")]
    combo, heard = slicer.qMRMLCheckableNodeComboBox(), []
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    combo.setMRMLScene(host.scene)
    combo.checkedNodesChanged.connect(lambda: heard.append(combo.checkedNodes()))
    combo.check(volumes[2])
    combo.setCheckState(volumes[0], qt.Qt.Checked)
    host.scene.RemoveNode(volumes[2])
    assert heard == [(volumes[2],), (volumes[0], volumes[2]), (volumes[0],)]
    assert combo.uncheckedNodes() == (volumes[1],)
    assert combo.checkState(volumes[0]) == qt.Qt.Checked


class TestSegments:
    @pytest.fixture
    def segmentation(self, host):
        import slicer

        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
        for name in ("liver", "spleen"):
            node.GetSegmentation().AddEmptySegment(name + "_id", name)
        return node

    @pytest.fixture
    def chooser(self, host):
        import slicer

        widget = slicer.qMRMLSegmentSelectorWidget()
        widget.setMRMLScene(host.scene)
        return widget

    def test_the_first_segment_is_current_and_changes_are_announced(self, host, segmentation, chooser):
        heard = []
        chooser.currentSegmentChanged.connect(heard.append)
        chooser.setCurrentNode(segmentation)
        assert chooser.currentNode() is segmentation
        assert chooser.currentSegmentID() == "liver_id"
        chooser.setCurrentSegmentID("spleen_id")
        segmentation.GetSegmentation().RemoveSegment("spleen_id")
        assert chooser.currentSegmentID() == "liver_id"
        assert heard[-2:] == ["spleen_id", "liver_id"]

    def test_several_segments_are_selected(self, host, segmentation, chooser):
        chooser.multiSelection = True
        chooser.setCurrentNode(segmentation)
        heard = []
        chooser.connect("segmentSelectionChanged(QStringList)", heard.append)
        chooser.setSelectedSegmentIDs(["spleen_id", "unknown"])
        assert chooser.selectedSegmentIDs() == ("spleen_id",)
        assert heard == [("spleen_id",)]
        segmentation.GetSegmentation().AddEmptySegment("aorta_id", "aorta")
        assert chooser.segmentIDs() == ("liver_id", "spleen_id", "aorta_id")
        assert chooser.selectedSegmentIDs() == ("spleen_id",)
