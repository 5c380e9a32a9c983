"""The panel's automatic choice of a model: what it says before a run, and that the engine is the one who decides."""

from __future__ import annotations

import hashlib

import pytest


def card(name, **values):
    from autofuse_engine.configs import NetworkConfig
    from autofuse_engine.image_facts import TrainingRange, intensity_names
    from autofuse_engine.model_card import IntendedUse, ModelCard, WeightsFile

    weights = b"nobody reads these weights"
    spread = tuple(values["foreground_ml"])
    known = TrainingRange(
        cases={"train": 20, "validation": 4},
        spacing_mm=values["spacing_mm"],
        field_of_view_mm=(80.0, 90.0, 100.0, 110.0, 120.0),
        foreground_ml=spread,
        foreground_share=values.get("foreground_share", (0.3, 0.3, 0.4, 0.5, 0.5)),
        intensities=dict.fromkeys(intensity_names(), (0.1, 0.2, 0.5, 0.8, 0.9)),
    )
    return ModelCard(
        name=name,
        title=f"The {name}",
        network=NetworkConfig(channels=2),
        intended_use=IntendedUse(modality=values.get("modality", "MR"), body_part=values["body_part"]),
        training_range=known,
        weights=WeightsFile(sha256=hashlib.sha256(weights).hexdigest(), size_bytes=len(weights)),
    )


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts cards into the user's folder, which is the only one."""
    from autofuse_engine import catalog
    from autofuse_engine.model_card import card_text

    folder = tmp_path / "Modelle für Tests"
    folder.mkdir()
    monkeypatch.setenv("AUTOFUSE_MODELS", str(folder))
    monkeypatch.setattr(catalog, "SHIPPED_FOLDER", tmp_path / "none")

    def put(*cards):
        for content in cards:
            (folder / f"{content.name}.json").write_text(card_text(content), encoding="utf-8")
            (folder / f"{content.name}.safetensors").write_bytes(b"nobody reads these weights")

    return put


def volume_ml(node):
    import math

    size = node.GetImageData().GetDimensions()
    return math.prod(side * count for side, count in zip(node.GetSpacing(), size, strict=True)) / 1000


def fitting(registration, name, **values):
    """A card for images of the size of the pair in the scene."""
    nodes = [registration.parameters.fixedVolume, registration.parameters.movingVolume]
    volumes = [volume_ml(node) for node in nodes]
    low, high = 0.3 * min(volumes), 0.6 * max(volumes)
    sides = sorted(side for node in nodes for side in node.GetSpacing())
    values = {"spacing_mm": (sides[0], sides[0], sides[0], sides[-1], sides[-1]), "body_part": "abdomen"} | values
    return card(name, foreground_ml=(low, low, (low + high) / 2, high, high), **values)


@pytest.fixture
def pair(registration):
    """Two volumes whose names tell nothing, chosen in the panel."""
    for number, node in enumerate(registration.makePair()):
        node.SetName(f"Volume {number}")
    registration.load()
    registration.parameters = registration.widget.logic.getParameterNode()
    return registration


def text_of(registration):
    registration.widget.inputs.setParameterNode(registration.parameters)
    registration.host.app.processEvents()
    return registration.ui.modelInfoLabel.text


def test_without_models_the_automatic_choice_says_that_it_is_none(pair, install):
    assert pair.ui.modelBox.currentText == "Automatic: by the images"
    assert text_of(pair).startswith("No model, refinement only:")
    assert not pair.ui.samplesBox.visible


def test_a_model_that_fits_is_announced_with_its_range_and_the_engine_decides(pair, install):
    install(fitting(pair, "liver-mr"))
    text = text_of(pair)
    assert "Probably The liver-mr; the images decide when the run begins." in text
    assert "MR" in text
    assert "For voxels of" in text
    assert "ml." in text
    pair.register()
    assert pair.worker.jobs[-1][1]["config"]["model"] == "auto"
    pair.finish()


def test_a_name_that_tells_of_another_body_part_or_modality_speaks_against_a_model(pair, install):
    install(fitting(pair, "liver-mr"))
    pair.parameters.fixedVolume.SetName("3: Brain T1")
    assert "tells of brain" in text_of(pair)
    pair.parameters.fixedVolume.SetName("CT of the abdomen")
    assert "tells of CT" in text_of(pair)
    pair.parameters.fixedVolume.SetName("abdomen MRI")
    assert "Probably" in text_of(pair)


def test_of_two_models_the_one_whose_body_part_is_named_is_taken(pair, install):
    install(fitting(pair, "a-pelvis", body_part="pelvis"), fitting(pair, "liver-mr"))
    assert "Probably The a-pelvis" in text_of(pair)
    pair.parameters.movingVolume.SetName("Liver_2")
    assert "Probably The liver-mr" in text_of(pair)


def test_models_for_other_spacings_sizes_or_one_modality_are_not_announced(pair, install):
    from AutoFuseRegistrationLib.ParameterNode import Similarity

    install(fitting(pair, "fine", spacing_mm=(0.05,) * 5))
    assert "other spacings" in text_of(pair)
    install(card("fine", body_part="brain", spacing_mm=(2.0, 2.0, 2.5, 3.0, 3.0), foreground_ml=(9e6,) * 5))
    assert "fine: trained on images of another size" in text_of(pair)
    install(fitting(pair, "fine"))
    assert "Probably" in text_of(pair)
    pair.parameters.similarity = Similarity.MIND
    assert "made for pairs of one modality" in text_of(pair)


def test_without_two_volumes_the_panel_says_how_the_choice_is_made(registration, install):
    registration.load()
    assert "is chosen when the run begins" in registration.ui.modelInfoLabel.text
