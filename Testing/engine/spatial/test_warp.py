"""Warping, composing and resampling, judged by grid_sample, SimpleITK and closed forms."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import torch.nn.functional as F

from autofuse_engine.spatial.grid import apply_matrix, voxel_grid, voxel_map
from autofuse_engine.spatial.resample import resample, resample_displacement
from autofuse_engine.spatial.warp import _grid_sample, compose, sample, warp

SHAPE = (7, 9, 11)


def smooth_field(shape: tuple[int, int, int], size: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 3, 3, 4, 3, generator=generator, dtype=torch.float64)
    return size * F.interpolate(coarse, shape, mode="trilinear", align_corners=True)


def by_grid_sample(image: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    sizes = torch.tensor(image.shape[2:], dtype=coordinates.dtype).view(1, 3, 1, 1, 1)
    grid = (2 * coordinates / (sizes - 1) - 1).flip(1).permute(0, 2, 3, 4, 1)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=True)


def test_a_displacement_of_one_voxel_along_each_axis_fetches_the_next_voxel() -> None:
    image = torch.arange(7 * 9 * 11, dtype=torch.float32).view(1, 1, *SHAPE)
    for axis in range(3):
        displacement = torch.zeros(1, 3, *SHAPE)
        displacement[:, axis] = 1.0
        expected = torch.roll(image, -1, dims=axis + 2)
        inner = [slice(None)] * 5
        inner[axis + 2] = slice(0, SHAPE[axis] - 1)
        assert torch.equal(warp(image, displacement)[tuple(inner)], expected[tuple(inner)])


def test_sampling_equals_grid_sample_inside_and_beyond_the_border() -> None:
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(2, 3, *SHAPE, generator=generator, dtype=torch.float64)
    places = torch.rand(2, 3, 4, 5, 6, generator=generator, dtype=torch.float64) * 16 - 3
    assert torch.allclose(sample(image, places), by_grid_sample(image, places), atol=1e-12)


def test_precise_places_may_look_up_a_single_precision_image_on_every_device() -> None:
    image = torch.rand(1, 2, *SHAPE)
    places = torch.rand(1, 3, 4, 5, 6, dtype=torch.float64) * 8
    expected = by_grid_sample(image.double(), places)
    for values in (sample(image, places), _grid_sample(image, places)):
        assert values.dtype == torch.float32
        assert torch.allclose(values.double(), expected, atol=1e-5)


def test_gradients_equal_numerical_ones() -> None:
    generator = torch.Generator().manual_seed(4)
    image = torch.rand(1, 2, 5, 6, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    places = (torch.rand(1, 3, 3, 4, 2, generator=generator, dtype=torch.float64) * 9 - 2).requires_grad_(True)
    assert torch.autograd.gradcheck(sample, (image, places))
    assert torch.autograd.gradcheck(lambda x: sample(image.detach(), x), (places,))
    assert torch.autograd.gradcheck(lambda x: sample(x, places.detach()), (image,))


def test_composition_applies_the_first_field_first() -> None:
    first, then = smooth_field(SHAPE, 0.6, 1), smooth_field(SHAPE, 0.5, 2)
    image = torch.rand(1, 1, *SHAPE, dtype=torch.float64)
    places = voxel_grid(SHAPE, dtype=torch.float64) + first
    expected = sample(image, places + by_grid_sample(then, places))
    assert torch.allclose(warp(image, compose(first, then)), expected, atol=1e-12)
    assert not torch.allclose(compose(first, then), compose(then, first), atol=1e-3)


def test_warping_equals_itk_on_a_grid_without_physical_space() -> None:
    image = torch.rand(1, 1, *SHAPE, dtype=torch.float64)
    displacement = smooth_field(SHAPE, 0.7)
    itk_image = sitk.GetImageFromArray(image[0, 0].numpy())
    vectors = displacement[0].flip(0).permute(1, 2, 3, 0).contiguous().numpy()
    transform = sitk.DisplacementFieldTransform(sitk.GetImageFromArray(vectors, isVector=True))
    expected = sitk.GetArrayFromImage(sitk.Resample(itk_image, itk_image, transform, sitk.sitkLinear, -1.0))
    ours = warp(image, displacement)[0, 0].numpy()
    seen = expected >= 0
    assert seen.mean() > 0.5
    assert np.abs(ours - expected)[seen].max() < 1e-12


def oblique(spacing: tuple[float, float, float], angles: tuple[float, float], origin: tuple[float, ...]) -> np.ndarray:
    a, b = angles
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag(spacing)
    matrix[:3, 3] = origin
    return matrix


def test_resampling_between_oblique_grids_equals_itk() -> None:
    source_matrix = oblique((1.5, 0.9, 2.0), (0.2, -0.1), (3.0, -2.0, 1.0))
    target_matrix = oblique((1.1, 1.3, 0.8), (-0.15, 0.3), (5.0, -1.0, 2.5))
    image = torch.rand(1, 1, 8, 10, 9, dtype=torch.float64)
    target_shape = (6, 7, 12)
    images = []
    for matrix, array in ((source_matrix, image[0, 0].numpy()), (target_matrix, np.zeros(target_shape))):
        item = sitk.GetImageFromArray(array)
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        item.SetSpacing(spacing.tolist())
        item.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
        item.SetOrigin(matrix[:3, 3].tolist())
        images.append(item)
    expected = sitk.GetArrayFromImage(sitk.Resample(images[0], images[1], sitk.Transform(), sitk.sitkLinear, 0.0))
    ours = resample(image, voxel_map(target_matrix, source_matrix), target_shape)[0, 0].numpy()
    assert np.count_nonzero(expected) > 100
    assert np.abs(ours - expected).max() < 1e-9


def test_a_displacement_keeps_its_physical_length_and_direction_on_another_grid() -> None:
    source = oblique((2.0, 1.0, 1.5), (0.3, 0.2), (0.0, 0.0, 0.0))
    target = oblique((1.0, 0.7, 0.9), (-0.2, 0.4), (4.0, 3.0, 5.0))
    wanted_mm = np.array([1.0, -2.0, 0.5])  # x, y, z everywhere
    constant = np.linalg.solve(source[:3, :3], wanted_mm)[::-1].copy()
    field = torch.tensor(constant).view(1, 3, 1, 1, 1).expand(1, 3, 12, 14, 13)
    moved = resample_displacement(field, voxel_map(target, source), (4, 5, 6))
    center = moved[0, :, 2, 2, 3].flip(0).numpy()
    assert np.allclose(target[:3, :3] @ center, wanted_mm, atol=1e-10)


def test_matrices_act_in_tensor_axis_order() -> None:
    matrix = np.diag([2.0, 3.0, 4.0, 1.0])
    matrix[:3, 3] = (10, 20, 30)
    points = torch.tensor([1.0, 1.0, 1.0]).view(1, 3, 1, 1, 1)
    assert apply_matrix(matrix, points).flatten().tolist() == [12.0, 23.0, 34.0]


@pytest.mark.parametrize("field", [torch.zeros(1, 2, 4, 4, 4), torch.zeros(3, 4, 4, 4)])
def test_fields_of_another_shape_are_refused(field: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="a field is"):
        warp(torch.zeros(1, 1, 4, 4, 4), field)
    with pytest.raises(ValueError, match="image is"):
        sample(torch.zeros(2, 1, 4, 4, 4), torch.zeros(1, 3, 4, 4, 4))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_what_the_cpu_gives() -> None:
    image = torch.rand(1, 2, *SHAPE)
    field = smooth_field(SHAPE, 0.8).float()
    assert torch.allclose(warp(image.cuda(), field.cuda()).cpu(), warp(image, field), atol=1e-5)


def test_volumes_too_large_for_short_indices_are_looked_up_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(4)
    image = torch.randn(1, 2, 6, 9, 7, generator=generator, requires_grad=True)
    places = voxel_grid((6, 9, 7)) + torch.randn(1, 3, 6, 9, 7, generator=generator)
    places.requires_grad_(True)
    found = []
    for most in (6 * 9 * 7, 6 * 9 * 7 - 1):
        monkeypatch.setattr("autofuse_engine.spatial.warp._MOST_VOXELS_OF_SHORT_INDICES", most)
        values = sample(image, places)
        found.append((values, *torch.autograd.grad(values.square().sum(), (image, places))))
    for short, long in zip(*found, strict=True):
        assert torch.equal(short, long)
