"""The segmentations of a semi-supervised model: on the right grids, and out of every door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation

from autofuse_engine.checkpoint import save_checkpoint
from autofuse_engine.configs import NetworkConfig, RegistrationConfig
from autofuse_engine.data.files import to_sitk
from autofuse_engine.data.preprocessing import Grid
from autofuse_engine.data.synthetic import make_pair
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.initial_transform import InitialTransform
from autofuse_engine.job_files import save_result
from autofuse_engine.model_card import ModelCard, Preprocessing
from autofuse_engine.networks.build import build_network
from autofuse_engine.registration import RegistrationResult, register
from autofuse_engine.search_records import Found
from autofuse_engine.segmentation_output import segmentations


def oblique(shape: tuple[int, int, int], spacing: tuple[float, float, float], angles: list[float]) -> Volume:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag(spacing)
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return Volume(array=np.zeros(shape, np.float32), ras_from_ijk=matrix, name="image")


def ball(points_ras: np.ndarray) -> np.ndarray:
    """Class of points in the fixed image's place: an ellipsoid off the centre, with a core; no symmetry."""
    radius = np.linalg.norm((points_ras - [3.0, -5.0, 2.0]) / [14.0, 10.0, 17.0], axis=-1)
    return np.where(radius < 0.5, 2, radius < 1).astype(np.uint8)


def points_of(volume: Volume) -> np.ndarray:
    k, j, i = np.indices(volume.shape)
    return map_points(volume.ras_from_ijk, np.stack([i, j, k], axis=-1))


def test_classes_of_the_working_grid_land_where_the_images_show_them() -> None:
    work = oblique((40, 48, 36), (1.0, 1.1, 0.9), [10, -20, 30])
    fixed = oblique((24, 30, 44), (1.7, 1.4, -1.1), [-5, 8, 12])
    moving = oblique((28, 26, 40), (-1.2, 1.5, 1.6), [50, 8, -70])
    moving_from_fixed = np.eye(4)
    moving_from_fixed[:3, :3] = Rotation.from_euler("xyz", [20, 5, -15], degrees=True).as_matrix() * 0.95
    moving_from_fixed[:3, 3] = [4.0, -3.0, 6.0]
    classes = torch.from_numpy(ball(points_of(work)))  # both images look alike under the initial alignment
    found = Found(
        start=InitialTransform(matrix_ras=np.diag([2.0, 1, 1, 1])),  # improved since, without influence
        segmented_under_ras=moving_from_fixed,
        velocity_vox=None,
        grid=Grid(shape=(8, 8, 8), ras_from_ijk=np.eye(4)),  # of the refinement, without influence
        model_grid=Grid(shape=work.shape, ras_from_ijk=work.ras_from_ijk),
        samples_vox=(),
        gate_means=None,
        steps=0,
        levels=(),
        labels=0,
        model_name="m",
        model_sha256=None,
        fixed_classes=classes,
        moving_classes=classes,
    )
    on_fixed, on_moving = segmentations(found, fixed, moving)
    assert on_fixed is not None
    assert on_moving is not None
    assert on_fixed.same_grid(fixed)
    assert on_moving.same_grid(moving)
    expected = ball(points_of(fixed)), ball(map_points(np.linalg.inv(moving_from_fixed), points_of(moving)))
    for volume, truth in zip((on_fixed, on_moving), expected, strict=True):
        assert set(np.unique(volume.array)) == {0, 1, 2}
        sizes = [2 * ((volume.array == k) & (truth == k)).sum() / ((volume.array == k).sum() + (truth == k).sum())
                 for k in (1, 2)]  # fmt: skip
        assert min(sizes) > 0.93, sizes


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> RegistrationResult:
    torch.manual_seed(0)
    config = NetworkConfig(channels=2, classes=3)
    card = ModelCard(name="semi", network=config, preprocessing=Preprocessing(spacing_mm=(6.0, 6.0, 6.0)))
    path = save_checkpoint(build_network(config), card, tmp_path_factory.mktemp("models"))
    pair = make_pair(2, (36, 48, 40))
    options = RegistrationConfig(model=str(path), refinement_steps=0, initial="centers")
    return register(pair.fixed, pair.moving, options)


def test_registering_with_such_a_model_gives_both_segmentations(result: RegistrationResult) -> None:
    pair = make_pair(2, (36, 48, 40))
    for volume, image in ((result.fixed_segmentation, pair.fixed), (result.moving_segmentation, pair.moving)):
        assert volume is not None
        assert volume.same_grid(image)
        assert volume.array.dtype == np.uint8
        assert volume.array.max() == 2
        assert volume.name == f"{image.name} segmentation"


def test_the_files_of_a_run_hold_them(result: RegistrationResult, tmp_path: Path) -> None:
    moving = make_pair(2, (36, 48, 40)).moving
    save_result(result, moving, tmp_path, "h5", lambda share: None)
    image = sitk.ReadImage(str(tmp_path / "moving_segmentation.nii.gz"))
    assert result.moving_segmentation is not None
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), result.moving_segmentation.array)
    np.testing.assert_allclose(image.GetOrigin(), to_sitk(moving).GetOrigin(), atol=1e-3)
    assert (tmp_path / "fixed_segmentation.nii.gz").exists()
