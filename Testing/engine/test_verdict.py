"""The sentence below a result: which figures decide, and what it warns of."""

from __future__ import annotations

from typing import Any

import pytest

from autofuse_engine.verdict import judge


def report(before: dict[str, Any], after: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"metrics": {"before": before, "after": after}, "folding_percent": 0.0, "folding_count": 0, **more}


def test_better_labels_without_folds_are_good_and_the_figures_are_named() -> None:
    verdict = judge(report({"ncc": 0.4, "dice_mean": 0.61}, {"ncc": 0.9, "dice_mean": 0.82}))
    assert verdict.level == "good"
    assert "Dice 0.610 -> 0.820" in verdict.text
    assert "NCC" not in verdict.text
    assert "nothing folds" in verdict.text
    assert "pictures" in verdict.text


def test_better_intensities_do_not_outweigh_worse_labels() -> None:
    verdict = judge(report({"ncc": 0.4, "dice_mean": 0.61}, {"ncc": 0.9, "dice_mean": 0.55}))
    assert verdict.level == "bad"
    assert "do not use" in verdict.text


def test_smaller_landmark_error_is_better_and_larger_is_worse() -> None:
    assert judge(report({"tre_mean_mm": 6.0}, {"tre_mean_mm": 1.25})).level == "good"
    verdict = judge(report({"tre_mean_mm": 1.25}, {"tre_mean_mm": 6.0}))
    assert verdict.level == "bad"
    assert "landmark error 1.25 -> 6.00 mm" in verdict.text


def test_intensities_decide_where_nothing_else_is_known() -> None:
    assert judge(report({"ncc": 0.4, "dice_mean": None}, {"ncc": 0.9, "dice_mean": None})).level == "good"
    assert judge(report({"ncc": 0.9}, {"ncc": 0.4})).level == "bad"
    assert judge(report({"ncc": 0.900}, {"ncc": 0.901})).level == "check"


def test_across_modalities_the_correlation_of_intensities_says_nothing() -> None:
    origin = {"config": {"similarity": "mind"}}
    verdict = judge(report({"ncc": 0.9}, {"ncc": 0.1}, provenance=origin))
    assert verdict.level == "check"
    assert "no figure" in verdict.text


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_figures_that_are_missing_decide_nothing(missing: float | None) -> None:
    assert judge(report({"dice_mean": missing}, {"dice_mean": 0.9})).level == "check"


def test_many_folds_or_a_bad_inverse_turn_good_into_check() -> None:
    good = ({"dice_mean": 0.5}, {"dice_mean": 0.9})
    folded = judge(report(*good, folding_percent=2.5, folding_count=1234))
    assert folded.level == "check"
    assert "2.50 % of the cells fold" in folded.text
    uninverted = judge(report(*good, inverse_consistency_mm={"mean": 0.4, "p99": 3.2, "max": 9.0}))
    assert uninverted.level == "check"
    assert "3.2 mm" in uninverted.text


def test_one_fold_is_counted_and_not_hidden() -> None:
    verdict = judge(report({"dice_mean": 0.5}, {"dice_mean": 0.9}, folding_percent=0.002, folding_count=1))
    assert verdict.level == "good"
    assert "1 cell folds (0.002 %)" in verdict.text


def test_the_worst_fold_is_placed_in_the_directions_of_the_patient() -> None:
    good = ({"dice_mean": 0.5}, {"dice_mean": 0.9})
    folded = judge(report(*good, folding_percent=2.5, folding_count=1234, worst_fold_ras=(-12.4, 30.6, -5.0)))
    assert "2.50 % of the cells fold, worst near L 12, A 31, I 5 mm" in folded.text
    few = judge(report(*good, folding_percent=0.002, folding_count=1, worst_fold_ras=(12.0, -3.0, 40.0)))
    assert "1 cell folds (0.002 %), worst near R 12, P 3, S 40 mm" in few.text


GUIDED = {"classes": ["Anterior", "Posterior"], "labels": [1, 2], "fixed": True, "moving": True}


def test_intensities_say_nothing_where_the_labels_of_a_model_tell_of_two_contrasts() -> None:
    warned = {"warnings": [{"code": "labels-disagree", "text": "..."}]}
    verdict = judge(report({"ncc": 0.25}, {"ncc": -0.07}, **warned))
    assert verdict.level == "check"
    assert "no figure can tell whether it helped, and the model was not trained on such images" in verdict.text
    assert judge(report({"ncc": 0.25, "dice_mean": 0.6}, {"ncc": -0.07, "dice_mean": 0.5}, **warned)).level == "bad"


def test_an_image_that_was_shown_in_another_contrast_is_no_doubt_but_leaves_no_judge() -> None:
    warned = {"warnings": [{"code": "contrast-transferred", "text": "..."}]}
    verdict = judge(report({"ncc": 0.25}, {"ncc": -0.07}, **warned))
    assert verdict.level == "check"
    assert "no figure can tell whether it helped" in verdict.text
    assert "not trained" not in verdict.text
    assert judge(report({"ncc": 0.25, "dice_mean": 0.6}, {"ncc": -0.07, "dice_mean": 0.7}, **warned)).level == "good"


def guided(before: dict[Any, float], after: dict[Any, float], ncc: tuple[float, float], **more: Any) -> dict[str, Any]:
    """A report whose Dice are given by label, with their mean over all labels."""
    times = [{"dice": dice, "dice_mean": sum(dice.values()) / len(dice), "ncc": value}
             for dice, value in ((before, ncc[0]), (after, ncc[1]))]  # fmt: skip
    return report(*times, guidance={**GUIDED, **more})


def test_segments_that_guided_the_result_do_not_prove_it() -> None:
    verdict = judge(guided({1: 0.5, 2: 0.5}, {1: 0.9, 2: 0.9}, (0.7, 0.7)))
    assert verdict.level == "check"
    assert "Dice 0.5" not in verdict.text
    assert "The segmentation of Anterior and Posterior in both images guided this result" in verdict.text
    assert verdict.text.endswith("their Dice is no independent judge.")


def test_segments_that_guided_the_result_and_lie_worse_speak_against_it() -> None:
    verdict = judge(guided({"1": 0.8, "2": 0.8}, {"1": 0.6, "2": 0.8}, (0.7, 0.9), fixed=False, classes=["Anterior"]))
    assert verdict.level == "bad"
    assert "Dice of the guiding segments 0.800 -> 0.700" in verdict.text
    assert "The segmentation of Anterior in the moving image guided this result: its Dice" in verdict.text


def test_other_segments_still_judge_a_guided_result() -> None:
    better = judge(guided({1: 0.5, 2: 0.5, 3: 0.4}, {1: 0.9, 2: 0.9, 3: 0.6}, (0.7, 0.7)))
    assert better.level == "good"
    assert "Dice of the other segments 0.400 -> 0.600" in better.text
    worse = judge(guided({1: 0.5, 2: 0.5, 3: 0.6}, {1: 0.9, 2: 0.9, 3: 0.4}, (0.7, 0.7)))
    assert worse.level == "bad"
