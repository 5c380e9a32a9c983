"""Images at several resolutions: they stay in their place, keep their mean, and know their own coordinates."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from geometry_cases import FLIPPED, OBLIQUE, RAS_SIGNS, placed

from autofuse_engine.data.pyramid import Pyramid
from autofuse_engine.data.volume import Volume, map_points

SHAPE = (24, 30, 36)
COUNTS = (500, 4000, 10**9)
CENTER_LPS = np.array([3.0, -4.0, 5.0])


def ball_volume(matrix: np.ndarray = OBLIQUE, air: float = 0.0) -> Volume:
    """A smooth ball off the middle; its border is air."""
    k, j, i = np.indices(SHAPE)
    squares = ((i - 20) / 7) ** 2 + ((j - 13) / 6) ** 2 + ((k - 10) / 5) ** 2
    return Volume(array=(air + 200 * np.exp(-squares)).astype(np.float32), ras_from_ijk=matrix)


def pyramid(volume: Volume, mask: Volume | None = None, **options: bool) -> Pyramid:
    return Pyramid(volume, mask, COUNTS, center_lps=CENTER_LPS, unit_mm=8.0, **options)


def centre_of_mass_ras(image: sitk.Image, lps_from_norm: np.ndarray) -> np.ndarray:
    array = sitk.GetArrayFromImage(image).astype(float)
    array -= array.min()
    k, j, i = np.indices(array.shape)
    index = [float((axis * array).sum() / array.sum()) for axis in (i, j, k)]
    return map_points(lps_from_norm, np.array(image.TransformContinuousIndexToPhysicalPoint(index))) * RAS_SIGNS


@pytest.mark.parametrize("matrix", [OBLIQUE, FLIPPED])
def test_every_level_shows_the_ball_in_the_same_place(matrix: np.ndarray) -> None:
    made = pyramid(ball_volume(matrix))
    wanted = map_points(matrix, np.array([20.0, 13.0, 10.0]))
    spacing = np.linalg.norm(matrix[:3, :3], axis=0).max()
    for image in made.images:
        assert np.linalg.norm(centre_of_mass_ras(image, made.lps_from_norm) - wanted) < 0.3 * spacing


def test_levels_run_from_coarse_to_fine_and_never_finer_than_the_image() -> None:
    sizes = [image.GetNumberOfPixels() for image in pyramid(ball_volume()).images]
    assert sizes[0] == pytest.approx(500, rel=0.3)
    assert sizes[1] == pytest.approx(4000, rel=0.3)
    assert sizes[2] == np.prod(SHAPE)


def test_coarse_voxels_are_as_cubic_as_the_image_allows() -> None:
    volume = ball_volume(placed(np.diag([0.5, 0.5, 12.0]), (0, 0, 0)))
    coarse = pyramid(volume).images[0]
    spacing_mm = np.array(coarse.GetSpacing()) * 8.0
    assert spacing_mm[2] == pytest.approx(12.0)  # thick slices are kept
    assert spacing_mm[0] == pytest.approx(spacing_mm[1], rel=0.2)
    assert spacing_mm[0] > 1.0


def test_the_mean_is_kept_on_every_level() -> None:
    means = [sitk.GetArrayFromImage(image).mean() for image in pyramid(ball_volume(), room=False).images]
    assert means == pytest.approx([means[-1]] * 3, rel=0.1)


def test_intensities_are_clipped_to_their_range() -> None:
    volume = ball_volume()
    volume.array[0, 0, :3] = 1e7
    assert sitk.GetArrayFromImage(pyramid(volume).images[-1]).max() < 200


def test_room_is_added_around_an_image_in_air_only() -> None:
    aired = pyramid(ball_volume(), room=True).images[-1]
    assert aired.GetSize() == tuple(side + 2 * int(np.ceil(side / 4)) for side in SHAPE[::-1])
    full = ball_volume().with_array(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))
    assert pyramid(full, room=True).images[-1].GetSize() == SHAPE[::-1]


def test_the_mask_is_the_given_one_or_the_foreground_with_a_margin() -> None:
    volume = ball_volume()
    given = volume.with_array((volume.array > 100).astype(np.int16) * 5)
    mask = pyramid(volume, given).mask
    assert mask is not None
    assert np.array_equal(sitk.GetArrayFromImage(mask), (given.array > 0).astype(np.uint8))
    assert pyramid(volume).mask is None
    own = pyramid(volume, own_foreground=True).mask
    assert own is not None
    shown = volume.array > 20.1
    covered = sitk.GetArrayFromImage(own).astype(bool)
    assert covered[shown].all()
    assert shown.sum() < covered.sum() < covered.size


def test_what_lies_outside_of_a_mask_does_not_show() -> None:
    volume = ball_volume()
    mask = volume.with_array(np.ones(SHAPE, np.uint8))
    mask.array[:, 20:] = 0
    spoilt = volume.with_array(volume.array.copy())
    spoilt.array[:, 20:] = 5000.0
    for plain, other in zip(pyramid(volume, mask).images, pyramid(spoilt, mask).images, strict=True):
        assert np.array_equal(sitk.GetArrayFromImage(plain), sitk.GetArrayFromImage(other))


def test_coordinates_are_in_units_around_the_centre() -> None:
    made = pyramid(ball_volume())
    assert map_points(made.lps_from_norm, np.array([1.0, 0.0, -2.0])) == pytest.approx([11.0, -4.0, -11.0])
    corner = np.array(made.images[-1].TransformIndexToPhysicalPoint((0, 0, 0)))
    assert map_points(made.lps_from_norm, corner) * RAS_SIGNS == pytest.approx(OBLIQUE[:3, 3])
