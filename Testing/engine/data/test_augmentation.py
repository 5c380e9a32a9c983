"""Random changes of a pair: repeatable, in their ranges, and the same for an image and its labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from autofuse_engine.data.augmentation import ImageChange, PairChange, change_image, change_labels, draw_change
from autofuse_engine.training_configs import AugmentationConfig

SHAPE, SPACING = (12, 20, 16), (3.0, 1.0, 1.5)
EVERYTHING = AugmentationConfig(
    rotation_degrees=10, scaling=0.1, translation_vox=2, gamma=0.3, bias=0.2, noise=0.05, flips="DHW"
)


def draw(seed: int, config: AugmentationConfig = EVERYTHING) -> PairChange:
    change = draw_change(config, SHAPE, SPACING, seed)
    assert change is not None
    return change


def image(seed: int = 0) -> torch.Tensor:
    coarse = torch.rand(1, 1, 4, 5, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=SHAPE, mode="trilinear", align_corners=True)


def test_nothing_to_change_is_no_change() -> None:
    assert draw_change(AugmentationConfig(), SHAPE, SPACING, 3) is None


def test_a_seed_gives_one_change_and_another_seed_another() -> None:
    results = [change_image(image(), draw(seed).fixed, draw(seed).flips) for seed in (1, 1, 2)]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert not torch.equal(results[0], change_image(image(), draw(1).moving, draw(1).flips)), "images move apart"


def test_moving_an_image_equals_scipys_affine_transform() -> None:
    change = draw(4, AugmentationConfig(rotation_degrees=12, scaling=0.15, translation_vox=1.5)).moving
    matrix = change.source_from_target_vox
    assert matrix is not None
    expected = affine_transform(image()[0, 0].numpy(), matrix[:3, :3], matrix[:3, 3], order=1, mode="nearest")
    got = change_image(image(), change)[0, 0].numpy()
    inner = got != 0
    assert inner.mean() > 0.6
    np.testing.assert_allclose(got[inner], expected[inner], atol=1e-5)


def test_turns_are_rigid_in_millimetres_about_the_middle() -> None:
    matrix = draw(4, AugmentationConfig(rotation_degrees=30)).fixed.source_from_target_vox
    assert matrix is not None
    spacing = np.diag(SPACING)
    turn = spacing @ matrix[:3, :3] @ np.linalg.inv(spacing)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.abs(turn - np.eye(3)).max() > 0.1
    middle = (np.array(SHAPE) - 1) / 2
    np.testing.assert_allclose(matrix[:3, :3] @ middle + matrix[:3, 3], middle, atol=1e-12)


def test_labels_follow_their_image() -> None:
    labels = (image() > 0.5).long()
    for seed in range(4):
        change = draw(seed, AugmentationConfig(rotation_degrees=10, scaling=0.1, translation_vox=2, flips="DHW"))
        moved = change_labels(labels, change.fixed, change.flips)
        assert moved.dtype == torch.int64
        expected = change_image(labels.float(), change.fixed, change.flips) > 0.5
        assert float((moved.bool() == expected).float().mean()) > 0.97


def test_both_images_of_a_pair_are_mirrored_alike_and_not_always() -> None:
    flips = {draw(seed, AugmentationConfig(flips="HW")).flips for seed in range(40)}
    assert flips == {(), (3,), (4,), (3, 4)}
    mirrored = next(draw(seed, AugmentationConfig(flips="H")) for seed in range(40)
                    if draw(seed, AugmentationConfig(flips="H")).flips)  # fmt: skip
    assert torch.equal(change_image(image(), mirrored.moving, mirrored.flips), image().flip(3))


@pytest.mark.parametrize(
    ("config", "largest"),
    [
        (AugmentationConfig(gamma=0.3), 0.12),
        (AugmentationConfig(bias=0.2), 0.2),
        (AugmentationConfig(noise=0.02), 0.12),
    ],
)
def test_intensities_change_within_their_range(config: AugmentationConfig, largest: float) -> None:
    for seed in range(5):
        change = draw(seed, config)
        difference = change_image(image(), change.fixed) - image()
        assert 0 < float(difference.abs().max()) <= largest
        changed = change_image(image(), change.fixed)
        assert float(changed.min()) >= 0
        assert float(changed.max()) <= 1
        assert torch.equal(change_labels((image() > 0.5).long(), change.fixed), (image() > 0.5).long())


def test_what_comes_from_outside_is_background() -> None:
    matrix = np.eye(4)
    matrix[1, 3] = 5.0
    shifted = ImageChange(source_from_target_vox=matrix, exponent=1.0, bias=None, noise=0.0, noise_seed=0)
    moved = change_image(image() + 0.5, shifted)
    assert float(moved[:, :, :, -5:].abs().max()) == 0
    assert torch.equal(moved[:, :, :, :-5], (image() + 0.5)[:, :, :, 5:].clamp(0, 1))
    assert int(change_labels(torch.ones(1, 1, *SHAPE, dtype=torch.int64), shifted)[:, :, :, -5:].max()) == 0
