"""The robustness benchmark: disturbed images show the same patient, moved as the matrix says; failures are flagged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autofuse_engine.data.volume import Volume, map_points
from Testing.benchmarks.disturbances import AXIS_RAS, DISTURBANCES
from Testing.benchmarks.robustness import labels_inside, markdown, summarise

DIRECTIONS = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
SPACING = np.array([1.2, 2.0, 1.5])


def image() -> Volume:
    """A ball off the middle of an oblique, anisotropic grid; brighter towards one side."""
    matrix = np.eye(4)
    matrix[:3, :3] = DIRECTIONS * SPACING
    matrix[:3, 3] = (-20.0, 35.0, 11.0)
    k, j, i = np.indices((26, 22, 30))
    ball = ((i - 17) * 1.2) ** 2 + ((j - 9) * 2.0) ** 2 + ((k - 15) * 1.5) ** 2 < 9**2
    return Volume(array=(ball * (100 + 2 * i)).astype(np.float32), ras_from_ijk=matrix, name="ball")


def centre_ras(volume: Volume) -> np.ndarray:
    """Centre of mass, mm."""
    array = np.where(volume.array > 0.3 * volume.array.max(), volume.array, 0).astype(np.float64)
    k, j, i = np.nonzero(array)
    points = map_points(volume.ras_from_ijk, np.stack([i, j, k], axis=1))
    return (points * array[k, j, i][:, None]).sum(axis=0) / array.sum()


@pytest.mark.parametrize("name", [name for name in DISTURBANCES if not name.startswith(("field", "bias", "other"))])
def test_the_patient_is_where_the_matrix_takes_it(name: str) -> None:
    disturbed, matrix_ras = DISTURBANCES[name](image())
    expected = map_points(matrix_ras, centre_ras(image())[None])[0]
    np.testing.assert_allclose(centre_ras(disturbed), expected, atol=0.35)


@pytest.mark.parametrize("degrees", [10, 20, 30])
def test_a_rotation_turns_by_its_angle_about_an_oblique_axis(degrees: int) -> None:
    _, matrix_ras = DISTURBANCES[f"rotation {degrees} degrees"](image())
    turn = matrix_ras[:3, :3]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(turn @ AXIS_RAS, AXIS_RAS, atol=1e-12)
    assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) == pytest.approx(degrees)


def test_another_spacing_keeps_the_field_of_view() -> None:
    for name, spacing in (("1 mm input", 1.0), ("3 mm input", 3.0)):
        coarse, _ = DISTURBANCES[name](image())
        np.testing.assert_allclose(coarse.spacing_mm, spacing)
        np.testing.assert_allclose(coarse.center_ras, image().center_ras, atol=spacing)
        np.testing.assert_allclose(coarse.directions_ras, DIRECTIONS, atol=1e-12)


def test_labels_that_a_crop_cuts_are_not_judged() -> None:
    labels = image().with_array(np.zeros((26, 22, 30), np.uint8))
    labels.array[1:3], labels.array[4:7], labels.array[12:14] = 1, 2, 3
    cropped, _ = DISTURBANCES["field of view cropped 20 %"](image())
    assert cropped.shape == (21, 22, 30)
    np.testing.assert_array_equal(cropped.array, image().array[5:])
    assert labels_inside(labels, cropped) == {3}
    assert labels_inside(labels, image()) == {1, 2, 3}


def row(pair: int, disturbance: str, affine: float, whole: float, error: str | None = None) -> dict[str, Any]:
    facts: dict[str, Any] = {"pair": pair, "method": "model", "disturbance": disturbance, "error": error}
    return facts if error else facts | {"affine": {"1": affine, "2": affine}, "whole": {"1": whole, "2": whole}}


def test_a_pair_fails_where_the_method_loses_and_the_affine_did_not() -> None:
    rows = [
        row(0, "none", 0.5, 0.8), row(0, "noise 5 %", 0.5, 0.795), row(0, "scaling 1.15", 0.495, 0.78),
        row(0, "translation 35 mm", 0.3, 0.4), row(0, "3 mm input", 0.5, 0.0, error="image-too-small: too small"),
    ]  # fmt: skip
    found = {(entry["disturbance"], entry["method"]): entry for entry in summarise(rows)}
    assert found["noise 5 %", "model"]["failed"] == []
    assert found["noise 5 %", "model"]["change"] == pytest.approx(-0.005)
    assert found["scaling 1.15", "model"]["failed"] == [0]
    assert found["translation 35 mm", "model"]["failed"] == [], "the affine had failed before"
    assert found["3 mm input", "model"]["errors"] == [0]
    text = markdown(summarise(rows))
    assert "| scaling 1.15 | 49.5 (-0.5, -0.5) | 78.0 (-2.0, -2.0) | model: 1 of 1 |" in text
    assert "| none | 50.0 | 80.0 | - |" in text
