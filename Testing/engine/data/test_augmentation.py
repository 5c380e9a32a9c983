"""Random changes of a pair: repeatable, in their ranges, and the same for an image and its labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from autofuse_engine.data.augmentation import ImageChange, PairChange, draw_change
from autofuse_engine.data.image_changes import bend, change_image, change_labels, with_moved_rim, with_thick_voxels
from autofuse_engine.spatial.grid import voxel_grid
from autofuse_engine.spatial.jacobian import jacobian_determinant
from autofuse_engine.training_configs import AugmentationConfig

SHAPE, SPACING = (12, 20, 16), (3.0, 1.0, 1.5)
EVERYTHING = AugmentationConfig(
    rotation_degrees=10, scaling=0.1, shear=0.05, translation_vox=2, warp_vox=0.5, gamma=0.3, bias=0.2, noise=0.05,
    slice_mm=4, rim_vox=1, crop=0.2, flips="DHW",
)  # fmt: skip


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


def half_space(depth: int = 9) -> torch.Tensor:
    """0.8 in the first planes along D, 0 in the others; long along H so that nothing is cubic."""
    space = torch.zeros(1, 1, 20, 24, 16)
    space[:, :, :depth] = 0.8
    return space


@pytest.mark.parametrize("inwards", [-2.0, -1.0, 1.0, 2.0])
def test_a_flat_rim_moves_by_what_was_asked(inwards: float) -> None:
    moved = with_moved_rim(half_space(), torch.full((1, 1, 20, 24, 16), inwards), abs(inwards))
    column = moved[0, 0, :, 12, 8]
    assert int((column > 0).sum()) == 9 - inwards
    gained = column[9 : 9 + max(0, int(-inwards))]
    assert torch.allclose(gained, torch.full_like(gained, 0.8), atol=1e-3), "what it gains continues the tissue"


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_thick_slices_average_along_their_axis_alone(axis: int) -> None:
    thickness = [1.0, 1.0, 1.0]
    thickness[axis - 2] = 2.5
    places = torch.arange(24, dtype=torch.float32)
    along = torch.sin(2 * torch.pi * places / 4.0).view([-1 if n == axis else 1 for n in range(5)])
    across = torch.sin(2 * torch.pi * places[:20] / 4.0).view([-1 if n == 2 + (axis - 1) % 3 else 1 for n in range(5)])
    shape = [1, 1, 20, 20, 20]
    shape[axis] = 24
    fine_along, fine_across = (0.5 + 0.4 * wave.expand(*shape) for wave in (along, across))
    middle = (slice(None), slice(None), *(slice(5, -5),) * 3)
    assert float(with_thick_voxels(fine_along, tuple(thickness))[middle].std()) < 0.25 * float(fine_along.std())
    untouched = with_thick_voxels(fine_across, tuple(thickness))
    assert torch.allclose(untouched, fine_across, atol=1e-5)
    flat = torch.full((1, 1, 20, 24, 16), 0.3)
    assert torch.allclose(with_thick_voxels(flat, (2.5, 1.7, 1.0)), flat, atol=1e-6)


def test_thickness_counts_in_millimetres_of_each_axis() -> None:
    drawn = [draw(seed, AugmentationConfig(slice_mm=6.0)).fixed.thickness_vox for seed in range(60)]
    assert (1.0, 1.0, 1.0) in drawn, "some images stay as they are"
    for thickness in drawn:
        millimetres = {round(one * step, 6) for one, step in zip(thickness, SPACING, strict=True) if one > 1}
        assert len(millimetres) <= 1
        assert all(step < mm <= 6.0 for mm in millimetres for step in (min(SPACING),))
    assert {sum(one > 1 for one in thickness) for thickness in drawn} >= {0, 1, 3}


def test_a_crop_blackens_one_side_and_no_label() -> None:
    axes = set()
    for seed in range(40):
        change = draw(seed, AugmentationConfig(crop=0.4)).moving
        cut = change_image(image() + 0.2, change)
        if change.crop is None:
            assert torch.equal(cut, (image() + 0.2).clamp(0, 1))
            continue
        axis, first, end = change.crop
        axes.add((axis, first == 0))
        assert 0 < end - first <= 0.4 * SHAPE[axis - 2] + 0.5
        assert float(cut.narrow(axis, first, end - first).max()) == 0
        assert float(cut.min(dim=axis).values.min()) == 0
        assert int((cut == 0).sum()) == (end - first) * cut[0, 0].numel() // SHAPE[axis - 2]
        labels = (image() > 0.5).long()
        assert torch.equal(change_labels(labels, change), labels)
    assert len(axes) == 6


def test_a_bend_is_smooth_and_never_folds() -> None:
    shape = (24, 40, 32)
    change = draw_change(AugmentationConfig(warp_vox=3.0), shape, (2.0, 2.0, 2.0), 8)
    assert change is not None
    nodes = change.fixed.velocity_nodes
    assert nodes is not None
    displacement = bend(nodes, shape, torch.device("cpu"))
    assert displacement.shape == (1, 3, *shape)
    assert float(jacobian_determinant(displacement).min()) > 0.05
    assert 0.8 < float(displacement.std()) < 4
    assert not np.array_equal(nodes, change.moving.velocity_nodes)
    ramp = voxel_grid(shape)[:, 1:2] / 40
    bent = change_image(ramp, change.fixed)
    inner = (slice(None), slice(None), slice(6, -6), slice(8, -8), slice(6, -6))
    assert torch.allclose(bent[inner] * 40, (ramp * 40 + displacement[:, 1:2])[inner], atol=1e-3)


def test_a_constant_velocity_is_a_shift_by_itself() -> None:
    """The flow of a constant field at time 1, in voxels of the image, component by component."""
    constant = np.array([1.5, -0.75, 0.5], np.float32)
    nodes = np.broadcast_to(constant[:, None, None, None], (3, 3, 4, 3)).copy()
    displacement = bend(nodes, (24, 40, 32), torch.device("cpu"))
    for channel, expected in enumerate(constant):
        found = displacement[0, channel, 5:-5, 5:-5, 5:-5]
        torch.testing.assert_close(found, torch.full_like(found, float(expected)), atol=1e-4, rtol=0)


def test_a_shear_moves_each_plane_along_itself() -> None:
    matrix = draw(3, AugmentationConfig(shear=0.2)).fixed.source_from_target_vox
    assert matrix is not None
    spacing = np.diag(SPACING)
    shear = spacing @ matrix[:3, :3] @ np.linalg.inv(spacing)
    np.testing.assert_allclose(np.diag(shear), 1, atol=1e-12)
    np.testing.assert_allclose(np.tril(shear, -1), 0, atol=1e-12)
    assert 0.01 < np.abs(np.triu(shear, 1)).max() <= 0.2


def matrix_of(change: ImageChange) -> np.ndarray:
    assert change.source_from_target_vox is not None
    return change.source_from_target_vox


def test_a_pose_is_shared_and_leaves_the_other_draws_alone() -> None:
    pose = AugmentationConfig(pose_rotation_degrees=20, pose_scaling=0.1, pose_translation_vox=3)
    own = AugmentationConfig(rotation_degrees=4, scaling=0.05, shear=0.1, translation_vox=2, gamma=0.3, flips="DH")
    both = replace(own, pose_rotation_degrees=20, pose_scaling=0.1, pose_translation_vox=3)
    shared, apart, together = (draw(6, config) for config in (pose, own, both))
    common = matrix_of(shared.fixed)
    assert np.array_equal(common, matrix_of(shared.moving))
    assert np.abs(common - np.eye(4)).max() > 0.1
    middle = (np.array(SHAPE) - 1) / 2
    assert 0 < np.abs(common[:3, :3] @ middle + common[:3, 3] - middle).max() < 3
    in_mm = np.diag(SPACING) @ common[:3, :3] @ np.diag(1 / np.array(SPACING))
    squared = in_mm.T @ in_mm
    assert np.allclose(squared, np.diag(np.diag(squared)), atol=1e-9), "turned and scaled, not sheared"
    for posed, unposed in ((together.fixed, apart.fixed), (together.moving, apart.moving)):
        assert np.allclose(matrix_of(posed), matrix_of(unposed) @ common)
        assert (posed.exponent, posed.noise_seed) == (unposed.exponent, unposed.noise_seed)
    assert together.flips == apart.flips
