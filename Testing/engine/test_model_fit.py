"""Which models know which images: by spacing, size and intensities measured, and by words in names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autofuse_engine import catalog
from autofuse_engine.catalog import CatalogEntry
from autofuse_engine.configs import NetworkConfig, RegistrationConfig
from autofuse_engine.data.image_measures import measure_image
from autofuse_engine.data.volume import AxisOrder, Volume
from autofuse_engine.errors import ModelError
from autofuse_engine.events import Event, Warning
from autofuse_engine.image_facts import ImageFacts, TrainingRange, intensity_names
from autofuse_engine.model_card import IntendedUse, ModelCard, Preprocessing
from autofuse_engine.model_choice import settle_model
from autofuse_engine.model_fit import (
    INTENSITY_UNUSUAL,
    SIZE_UNUSUAL,
    SPACING_FAR,
    choose,
    doubts,
    spacing_range_mm,
)
from autofuse_engine.model_words import body_parts, contradicts_body_part, contradicts_modality, modalities
from autofuse_engine.verdict import judge
from Testing.engine.test_catalog import write_model


def ball(radius_mm: float = 18.0, name: str = "ball", contrast: float = 1.0, seed: int = 0) -> Volume:
    """A ball of three shells on an anisotropic, flipped grid, with a little noise inside."""
    spacing = np.array([1.0, 1.5, 2.5])
    shape = (24, 36, 48)
    k, j, i = np.meshgrid(*(np.arange(side) - (side - 1) / 2 for side in shape), indexing="ij")
    distance = np.sqrt((i * spacing[0]) ** 2 + (j * spacing[1]) ** 2 + (k * spacing[2]) ** 2)
    values = 300 + 200 * np.cos(contrast * distance / radius_mm * 3)
    values += np.random.default_rng(seed).normal(0, 8, shape)
    matrix = np.diag([*(spacing * (1, -1, 1)), 1.0])
    return Volume(array=np.where(distance < radius_mm, values, 0).astype(np.float32), ras_from_ijk=matrix, name=name)


def facts(volume: Volume) -> ImageFacts:
    return measure_image(volume, Preprocessing())


@pytest.fixture(scope="module")
def known() -> TrainingRange:
    images = [facts(ball(radius, seed=number)) for number, radius in enumerate((16.0, 17.0, 18.0, 19.0))]
    return TrainingRange.of_images(images, {"train": 4, "validation": 1})


@pytest.fixture
def card(known: TrainingRange) -> ModelCard:
    return ModelCard(
        name="balls",
        network=NetworkConfig(channels=2),
        preprocessing=Preprocessing(spacing_mm=(2.0, 2.0, 2.0)),
        intended_use=IntendedUse(modality="MR T1w", body_part="brain"),
        training_range=known,
    )


def codes(card: ModelCard, volume: Volume) -> list[str]:
    return [doubt.code for doubt in doubts(card, facts(volume))]


def test_volume_and_extent_are_those_of_the_ball_in_closed_form() -> None:
    measured = facts(ball(18.0))
    assert measured.foreground_ml == pytest.approx(4 / 3 * np.pi * 18.0**3 / 1000, rel=0.02)
    assert measured.field_of_view_mm == pytest.approx((48.0, 54.0, 60.0))
    assert measured.spacing_mm == pytest.approx((1.0, 1.5, 2.5))
    assert measured.foreground_share == pytest.approx(measured.foreground_ml / measured.field_of_view_ml)


def test_intensities_are_percentiles_of_the_foreground_alone() -> None:
    volume = ball()
    inner = volume.array[volume.array > 0]
    low, high = volume.array.min(), np.percentile(inner, 100)
    expected = np.percentile((inner - low) / (high - low), (10, 25, 50, 75, 90))
    measured = facts(volume).intensities
    assert measured is not None
    assert [measured[name] for name in ("p10", "p25", "p50", "p75", "p90")] == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("order", [AxisOrder(order=(2, 0, 1)), AxisOrder(flips=(True, False, True))])
def test_the_stored_order_of_voxels_leaves_no_trace(order: AxisOrder) -> None:
    volume = ball()
    before, after = facts(volume), facts(volume.reordered(order))
    assert after.intensities == before.intensities
    assert after.foreground_ml == pytest.approx(before.foreground_ml)
    assert sorted(after.spacing_mm) == pytest.approx(sorted(before.spacing_mm))


def test_large_images_are_measured_on_a_part_of_their_voxels_with_the_same_result() -> None:
    volume = ball()
    fine = Volume(
        array=volume.array.repeat(3, axis=0).repeat(3, axis=1).repeat(3, axis=2),
        ras_from_ijk=volume.ras_from_ijk @ np.diag([1 / 3, 1 / 3, 1 / 3, 1]),
    )
    assert fine.array.size > 1_000_000
    assert facts(fine).foreground_ml == pytest.approx(facts(volume).foreground_ml, rel=0.03)


def test_an_image_like_those_of_the_training_raises_no_doubt(card: ModelCard) -> None:
    assert codes(card, ball(17.5, seed=9)) == []
    assert codes(card, ball(20.0, seed=9)) == []


def test_other_intensity_scales_raise_no_doubt(card: ModelCard) -> None:
    volume = ball(17.5, seed=9)
    assert codes(card, volume.with_array(np.where(volume.array > 0, volume.array * 11 + 70, 70))) == []


def test_a_much_larger_or_smaller_foreground_is_unusual_and_the_text_has_both_volumes(card: ModelCard) -> None:
    small = ball(9.0, name="small ball")
    assert codes(card, small) == [SIZE_UNUSUAL]
    (doubt,) = doubts(card, facts(small))
    assert "small ball shows 3 ml" in doubt.text
    assert "balls was trained on 17 ml to 29 ml" in doubt.text
    assert "'none'" in doubt.text
    assert SIZE_UNUSUAL in codes(card, ball(23.0))


def test_an_image_without_background_is_unusual_where_the_training_had_some(card: ModelCard) -> None:
    volume = ball(17.5)
    crop = Volume(array=volume.array[7:17, 11:25, 16:32], ras_from_ijk=volume.ras_from_ijk)
    assert SIZE_UNUSUAL in codes(card, crop)


def test_background_is_unusual_where_the_training_had_crops_only(card: ModelCard, known: TrainingRange) -> None:
    crops = replace(card, training_range=replace(known, foreground_share=(0.97, 1.0, 1.0, 1.0, 1.0)))
    assert codes(card, ball(17.5)) == []
    assert codes(crops, ball(17.5)) == [SIZE_UNUSUAL]


def test_inverted_contrast_is_unusual(card: ModelCard) -> None:
    volume = ball(17.5)
    inverted = np.where(volume.array > 0, 520 - 0.2 * volume.array, 0)
    assert codes(card, volume.with_array(inverted)) == [INTENSITY_UNUSUAL]


@pytest.mark.parametrize("exponent", [0.4, 3.0])
def test_brighter_and_darker_histograms_are_unusual(card: ModelCard, exponent: float) -> None:
    volume = ball(17.5)
    bent = 500 * np.clip(volume.array / 500, 0, None) ** exponent
    assert codes(card, volume.with_array(bent)) == [INTENSITY_UNUSUAL]


@pytest.mark.parametrize(("factor", "expected"), [(0.2, True), (0.5, False), (1.5, False), (2.0, True)])
def test_spacing_is_far_when_much_finer_or_coarser(card: ModelCard, factor: float, expected: bool) -> None:
    low, high = spacing_range_mm(card) or (0, 0)
    assert (low, high) == pytest.approx((0.25, 4.0))
    volume = ball(17.5)
    scaled = facts(replace(volume, ras_from_ijk=volume.ras_from_ijk @ np.diag([factor, factor, factor, 1])))
    assert (SPACING_FAR in [doubt.code for doubt in doubts(card, scaled)]) is expected


def test_the_spacings_that_a_card_states_count_more_than_those_of_the_training(card: ModelCard) -> None:
    stated = replace(card, intended_use=IntendedUse(spacing_range_mm=(0.8, 2.0)))
    assert spacing_range_mm(stated) == (0.8, 2.0)
    assert codes(stated, ball(17.5)) == [SPACING_FAR]


def test_a_card_without_a_range_raises_no_doubt_and_is_never_chosen(card: ModelCard) -> None:
    silent = replace(card, training_range=None)
    assert codes(silent, ball(2.5)) == []
    assert choose([entry(silent)], lambda _: (facts(ball()),) * 2).model == "none"


def entry(card: ModelCard) -> CatalogEntry:
    path = Path("models") / f"{card.name}.safetensors"
    return CatalogEntry(
        name=card.name, weights_path=path, card_path=path.with_suffix(".json"), shipped=True, size_bytes=1, card=card
    )


def chosen(cards: list[ModelCard], *images: ImageFacts, **options: Any) -> str:
    return choose([entry(card) for card in cards], lambda _: images, **options).model


def test_a_pair_gets_the_model_that_knows_both_images(card: ModelCard) -> None:
    good, small = facts(ball(17.5)), facts(ball(9.0))
    assert chosen([card], good, good) == "balls"
    assert chosen([card], good, small) == "none"
    assert chosen([card], small, good) == "none"
    assert "another size" in choose([entry(card)], lambda _: (good, small)).reason


def test_across_modalities_only_models_for_any_modality_are_chosen(card: ModelCard) -> None:
    good = facts(ball(17.5))
    assert chosen([card], good, good, one_modality=False) == "none"
    anything = replace(card, name="any", intended_use=IntendedUse(modality="any"))
    assert chosen([card, anything], good, good, one_modality=False) == "any"


def test_a_model_for_any_modality_does_not_mind_intensities_but_size_and_spacing(card: ModelCard) -> None:
    anything = replace(card, name="any", intended_use=IntendedUse(modality="any", body_part="brain"))
    strange = ball(17.0, contrast=3.0)
    assert codes(card, strange) == [INTENSITY_UNUSUAL]
    assert codes(anything, strange) == []
    assert codes(anything, ball(10.0)) == [SIZE_UNUSUAL]
    pair = facts(ball(17.0)), facts(strange)
    assert chosen([card, anything], *pair) == "any"
    assert chosen([anything], *pair) == "any"


def test_a_model_of_the_images_own_modality_comes_before_one_for_any(card: ModelCard) -> None:
    anything = replace(card, name="a-first-name", intended_use=IntendedUse(modality="any", body_part="brain"))
    assert chosen([anything, card], facts(ball(17.0)), facts(ball(18.0))) == "balls"


def test_of_several_fitting_models_named_words_then_closeness_then_the_name_decide(card: ModelCard) -> None:
    good = facts(ball(17.5))
    other = replace(card, name="a-liver", intended_use=IntendedUse(body_part="abdomen"))
    assert chosen([card, other], good, good) == "a-liver"
    assert chosen([card, other], replace(good, name="Brain_1"), good) == "balls"
    unnamed = replace(card, name="a-plain", intended_use=IntendedUse())
    assert chosen([card, unnamed], good, good) == "a-plain"
    assert chosen([card, unnamed], replace(good, name="Brain_1"), good) == "balls"
    finer = replace(card, name="a-fine", preprocessing=Preprocessing(spacing_mm=(0.5, 0.5, 0.5)))
    assert chosen([finer, card], good, good) == "balls"


def test_damaged_models_are_left_out(card: ModelCard) -> None:
    damaged = replace(entry(card), card=None, problem="It is damaged.")
    assert choose([damaged], lambda _: (facts(ball()),) * 2).model == "none"


def test_words_are_found_in_names_as_programs_write_them() -> None:
    assert body_parts("MRBrainTumor1") == {"brain"}
    assert body_parts("hippocampus_001.nii.gz") == {"hippocampus"}
    assert body_parts("IXI012-HH-1211") == frozenset()
    assert body_parts("3: T1 AX HEAD") == {"brain"}
    assert modalities("CT_day1") == {"CT"}
    assert modalities("sub-01_T1w") == {"MR T1"}
    assert modalities("T2 FLAIR tra") == {"MR T2"}
    assert modalities("fixed, pt 3, US site") == frozenset()
    assert body_parts("chip, ship and charm") == frozenset()


@pytest.mark.parametrize(
    ("name", "body_part", "modality", "expected"),
    [
        ("CTChest", "brain", "MR T1w", (True, True)),
        ("hippocampus_3", "brain", "MR T1w", (False, False)),
        ("brain MR", "hippocampus", "MR T1w", (False, False)),
        ("brain T2", "brain", "MR T1w", (False, True)),
        ("liver CT", "abdomen", "any", (False, False)),
        ("patient 7", "brain", "CT", (False, False)),
    ],
)
def test_names_contradict_what_a_model_is_for(
    name: str, body_part: str, modality: str, expected: tuple[bool, bool]
) -> None:
    assert (contradicts_body_part(name, body_part), contradicts_modality(name, modality)) == expected


@pytest.fixture
def installed(card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """The card with some weights in the user's folder, and nothing else."""
    folder = tmp_path / "Modelle äöü"
    monkeypatch.setenv("AUTOFUSE_MODELS", str(folder))
    monkeypatch.setattr(catalog, "SHIPPED_FOLDER", tmp_path / "none")
    path = write_model(folder, card.name).with_suffix(".json")
    weights = json.loads(path.read_text(encoding="utf-8"))["weights"]
    content = json.dumps({**card.to_dict(), "weights": weights}, ensure_ascii=False)
    path.write_text(content, encoding="utf-8")
    return card


def test_automatic_becomes_a_name_in_the_configuration_and_says_why(installed: ModelCard) -> None:
    events: list[Event] = []
    config, told = settle_model(RegistrationConfig(), ball(17.0), ball(18.0), events.append)
    assert config == RegistrationConfig(model="balls")
    assert (told["asked"], told["used"]) == ("auto", "balls")
    assert "like those of its training (MR T1w brain)" in told["reason"]
    assert not [event for event in events if isinstance(event, Warning)]


def test_automatic_becomes_none_without_a_warning_where_nothing_fits(installed: ModelCard) -> None:
    events: list[Event] = []
    config, told = settle_model(RegistrationConfig(), ball(17.0), ball(9.0), events.append)
    assert config.model == "none"
    assert "balls: trained on images of another size" in told["reason"]
    assert not [event for event in events if isinstance(event, Warning)]


def test_passes_that_nothing_can_take_are_told(installed: ModelCard) -> None:
    events: list[Event] = []
    config, _ = settle_model(RegistrationConfig(passes=2), ball(17.0), ball(9.0), events.append)
    assert (config.model, config.passes) == ("none", 1)
    assert [event.code for event in events if isinstance(event, Warning)] == ["passes-unused"]


def test_a_model_that_was_named_is_used_with_warnings_and_the_verdict_tells(installed: ModelCard) -> None:
    events: list[Event] = []
    config, told = settle_model(RegistrationConfig(model="balls"), ball(17.0), ball(9.0, name="tiny"), events.append)
    assert (config.model, told["used"]) == ("balls", "balls")
    (warning,) = (event for event in events if isinstance(event, Warning))
    assert warning.code == SIZE_UNUSUAL
    assert "tiny" in warning.text
    metrics = {"before": {"ncc": 0.2}, "after": {"ncc": 0.9}}
    verdict = judge({"metrics": metrics, "warnings": [{"code": warning.code, "text": warning.text}]})
    assert verdict.level == "check"
    assert "the model was not trained on such images" in verdict.text


def test_none_measures_nothing_and_an_unknown_name_fails_before_anything_else(installed: ModelCard) -> None:
    config, told = settle_model(RegistrationConfig(model="none"), ball(17.0), ball(9.0), lambda event: None)
    assert (config.model, told["used"]) == ("none", "none")
    with pytest.raises(ModelError, match="'bals'"):
        settle_model(RegistrationConfig(model="bals"), ball(17.0), ball(9.0), lambda event: None)


def test_facts_and_ranges_survive_json(card: ModelCard) -> None:
    measured = facts(ball())
    assert ImageFacts.from_dict(json.loads(json.dumps(measured.to_dict()))) == measured
    assert ModelCard.from_dict(json.loads(json.dumps(card.to_dict()))) == card


def test_a_range_is_the_percentiles_that_numpy_gives(known: TrainingRange) -> None:
    images = [facts(ball(radius, seed=number)) for number, radius in enumerate((16.0, 17.0, 18.0, 19.0))]
    for name in intensity_names():
        values = [image.intensities[name] for image in images if image.intensities]
        assert known.intensities[name] == pytest.approx(np.percentile(values, (0, 5, 50, 95, 100)), abs=1e-4)
    volumes = [image.foreground_ml or 0 for image in images]
    assert known.foreground_ml == pytest.approx(np.percentile(volumes, (0, 5, 50, 95, 100)), abs=1e-3)


def test_ranges_that_fall_or_lack_a_figure_are_refused(known: TrainingRange) -> None:
    content = known.to_dict()
    with pytest.raises(ValueError, match="do not fall"):
        TrainingRange.from_dict({**content, "spacing_mm": [2, 1, 1, 1, 1]})
    with pytest.raises(ValueError, match="five numbers"):
        TrainingRange.from_dict({**content, "foreground_ml": [1, 2]})
    with pytest.raises(ValueError, match="intensities"):
        TrainingRange.from_dict({**content, "intensities": {"mean": [0, 0, 0, 0, 0]}})
    with pytest.raises(ValueError, match="at least one image"):
        TrainingRange.of_images([], {})


def test_without_any_model_the_reason_is_that_there_is_none() -> None:
    assert choose([], lambda card: ()).reason == "no model is installed"
