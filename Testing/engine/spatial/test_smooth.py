"""Gaussian smoothing and changes of resolution, against scipy and closed forms."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from autofuse_engine.spatial.smooth import enlarge_field, shrink, smooth, smooth_image


@pytest.mark.parametrize("sigma", [0.8, 1.0, (0.7, 0.0, 1.6)])
def test_smoothing_equals_scipy(sigma: float | tuple[float, ...]) -> None:
    image = np.random.default_rng(0).random((9, 12, 10))
    sigmas = (sigma,) * 3 if isinstance(sigma, float) else sigma
    radius = [max(1, int(np.ceil(3 * s))) if s else 0 for s in sigmas]
    expected = gaussian_filter(image, sigmas, mode="constant", radius=radius)
    ours = smooth(torch.from_numpy(image)[None, None], sigma)[0, 0].numpy()
    assert np.abs(ours - expected).max() < 1e-12


def test_smoothing_is_its_own_transpose() -> None:
    generator = torch.Generator().manual_seed(1)
    field = torch.rand(1, 3, 4, 6, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: smooth(x, 1.1), (field,))


def test_a_constant_image_stays_constant_up_to_its_border() -> None:
    assert torch.allclose(smooth_image(torch.full((1, 1, 6, 7, 8), 3.0), 1.5), torch.tensor(3.0))


def test_shrinking_averages_cubes() -> None:
    image = torch.arange(4 * 6 * 8, dtype=torch.float32).view(1, 1, 4, 6, 8)
    assert float(shrink(image, 2)[0, 0, 1, 2, 3]) == float(image[0, 0, 2:4, 4:6, 6:8].mean())
    with pytest.raises(ValueError, match="multiple of 4"):
        shrink(image, 4)


@pytest.mark.parametrize("align_corners", [False, True])
def test_enlarging_keeps_lengths_true(align_corners: bool) -> None:
    field = torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1, 1).expand(1, 3, 3, 4, 5)
    finer = enlarge_field(field, (6, 8, 10), align_corners=align_corners)
    assert finer.shape == (1, 3, 6, 8, 10)
    assert torch.allclose(finer, 2 * finer.new_tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1, 1))


def test_enlarging_from_faces_puts_coarse_voxels_over_pairs_of_fine_ones() -> None:
    ramp = torch.arange(4, dtype=torch.float32).view(1, 1, 4, 1, 1).expand(1, 3, 4, 2, 2)
    finer = enlarge_field(ramp, (8, 4, 4))[0, 1, :, 0, 0] / 2  # channel 1 doubles with its own axis
    assert finer[1:-1].tolist() == pytest.approx([0.25 + 0.5 * n for n in range(6)])
