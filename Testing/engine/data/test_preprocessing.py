"""Foreground, working grid and intensities: nothing may depend on how a file stores its axes."""

import numpy as np
import pytest

from autofuse_engine.data.preprocessing import (
    axes_towards,
    foreground,
    normalised,
    suitable_spacing_mm,
    working_grid,
)
from autofuse_engine.data.volume import AxisOrder, Volume, map_points


def blob(background: float = 0.0, noise: float = 0.0) -> Volume:
    k, j, i = np.indices((30, 40, 50))
    array = np.where(((k - 12) / 8) ** 2 + ((j - 22) / 12) ** 2 + ((i - 20) / 10) ** 2 < 1, 100.0, background)
    array = array + noise * np.random.default_rng(0).standard_normal(array.shape)
    angle = 0.2
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    matrix[:3, :3] *= [1.0, 1.5, 2.0]
    matrix[:3, 3] = (-30.0, 12.0, 5.0)
    return Volume(array=array.astype(np.float32), ras_from_ijk=matrix)


@pytest.mark.parametrize(("background", "noise"), [(0.0, 0.0), (-1000.0, 0.0), (0.0, 3.0), (180.0, 1.0)])
def test_the_foreground_is_the_blob_whatever_lies_around_it(background: float, noise: float) -> None:
    mask = foreground(blob(background, noise).array)
    truth = foreground(blob().array)
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.99


def test_without_contrast_at_the_border_everything_is_foreground() -> None:
    flat = np.zeros((10, 11, 12))
    flat[5, 5, 5] = 1.0
    assert foreground(flat).all()


def test_intensities_fill_the_unit_interval_and_outliers_are_clipped() -> None:
    array = blob(0.0, 2.0).array.copy()
    array[12, 22, 20] = 1e6
    values = normalised(array)
    assert values.dtype == np.float32
    assert 0.0 <= values.min() <= 0.05
    assert values.max() == 1.0
    assert np.median(values[foreground(array)]) > 0.8
    assert normalised(array, window=(-100.0, 100.0))[0, 0, 0] == pytest.approx(0.5, abs=0.05)


def test_the_working_grid_holds_the_foreground_and_its_sides_are_multiples() -> None:
    volume = blob()
    grid = working_grid(volume, (2.0, 2.0, 2.0), 16, "RAS")
    assert all(side % 16 == 0 for side in grid.shape)
    assert np.allclose(grid.spacing_mm, 2.0)
    places = np.argwhere(volume.array > 50)[:, ::-1]
    indices = map_points(np.linalg.inv(grid.ras_from_ijk) @ volume.ras_from_ijk, places)
    assert indices.min() >= 3.4
    assert (indices <= np.array(grid.shape[::-1]) - 4.4).all()


def test_voxels_coincide_where_the_spacing_is_the_images_own() -> None:
    volume = blob()
    grid = working_grid(volume, (1.0, 1.5, 2.0), 8, "RAS")
    offset = map_points(np.linalg.inv(volume.ras_from_ijk), grid.ras_from_ijk[:3, 3])
    assert np.allclose(offset, np.round(offset), atol=1e-9)


@pytest.mark.parametrize(
    "axes",
    [AxisOrder(order=(2, 0, 1), flips=(True, False, True)), AxisOrder(order=(0, 1, 2), flips=(True, True, False))],
)
@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (1.0, 1.5, 2.0)])
def test_the_stored_order_of_axes_has_no_influence(axes: AxisOrder, spacing: tuple[float, float, float]) -> None:
    volume = blob(noise=1.0)
    grid, other = (working_grid(item, spacing, 8, "RAS") for item in (volume, volume.reordered(axes)))
    assert grid.shape == other.shape
    assert np.allclose(grid.ras_from_ijk, other.ras_from_ijk, atol=1e-9)
    assert suitable_spacing_mm(volume) == pytest.approx(suitable_spacing_mm(volume.reordered(axes)))


def test_axes_run_towards_the_named_sides() -> None:
    volume = blob()
    turned = volume.reordered(axes_towards(volume.ras_from_ijk, "LIA"))
    columns = turned.directions_ras
    assert columns[0, 0] < -0.9  # i towards left
    assert columns[2, 1] < -0.9  # j towards inferior
    assert columns[1, 2] > 0.9  # k towards anterior


def test_large_images_get_a_coarser_working_spacing() -> None:
    image = np.ones((200, 200, 200), np.float32)
    image[::2] = 2.0
    assert suitable_spacing_mm(Volume(array=image, ras_from_ijk=np.diag([0.5, 0.5, 0.5, 1]))) > 0.9
    assert suitable_spacing_mm(blob()) == pytest.approx((1.0 * 1.5 * 2.0) ** (1 / 3))
