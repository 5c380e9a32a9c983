"""The weight of smoothness that a model learned: from the worker's result to a node, its colours and its words."""

from __future__ import annotations

import pytest

PATIENCE_S = 60.0
"""For machines that do much else."""


def weights():
    """On the fixed grid of the test's pair, (k, j, i): grows along i from 0.2 to 0.85."""
    import numpy as np

    return np.broadcast_to(0.2 + 0.05 * np.arange(14), (10, 12, 14)).astype(np.float32)


@pytest.fixture
def result(registration):
    """A finished registration whose model learned a weight."""
    registration.worker.images["regularity_weight"] = weights()
    registration.makePair()
    registration.load()
    registration.widget.logic.getParameterNode().model = "none"
    registration.register()
    registration.finish()
    return registration.run.result


def test_the_weight_becomes_a_volume_on_the_fixed_grid(registration, result):
    import numpy as np
    import slicer.util

    node = result.regularity
    assert node.GetName() == "Smoothness weight CT day 8 to CT day 1"
    assert np.array_equal(slicer.util.arrayFromVolume(node), weights())
    assert node.GetSpacing() == result.fixed.GetSpacing()
    assert node.GetAttribute("AutoFuse.engine") == "test"
    assert result.transform.GetNodeReference("AutoFuse.regularity") is node
    assert registration.ui.regularityVolumeSelector.currentNode() is node
    registration.register()
    registration.finish()
    assert registration.run.result.regularity is node


def test_the_check_shows_it_in_colours_from_nothing_to_one(registration, result):
    import slicer

    ui, host = registration.ui, registration.host
    host.click(ui.regularityButton)
    host.waitUntil(lambda: ui.regularityButton.checked, PATIENCE_S)
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == result.fixed.GetID()
    assert composite.GetForegroundVolumeID() == result.regularity.GetID()
    display = result.regularity.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0.0, 1.0)
    legend = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
    assert [node.GetTitleText() for node in legend] == ["Smoothness weight"]
    assert "1 kept smooth, towards 0 free to bend" in ui.checkLabel.text
    assert ui.opacitySlider.visible
    host.click(ui.regularityButton)
    assert not slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")


def test_a_result_without_one_says_where_it_would_come_from(registration):
    registration.makePair()
    registration.load()
    parameters = registration.widget.logic.getParameterNode()
    parameters.model = "none"
    registration.register()
    registration.finish()
    assert registration.run.result.regularity is None
    assert not registration.ui.regularityButton.enabled
    assert "a model that learns one" in registration.ui.regularityButton.toolTip
    registration.worker.images["regularity_weight"] = weights()
    parameters.wantRegularity = False
    registration.register()
    registration.finish()
    assert registration.run.result.regularity is None
