"""Similarity measures against direct convolutions, closed forms, and what they are meant to ignore."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from autofuse_engine.losses.similarity import local_ncc, mean_squared_error, mind_ssc, window_sum
from Testing.engine.reference.plain_operations import direct_local_ncc

SHAPE = (11, 12, 14)


def images(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.rand(1, 1, *SHAPE, generator=generator)
    return fixed, fixed + 0.3 * torch.rand(1, 1, *SHAPE, generator=generator)


@pytest.mark.parametrize("radius", [1, 2, 3, 4, 5])
def test_window_sums_equal_a_convolution_with_ones(radius: int) -> None:
    image, _ = images()
    kernel = torch.ones(1, 1, *[2 * radius + 1] * 3, dtype=torch.float64)
    expected = F.conv3d(image.double(), kernel, padding=radius)
    assert torch.allclose(window_sum(image, radius).double(), expected, rtol=1e-5)


@pytest.mark.parametrize("radius", [2, 4])
def test_local_ncc_and_its_gradient_equal_direct_convolutions(radius: int) -> None:
    fixed, warped = images(1)
    ours, theirs = warped.clone().requires_grad_(True), warped.double().requires_grad_(True)
    loss, expected = local_ncc(fixed, ours, radius), direct_local_ncc(fixed.double(), theirs, 2 * radius + 1)
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert float((ours.grad - theirs.grad).abs().max()) < 1e-5 * float(theirs.grad.abs().max())


def test_local_ncc_ignores_local_gain_offset_and_sign() -> None:
    fixed, _ = images(2)
    inner = torch.zeros_like(fixed)
    inner[..., 3:-3, 3:-3, 3:-3] = 1.0  # windows at the border hold zeros, which no offset moves
    assert float(local_ncc(fixed, 0.5 - 3 * fixed, 3, inner)) == pytest.approx(-1.0, abs=1e-5)
    assert float(local_ncc(fixed, images(9)[0], 3, inner)) > -0.1


def test_a_weight_leaves_out_what_it_zeroes() -> None:
    fixed, warped = images(3)
    weight = torch.zeros_like(fixed)
    weight[..., :4] = 1.0
    spoiled = warped.clone()
    spoiled[..., 9:] = torch.rand_like(spoiled[..., 9:])  # farther than the window from any weighted voxel
    assert float(local_ncc(fixed, spoiled, 4, weight)) == pytest.approx(float(local_ncc(fixed, warped, 4, weight)))
    assert float(local_ncc(fixed, spoiled, 4)) != pytest.approx(float(local_ncc(fixed, warped, 4)))
    spoiled_error = float(mean_squared_error(fixed, spoiled, weight))
    assert spoiled_error == pytest.approx(float((fixed - warped)[..., :4].square().mean()))


def test_the_gradient_with_a_weight_equals_the_numerical_one() -> None:
    fixed, warped = images(4)
    weight = torch.rand_like(fixed)
    warped.requires_grad_(True)
    (gradient,) = torch.autograd.grad(local_ncc(fixed, warped, 2, weight), warped)
    direction = torch.randn(warped.shape, generator=torch.Generator().manual_seed(5))
    step = 2e-3
    losses = [float(local_ncc(fixed, warped.detach() + sign * step * direction, 2, weight)) for sign in (1, -1)]
    assert float((gradient * direction).sum()) == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=0.03)


def mind_by_hand(image: np.ndarray, voxel: tuple[int, int, int], radius: int, distance: int) -> np.ndarray:
    """Descriptor of one voxel, straight from the definition, without its normalisation by the mean's clamp."""
    steps = [np.array(step) * distance for step in np.vstack([-np.eye(3, dtype=int), np.eye(3, dtype=int)])]
    patch = [np.array(offset) - radius for offset in np.ndindex(*[2 * radius + 1] * 3)]
    distances = []
    for a in range(6):
        for b in range(a + 1, 6):
            if np.array_equal(steps[a], -steps[b]):
                continue
            total = 0.0
            for offset in patch:
                first, second = np.array(voxel) + offset + steps[a], np.array(voxel) + offset + steps[b]
                total += (image[tuple(first)] - image[tuple(second)]) ** 2
            distances.append(total / len(patch))
    values = np.array(distances) - min(distances)
    return np.sort(np.exp(-values / values.mean()))


def test_mind_equals_its_definition_at_single_voxels() -> None:
    image, _ = images(6)
    descriptors = mind_ssc(image, radius=1, distance=2)
    assert descriptors.shape == (1, 12, *SHAPE)
    for voxel in ((4, 5, 6), (5, 6, 9)):
        ours = np.sort(descriptors[0, :, voxel[0], voxel[1], voxel[2]].numpy())
        assert np.allclose(ours, mind_by_hand(image[0, 0].double().numpy(), voxel, 1, 2), atol=1e-5)


def test_mind_does_not_see_inverted_contrast() -> None:
    image, _ = images(7)
    assert torch.allclose(mind_ssc(image), mind_ssc(1.0 - 2.0 * image), atol=1e-4)


def test_images_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="received"):
        local_ncc(torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 5))
