"""Provenance of output nodes: roles, attributes, and the text for people."""

from __future__ import annotations

import json

from scene_parts import FIXED_PLACE, FIXED_SHAPE, MOVING_PLACE, MOVING_SHAPE, blobs, volumeNode

REPORT = {
    "provenance": {
        "engine": "0.1.0",
        "torch": "2.13.0",
        "device": "cpu",
        "model": "brain-t1",
        "model_sha256": "0123456789abcdef" * 4,
        "config": {"initial": "affine", "samples": 0, "model": None},
        "seed": 7,
        "fixed": "CT Müller",
        "moving": "MR",
    }
}


def test_a_transform_names_its_images_as_slicers_registration_modules_do(host) -> None:
    import slicer

    from AutoFuseLib.Provenance import setRoles

    fixed = volumeNode("Fixed", blobs(FIXED_SHAPE), FIXED_PLACE)
    moving = volumeNode("Moving", blobs(MOVING_SHAPE), MOVING_PLACE)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "Transform")
    setRoles(node, fixed, moving)
    assert node.GetNodeReference("spatialRegistrationFixed") is fixed
    assert node.GetNodeReference("spatialRegistrationMoving") is moving


def test_every_output_carries_what_made_it(host) -> None:
    from AutoFuseLib.Provenance import copyProvenance, describe, isOurs, setProvenance

    node = volumeNode("Warped", blobs(FIXED_SHAPE), FIXED_PLACE)
    assert not isOurs(node)
    assert describe(node) == ""
    setProvenance(node, REPORT, "2026-01-02T03:04:05+00:00")
    assert node.GetAttribute("AutoFuse.engine") == "0.1.0"
    assert node.GetAttribute("AutoFuse.modelSha256") == "0123456789abcdef" * 4
    assert node.GetAttribute("AutoFuse.seed") == "7"
    assert node.GetAttribute("AutoFuse.fixed") == "CT Müller"
    assert json.loads(node.GetAttribute("AutoFuse.config")) == REPORT["provenance"]["config"]
    copy = volumeNode("Copy", blobs(FIXED_SHAPE), FIXED_PLACE)
    copyProvenance(node, copy)
    assert isOurs(copy)
    assert describe(copy) == describe(node)
    assert describe(node).splitlines() == [
        "Fixed image: CT Müller",
        "Moving image: MR",
        "Model: brain-t1",
        "Model checksum (SHA256): 0123456789abcdef…",
        "AutoFuse: 0.1.0",
        "PyTorch: 2.13.0",
        "Device: cpu",
        "Seed: 7",
        "Date: 2026-01-02T03:04:05+00:00",
        "Settings: initial affine, samples 0",
    ]


def test_without_a_model_the_text_has_no_line_for_it(host) -> None:
    from AutoFuseLib.Provenance import describe, setProvenance

    node = volumeNode("Warped", blobs(FIXED_SHAPE), FIXED_PLACE)
    setProvenance(node, {"provenance": {"engine": "0.1.0", "model": "none", "model_sha256": None}})
    assert "checksum" not in describe(node)
    assert node.GetAttribute("AutoFuse.modelSha256") is None
    assert node.GetAttribute("AutoFuse.date")
