"""Initial alignment: recovers known moves of synthetic images, the same way each time, and stops when asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from geometry_cases import placed, turn

from autofuse_engine.data.affine import align, require_overlap
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.errors import CancelledError, InputError
from autofuse_engine.events import Event, Progress

SHAPE = (26, 34, 30)
FIXED_PLACE = placed(turn((1, 2, -1), 20) @ np.diag([3.0, 2.5, 4.0]), (12.0, -33.0, 7.0))
MOVING_PLACE = placed(turn((0, 1, 1), -15) @ np.diag([-3.5, 3.0, 3.0]), (60.0, -40.0, 10.0))


def anatomy(points_mm: np.ndarray, organ_contrast: float = 1.0) -> np.ndarray:
    """A lopsided body with organs, defined everywhere in space; air around it is 0."""

    def blob(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        distance = (((points_mm - centre) / radii) ** 2).sum(axis=-1)
        return 1 / (1 + np.exp(np.minimum(8 * (distance - 1), 50)))

    body = np.maximum(blob((0, 0, 0), (38, 26, 32)), blob((22, 14, -16), (16, 12, 12)))
    organs = 2 * blob((12, -8, 10), (9, 7, 12)) - 0.8 * blob((-15, 6, -8), (10, 9, 7)) + blob((3, 14, -14), (6, 5, 9))
    return 100 * body * (1 + organ_contrast * organs)


def picture(
    place: np.ndarray,
    anatomy_from_ras: np.ndarray,
    shape: tuple[int, int, int] = SHAPE,
    organ_contrast: float = 1.0,
) -> Volume:
    """The anatomy as a grid at ``place`` sees it."""
    k, j, i = np.indices(shape)
    points = map_points(place, np.stack([i, j, k], axis=-1))
    values = anatomy(map_points(anatomy_from_ras, points), organ_contrast).astype(np.float32)
    return Volume(array=np.where(values < 1, 0, values), ras_from_ijk=place, name="anatomy")


FIXED_CENTRE = map_points(FIXED_PLACE, (np.array(SHAPE[::-1]) - 1) / 2)
ANATOMY_FROM_FIXED = placed(np.eye(3), tuple(-FIXED_CENTRE))
FIXED = picture(FIXED_PLACE, ANATOMY_FROM_FIXED)


def moved_by(moving_from_fixed: np.ndarray, place: np.ndarray = MOVING_PLACE, organ_contrast: float = 1.0) -> Volume:
    """The same anatomy after a known move, on another grid that covers it."""
    centre = map_points(moving_from_fixed, FIXED_CENTRE)
    covering = place.copy()
    covering[:3, 3] += centre + np.array([4, -3, 5]) - map_points(place, (np.array(SHAPE[::-1]) - 1) / 2)
    return picture(covering, ANATOMY_FROM_FIXED @ np.linalg.inv(moving_from_fixed), organ_contrast=organ_contrast)


def error_mm(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest distance between both maps over the body."""
    points = FIXED_CENTRE + np.random.default_rng(0).uniform(-25, 25, size=(200, 3))
    return float(np.linalg.norm(map_points(found, points) - map_points(wanted, points), axis=1).max())


def about_centre(linear: np.ndarray, shift: tuple[float, float, float]) -> np.ndarray:
    return placed(linear, tuple(FIXED_CENTRE - linear @ FIXED_CENTRE + shift))


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, -1, 1)])
@pytest.mark.parametrize("degrees", [30, -30])
def test_rigid_recovers_a_turn_of_thirty_degrees_and_sixty_millimetres(axis: tuple, degrees: float) -> None:
    wanted = about_centre(turn(axis, degrees), (40, -36, 26))
    result = align(FIXED, moved_by(wanted), "rigid")
    linear = result.moving_from_fixed_ras[:3, :3]
    assert error_mm(result.moving_from_fixed_ras, wanted) < 0.5
    assert linear.T @ linear == pytest.approx(np.eye(3), abs=1e-9)
    assert result.information_after > 0.5
    assert result.overlap > 0.9


def test_even_a_quarter_turn_is_recovered() -> None:
    wanted = about_centre(turn((1, 0, 0), 90), (40, -36, 26))
    assert error_mm(align(FIXED, moved_by(wanted), "rigid").moving_from_fixed_ras, wanted) < 0.5


def test_affine_recovers_scales_and_shears() -> None:
    wanted = about_centre(
        turn((1, 2, 3), 10) @ np.array([[1.12, 0.06, 0], [0, 0.92, -0.05], [0.04, 0, 1.05]]), (5, 9, -7)
    )
    result = align(FIXED, moved_by(wanted), "affine")
    assert error_mm(result.moving_from_fixed_ras, wanted) < 0.8
    assert result.information_after > result.information_before


def test_images_in_other_contrast_are_aligned() -> None:
    wanted = about_centre(turn((0, 1, 0), 12), (8, -6, 4))
    moving = moved_by(wanted, organ_contrast=-0.3)
    plain = moved_by(wanted).array
    inside = plain > 80
    assert np.corrcoef(moving.array[inside], plain[inside])[0, 1] < 0
    assert error_mm(align(FIXED, moving, "rigid").moving_from_fixed_ras, wanted) < 1.0


def test_thick_slices_are_aligned() -> None:
    wanted = about_centre(turn((0, 0, 1), 10), (6, 5, -4))
    place = placed(np.diag([1.5, 1.5, 8.0]), (0, 0, 0))
    covering = moved_by(wanted)
    place[:3, 3] = covering.center_ras - map_points(place, np.array([31.5, 29.5, 6.0]))
    moving = picture(place, ANATOMY_FROM_FIXED @ np.linalg.inv(wanted), (13, 60, 64))
    assert error_mm(align(FIXED, moving, "rigid").moving_from_fixed_ras, wanted) < 1.5


def test_centres_bring_the_fields_of_view_together_and_moments_the_masses() -> None:
    moving = moved_by(about_centre(np.eye(3), (20, 10, -30)))
    centres = align(FIXED, moving, "centers").moving_from_fixed_ras
    assert centres == pytest.approx(placed(np.eye(3), tuple(moving.center_ras - FIXED.center_ras)))
    masses = []
    for volume in (FIXED, moving):
        k, j, i = np.nonzero(volume.array)
        weights = np.minimum(volume.array, np.percentile(volume.array, 99.5))[k, j, i]
        masses.append(np.average(map_points(volume.ras_from_ijk, np.stack([i, j, k], axis=1)), axis=0, weights=weights))
    moments = align(FIXED, moving, "moments").moving_from_fixed_ras
    assert moments[:3, :3] == pytest.approx(np.eye(3))
    assert moments[:3, 3] == pytest.approx(masses[1] - masses[0], abs=1e-3)
    assert moments[:3, 3] == pytest.approx([20, 10, -30], abs=0.5)


def test_none_is_the_identity_when_the_images_overlap() -> None:
    result = align(FIXED, moved_by(about_centre(np.eye(3), (5, 0, 0))), "none")
    assert np.array_equal(result.moving_from_fixed_ras, np.eye(4))
    assert result.information_after == result.information_before


def test_two_runs_agree_bit_for_bit_whatever_the_number_of_threads() -> None:
    moving = moved_by(about_centre(turn((1, 1, 0), 15), (10, 0, 20)))
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        results = []
        for threads in (1, 2, 5):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            results.append(align(FIXED, moving, "affine"))
            assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    assert results[0].moving_from_fixed_ras.tobytes() == results[1].moving_from_fixed_ras.tobytes()
    assert results[0].moving_from_fixed_ras.tobytes() == results[2].moving_from_fixed_ras.tobytes()
    assert results[0].information_after == results[2].information_after


@pytest.mark.parametrize(("masked_image", "cut"), [("moving", 16), ("fixed", 16)])
def test_only_what_the_masks_show_counts(masked_image: str, cut: int) -> None:
    wanted = about_centre(turn((0, 0, 1), 8), (6, -4, 2))
    images = {"fixed": FIXED, "moving": moved_by(wanted)}
    spoilt = images[masked_image].array.copy()
    spoilt[:, cut:] = 150.0  # a block as bright as the body
    clean = np.ones(SHAPE, np.uint8)
    clean[:, cut - 1 :] = 0
    mask = images[masked_image].with_array(clean)
    images[masked_image] = images[masked_image].with_array(spoilt)
    unmasked = align(images["fixed"], images["moving"], "rigid")
    masked = align(images["fixed"], images["moving"], "rigid", **{f"{masked_image}_mask": mask})
    assert error_mm(masked.moving_from_fixed_ras, wanted) < 2.0
    assert error_mm(unmasked.moving_from_fixed_ras, wanted) > 5.0


def test_progress_rises_and_belongs_to_the_initial_alignment() -> None:
    told: list[Event] = []
    align(FIXED, moved_by(about_centre(np.eye(3), (5, 0, 0))), "affine", report=told.append)
    fractions = [event.fraction for event in told if isinstance(event, Progress)]
    assert len(fractions) == len(told) >= 5
    assert fractions == sorted(fractions)
    assert 0 < fractions[0] < fractions[-1] < 1
    assert {event.stage for event in told if isinstance(event, Progress)} == {"initial alignment"}


@pytest.mark.parametrize("asked", [1, 3, 8])
def test_cancelling_stops_at_the_next_step(asked: int) -> None:
    calls = 0

    def cancelled() -> bool:
        nonlocal calls
        calls += 1
        return calls >= asked

    with pytest.raises(CancelledError):
        align(FIXED, moved_by(about_centre(np.eye(3), (5, 0, 0))), "affine", cancelled=cancelled)
    assert calls == asked


def test_images_far_apart_are_refused_unless_they_are_brought_together() -> None:
    far = moved_by(about_centre(np.eye(3), (500, 0, 0)))
    with pytest.raises(InputError) as caught:
        align(FIXED, replace(far, name="far away"), "none")
    assert caught.value.code == "no-overlap"
    assert "0 percent of anatomy and far away" in caught.value.text
    assert "affine" in caught.value.hint
    brought = align(FIXED, far, "rigid")
    assert np.isnan(brought.information_before)
    assert error_mm(brought.moving_from_fixed_ras, about_centre(np.eye(3), (500, 0, 0))) < 0.5


def test_masks_that_leave_nothing_in_common_are_refused() -> None:
    halves = [np.zeros(SHAPE, np.uint8) for _ in range(2)]
    halves[0][:8], halves[1][-8:] = 1, 1
    same = replace(FIXED, array=FIXED.array.copy())
    masks = [FIXED.with_array(half) for half in halves]
    with pytest.raises(InputError) as caught:
        require_overlap(FIXED, same, np.eye(4), *masks)
    assert caught.value.code == "no-overlap"
    assert require_overlap(FIXED, same, np.eye(4)) == pytest.approx(1.0)


def test_a_part_overlaps_with_the_whole() -> None:
    crop = Volume(
        array=FIXED.array[10:16, 12:22, 10:20], ras_from_ijk=FIXED.ras_from_ijk @ placed(np.eye(3), (10, 12, 10))
    )
    assert require_overlap(FIXED, crop, np.eye(4)) > 0.95
    assert require_overlap(crop, FIXED, np.eye(4)) > 0.95


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="received 'elastic'"):
        align(FIXED, FIXED, "elastic")  # type: ignore[arg-type]
