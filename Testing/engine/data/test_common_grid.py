"""The common grid holds what all cases show, in the wished orientation, and meets the reference's voxels."""

from __future__ import annotations

import numpy as np
import pytest
from dataset_folder import HALF_AXES_MM, KERNELS, egg

from autofuse_engine.data.case_facts import CaseFacts
from autofuse_engine.data.common_grid import axes_of, boxes_of, common_grid, holds, most_usual_case, usual_spacing_mm
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.dataset_configs import PreparationConfig
from autofuse_engine.errors import InputError


def facts(name: str, extent: tuple[float, float, float], split: str = "train", **more: object) -> CaseFacts:
    return CaseFacts(name=name, split=split, group=name, extent_mm=extent, **more)  # type: ignore[arg-type]


def kernels_only(labels: Volume) -> Volume:
    return labels.with_array(np.where(labels.array > 2, labels.array, 0))


def test_the_reference_is_the_training_case_of_median_size() -> None:
    cases = [
        facts("small", (80, 90, 70)),
        facts("middle", (100, 120, 98)),
        facts("large", (140, 160, 130)),
        facts("odd", (100, 240, 98)),
        facts("exact", (100, 120, 98), split="test"),
    ]
    assert most_usual_case(cases) == "middle"
    assert most_usual_case([facts("b", (9, 9, 9)), facts("a", (9, 9, 9))]) == "a"


def test_the_usual_spacing_follows_the_patient_not_the_file() -> None:
    cases = [
        facts("a", (9, 9, 9), spacing_mm=(1.0, 1.2, 3.0), orientation="LPS"),
        facts("b", (9, 9, 9), spacing_mm=(3.0, 1.0, 1.2), orientation="SRA"),
        facts("c", (9, 9, 9), spacing_mm=(1.1, 3.0, 1.3), orientation="RIA"),
    ]
    assert usual_spacing_mm(cases, "RAS") == (1.0, 1.2, 3.0)
    assert usual_spacing_mm(cases, "PIR") == (1.2, 3.0, 1.0)


@pytest.mark.parametrize("orientation", ["RAS", "LIA", "PSR"])
def test_axes_point_to_the_wished_sides_and_stay_at_right_angles(orientation: str) -> None:
    axes = axes_of(egg(2)[0], orientation)
    sides = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    for axis, letter in enumerate(orientation):
        ras, sign = sides[letter]
        assert sign * axes[ras, axis] > np.cos(np.deg2rad(9))
    np.testing.assert_allclose(axes[:3, :3].T @ axes[:3, :3], np.eye(3), atol=1e-12)


def grid_of(numbers: list[int], spacing: tuple[float, float, float], config: PreparationConfig | None = None) -> tuple:
    reference = egg(0)[0]
    axes = axes_of(reference, "RAS")
    boxes = [boxes_of(image, kernels_only(labels), axes, np.eye(4)) for image, labels in map(egg, numbers)]
    return common_grid(boxes, axes, np.array([1.9, 2.1, 2.4]), spacing, config or PreparationConfig()), axes, boxes


def test_the_grid_holds_all_eggs_with_a_margin_in_multiples_of_sixteen() -> None:
    grid, axes, boxes = grid_of([0, 1, 2, 3, 4], (2.0, 2.0, 2.0))
    assert all(side % 16 == 0 for side in grid.shape)
    np.testing.assert_allclose(grid.spacing_mm, 2.0)
    for box in boxes:
        assert holds(grid, axes, box.shown)
        assert box.labelled is not None
        assert holds(grid, axes, box.labelled)
    ijk = map_points(np.linalg.inv(grid.ras_from_ijk), np.array([[0.0, 0.0, 0.0]]))[0]
    assert (np.abs(ijk - (np.array(grid.shape[::-1]) - 1) / 2) < 3).all(), "the egg lies in the middle"
    assert (np.array(grid.shape[::-1]) * 2.0 >= 2 * HALF_AXES_MM).all()


def test_boxes_agree_with_the_closed_form() -> None:
    _, axes, boxes = grid_of([0], (2.0, 2.0, 2.0))
    middle = map_points(np.linalg.inv(axes), np.zeros(3))
    shown, labelled = boxes[0].shown, boxes[0].labelled
    np.testing.assert_allclose((np.array(shown.low_mm) + shown.high_mm) / 2, middle, atol=1.0)
    assert labelled is not None
    points = map_points(np.linalg.inv(axes), np.stack(list(KERNELS.values())))
    outside = (np.array(labelled.low_mm) - (points.min(axis=0) - 5.5), points.max(axis=0) + 5.5 - labelled.high_mm)
    assert (np.array(outside) > -0.3).all(), "voxel centres lie within the kernels"
    assert (np.array(outside) < 2.4).all(), "and less than one voxel from their surface"


def test_crops_count_by_what_half_of_them_show_and_a_label_always_counts() -> None:
    """Noise fills the images to their faces: fields of view of 40 to 76 mm, of which the median is 58."""
    rng = np.random.default_rng(0)
    axes, boxes = np.eye(4), []
    for number in range(7):
        side = 40 + 6 * number
        matrix = np.eye(4)
        matrix[:3, 3] = -(side - 1) / 2
        image = Volume(array=rng.normal(500, 99, (side, side, side)), ras_from_ijk=matrix)
        labels = image.with_array(np.zeros(image.shape, np.uint8))
        labels.array[side // 2, side // 2, side - 1 if number == 6 else side // 2] = 1
        boxes.append(boxes_of(image, labels, axes, np.eye(4)))
    assert all(box.filled for box in boxes)
    assert not grid_of([0], (2.0, 2.0, 2.0))[2][0].filled
    grid = common_grid(boxes, axes, np.ones(3), (1.0, 1.0, 1.0), PreparationConfig(margin_vox=0))
    assert grid.shape == (64, 64, 80), "58 voxels need 64, and along i the label at 37.5 mm needs more"


def test_at_the_reference_spacing_voxels_coincide() -> None:
    grid, _, _ = grid_of([0, 3], (1.9, 2.1, 2.4))
    indices = map_points(np.linalg.inv(egg(0)[0].ras_from_ijk), map_points(grid.ras_from_ijk, np.array([[3, 5, 7]])))
    np.testing.assert_allclose(indices, np.round(indices), atol=1e-6)


def test_a_given_size_is_kept_and_what_it_cuts_is_known() -> None:
    grid, axes, boxes = grid_of([0, 1], (1.0, 1.0, 1.0), PreparationConfig(size=(16, 48, 32)))
    assert grid.shape == (32, 48, 16)
    assert not holds(grid, axes, boxes[0].shown)
    assert boxes[0].labelled is not None
    assert not holds(grid, axes, boxes[0].labelled)


def test_a_grid_of_absurd_size_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        grid_of([0], (0.05, 0.05, 0.05))
    assert caught.value.code == "grid-too-large"


def test_the_alignment_moves_the_box() -> None:
    image, labels = egg(0)
    axes = axes_of(image, "RAS")
    shift = np.eye(4)
    shift[:3, 3] = [30.0, -20.0, 10.0]
    here, there = (boxes_of(image, kernels_only(labels), axes, matrix) for matrix in (np.eye(4), shift))
    moved = np.linalg.inv(axes[:3, :3]) @ shift[:3, 3]
    np.testing.assert_allclose(np.array(here.shown.low_mm) - there.shown.low_mm, moved, atol=1e-5)
    assert here.labelled is not None
    assert there.labelled is not None
    np.testing.assert_allclose(np.array(here.labelled.high_mm) - there.labelled.high_mm, moved, atol=1e-5)
