"""From velocities to transforms: taper, inverse, maps on the fixed grid, with ITK and closed forms as judges."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from autofuse_engine.data.files import to_sitk
from autofuse_engine.data.preprocessing import Grid
from autofuse_engine.data.transform_files import transform_to_sitk
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.deformation import (
    Deformation,
    deform,
    inverse_consistency_mm,
    maps,
    taper,
    transforms,
    uncertainty,
)
from autofuse_engine.spatial.smooth import smooth

SHAPE = (20, 24, 16)


def geometry() -> np.ndarray:
    angle = 0.35
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, -1]])
    matrix[:3, :3] *= [1.2, 0.9, 2.0]
    matrix[:3, 3] = (14.0, -20.0, 31.0)
    return matrix


GRID = Grid(shape=SHAPE, ras_from_ijk=geometry())
FIXED = Volume(array=np.ones((18, 20, 22), np.float32), ras_from_ijk=geometry() @ np.diag([0.7, 1.1, 0.8, 1.0]))
AFFINE = np.array([[1.05, 0.1, 0.0, 4.0], [-0.08, 0.97, 0.05, -3.0], [0.02, 0.0, 1.1, 2.0], [0, 0, 0, 1]])


def velocity(size: float = 2.0, seed: int = 0) -> torch.Tensor:
    field = smooth(torch.randn(1, 3, *SHAPE, generator=torch.Generator().manual_seed(seed)), 3.0)
    return size * field / field.norm(dim=1).amax()


def test_the_taper_falls_from_the_border_to_zero() -> None:
    field = torch.full((1, 3, 4, 5, 6), 2.0)
    wide = taper(field, 3)
    assert wide.shape == (1, 3, 10, 11, 12)
    assert torch.equal(wide[:, :, 3:-3, 3:-3, 3:-3], field)
    line = wide[0, 1, :, 5, 6]
    assert line.tolist() == pytest.approx([0.0, 0.5, 1.5, 2.0, 2.0, 2.0, 2.0, 1.5, 0.5, 0.0])


def test_a_transform_is_the_identity_far_away_and_its_inverse_undoes_it() -> None:
    deformation = deform(velocity(), GRID)
    forward, inverse = transforms(deformation, AFFINE)
    far = np.array([[500.0, 0.0, 0.0], [0.0, -400.0, 300.0]])
    assert np.allclose(forward.transform_points(far), map_points(AFFINE, far))
    rng = np.random.default_rng(0)
    inner = map_points(geometry(), rng.uniform((-10, -10, -10), (26, 34, 30), (500, 3)))
    error = np.linalg.norm(inverse.transform_points(forward.transform_points(inner)) - inner, axis=1)
    assert error.mean() < 0.05
    assert np.linalg.norm(forward.transform_points(inner) - map_points(AFFINE, inner), axis=1).max() > 1.0


def test_the_velocity_moves_along_the_axes_of_its_grid() -> None:
    constant = torch.zeros(1, 3, *SHAPE)
    constant[:, 2] = 1.5  # tensor axis 2 is i
    forward, _ = transforms(deform(constant, GRID), np.eye(4))
    start = map_points(geometry(), np.array([[8.0, 12.0, 10.0]]))
    assert np.allclose(forward.transform_points(start) - start, 1.5 * geometry()[:3, 0], atol=1e-4)


def test_the_maps_equal_those_of_itk() -> None:
    deformation = deform(velocity(1.5), GRID)
    forward, _ = transforms(deformation, AFFINE)
    found = maps(deformation, AFFINE, FIXED)
    reference = to_sitk(FIXED)
    field = sitk.TransformToDisplacementField(
        transform_to_sitk(forward), sitk.sitkVectorFloat64, reference.GetSize(), reference.GetOrigin(),
        reference.GetSpacing(), reference.GetDirection(),
    )  # fmt: skip
    vectors = sitk.GetArrayFromImage(field)
    assert np.abs(found.magnitude.array - np.linalg.norm(vectors, axis=-1)).max() < 1e-4
    k, j, i = np.indices(FIXED.shape)
    lps = np.diag([-1, -1, 1, 1]) @ FIXED.ras_from_ijk
    image_points = map_points(lps, np.stack([i, j, k], axis=-1)) + vectors
    corner = image_points[:-1, :-1, :-1]
    columns = [
        image_points[:-1, :-1, 1:] - corner,
        image_points[:-1, 1:, :-1] - corner,
        image_points[1:, :-1, :-1] - corner,
    ]
    expected = np.linalg.det(np.stack(columns, axis=-1)) / np.linalg.det(lps[:3, :3])
    assert np.abs(found.jacobian.array[:-1, :-1, :-1] - expected).max() < 1e-4
    assert found.folding_count == 0


def test_without_deformation_the_determinant_is_that_of_the_matrix() -> None:
    found = maps(None, AFFINE, FIXED)
    assert np.allclose(found.jacobian.array, np.linalg.det(AFFINE[:3, :3]), atol=1e-5)
    forward, inverse = transforms(None, AFFINE)
    points = np.array([[1.0, 2.0, 3.0]])
    assert np.allclose(inverse.transform_points(forward.transform_points(points)), points)


def test_folds_are_counted() -> None:
    fold = torch.zeros(1, 3, *SHAPE)
    fold[:, 0, 10:] = -8.0
    deformation = deform(fold * 0, GRID)
    broken = type(deformation)(grid=GRID, displacement_vox=fold, inverse_vox=fold)
    found = maps(broken, np.eye(4), FIXED)
    assert found.folding_count > 100
    assert found.folding_percent == pytest.approx(100 * found.folding_count / (17 * 19 * 21))
    assert deformation.grid.shape[0] > SHAPE[0]


def test_uncertainty_is_the_spread_of_the_samples_in_mm() -> None:
    samples = []
    for size in (-1.0, 0.0, 1.0):
        sample = torch.zeros(1, 3, *SHAPE)
        sample[:, 0] = size  # along k, where a voxel is 2 mm long
        samples.append(sample)
    spread = uncertainty(tuple(samples), torch.zeros(1, 3, *SHAPE), GRID, FIXED)
    assert spread is not None
    assert spread.array[9, 10, 11] == pytest.approx(2.0, rel=1e-3)
    assert uncertainty((), torch.zeros(1, 3, *SHAPE), GRID, FIXED) is None


def test_inverse_consistency_measures_millimetres() -> None:
    forward, _ = transforms(None, AFFINE)
    _, inverse = transforms(None, AFFINE + np.array([[0, 0, 0, 3.0], [0, 0, 0, 4.0], [0] * 4, [0] * 4]))
    figures = inverse_consistency_mm(forward, inverse, FIXED, np.ones(FIXED.shape, bool), 0)
    shift = np.linalg.norm(np.linalg.inv(AFFINE[:3, :3]) @ [3.0, 4.0, 0.0])
    assert figures["mean"] == pytest.approx(shift)
    assert figures["max"] == pytest.approx(shift)


def test_integration_and_maps_can_be_stopped_between_their_pieces() -> None:
    class StoppedError(Exception):
        pass

    velocity = torch.randn(1, 3, 9, 11, 10, generator=torch.Generator().manual_seed(2)) * 0.3
    grid = Grid(ras_from_ijk=np.diag([2.0, 1.5, 3.0, 1.0]), shape=(9, 11, 10))
    calls = 0

    def between() -> None:
        nonlocal calls
        calls += 1

    deformation = deform(velocity, grid, between=between)
    assert calls == 2 * 7 + 3 * 4 * 3
    whole, calls = calls, 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == whole - 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        deform(velocity, grid, between=stop)
    fixed = Volume(array=np.zeros((6, 8, 7), np.float32), ras_from_ijk=np.diag([2.0, 1.5, 3.0, 1.0]), name="fixed")
    calls = 0
    maps(deformation, np.eye(4), fixed, between=between)
    assert calls == 6


def test_the_worst_fold_is_found_where_it_was_made() -> None:
    shape, geometry = (10, 12, 14), np.diag([-2.0, 1.5, 3.0, 1.0])
    geometry[:3, 3] = (7.0, -4.0, 11.0)
    displacement = torch.zeros(1, 3, *shape)
    displacement[0, 2, :, :, 9:] = -3.0
    displacement[0, 2, 4, 5, 9:] = -6.0
    field = Deformation(
        grid=Grid(shape=shape, ras_from_ijk=geometry), displacement_vox=displacement, inverse_vox=-displacement
    )
    found = maps(field, np.eye(4), Volume(array=np.zeros(shape, np.float32), ras_from_ijk=geometry, name="fixed"))
    assert found.folding_count > 0
    assert found.worst_fold_ras == pytest.approx(map_points(geometry, np.array([8.5, 5.5, 4.5])))
    assert maps(None, np.eye(4), FIXED).worst_fold_ras is None
