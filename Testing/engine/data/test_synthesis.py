"""Images made from labelmaps: each tissue as drawn, both images of a pair on their own, shapes that only bend."""

from __future__ import annotations

import numpy as np
import torch

from autofuse_engine.augmentation_configs import SynthesisConfig
from autofuse_engine.data.synthesis import (
    Contrast,
    Synthesis,
    draw_synthesis,
    in_contrast,
    remap,
    shape_maps,
    synthesise,
    tissues_of,
)

SHAPE = (20, 32, 24)
CPU = torch.device("cpu")


def drawn(seed: int, labels: int = 3, **values: float | int) -> Synthesis | None:
    return draw_synthesis(SynthesisConfig(**values), labels, SHAPE, seed)  # pyright: ignore[reportArgumentType]


def blocks() -> torch.Tensor:
    """Labels 0 to 3 in slabs along H."""
    labels = torch.arange(32) // 8
    return labels.view(1, 1, 1, 32, 1).expand(1, 1, *SHAPE).contiguous()


def test_each_tissue_has_the_mean_and_the_spread_that_were_drawn() -> None:
    means, deviations = np.array([0, 0.3, 0.8, 0.5], np.float32), np.array([0, 0.02, 0.05, 0], np.float32)
    image = synthesise(blocks(), Contrast(means=means, deviations=deviations, blur_vox=0.0, seed=4))
    assert image.shape == (1, 1, *SHAPE)
    for label in range(4):
        values = image[blocks() == label]
        assert abs(float(values.mean()) - means[label]) < 0.002
        assert abs(float(values.std()) - deviations[label]) < 0.002
    blurred = synthesise(blocks(), Contrast(means=means, deviations=deviations, blur_vox=1.0, seed=4))
    beyond = (1 - 0.3989) / 2  # of a Gaussian of one voxel, on the other side of the border
    assert abs(float(blurred[:, :, :, 7].mean()) - 0.3 * beyond) < 0.005, "partial volume where two tissues meet"


def test_both_images_of_a_pair_get_contrasts_of_their_own() -> None:
    one, again = drawn(5, mixed=0.0), drawn(5, mixed=0.0)
    assert one is not None
    assert again is not None
    assert one.fixed is not None
    assert one.moving is not None
    assert again.fixed is not None
    assert np.array_equal(one.fixed.means, again.fixed.means)
    assert np.abs(one.fixed.means - one.moving.means)[1:].max() > 0.1
    assert len(one.fixed.means) == 5, "background, three labels, and the foreground without a label"
    assert one.fixed.seed != one.moving.seed


def test_shares_are_kept() -> None:
    many = [drawn(seed, probability=0.6, mixed=0.5, shapes=0.3, background=0.25) for seed in range(600)]
    made = [one for one in many if one is not None]
    assert abs(len(made) / 600 - 0.6) < 0.06
    patients = [one for one in made if one.shapes is None]
    assert abs(1 - len(patients) / len(made) - 0.3) < 0.06
    measured = [one.fixed is None or one.moving is None for one in patients]
    assert abs(np.mean(measured) - 0.5) < 0.08
    assert not any(one.fixed is None and one.moving is None for one in made)
    assert {one.fixed is None for one in patients} == {one.moving is None for one in patients} == {True, False}
    assert all(one.fixed is not None and one.moving is not None for one in made if one.shapes is not None)
    bright = [one.fixed.means[0] > 0 for one in made if one.fixed is not None]
    assert abs(np.mean(bright) - 0.25) < 0.08


def test_foreground_without_a_label_is_a_tissue() -> None:
    labels = torch.zeros(1, 1, *SHAPE, dtype=torch.int64)
    labels[:, :, 4:8] = 2
    image = torch.zeros(1, 1, *SHAPE)
    image[:, :, 2:10] = 0.4
    tissues = tissues_of(labels, image, 2)
    assert [int(tissues[0, 0, plane, 5, 5]) for plane in (0, 3, 5, 9, 12)] == [0, 3, 2, 3, 0]


def test_random_shapes_are_one_map_bent_twice() -> None:
    pair = drawn(11, shapes=1.0, shape_labels=6, shape_warp_vox=2.0)
    assert pair is not None
    assert pair.shapes is not None
    fixed, moving = shape_maps(pair.shapes, 6, SHAPE, CPU)
    again, _ = shape_maps(pair.shapes, 6, SHAPE, CPU)
    assert torch.equal(fixed, again)
    assert fixed.dtype == torch.int64
    assert set(fixed.unique().tolist()) == set(moving.unique().tolist()) == set(range(6))
    same = float((fixed == moving).float().mean())
    assert 0.4 < same < 0.95
    still = drawn(11, shapes=1.0, shape_labels=6, shape_warp_vox=0.0)
    assert still is not None
    assert still.shapes is not None
    fixed, moving = shape_maps(still.shapes, 6, SHAPE, CPU)
    assert torch.equal(fixed, moving)


def test_framed_shapes_leave_the_border_to_the_background() -> None:
    shares = {True: [], False: []}
    for seed in range(12):
        pair = drawn(seed, shapes=1.0, shape_labels=6, shape_warp_vox=0.0)
        assert pair is not None
        assert pair.shapes is not None
        fixed, _ = shape_maps(pair.shapes, 6, SHAPE, CPU)
        corners = fixed[0, 0, ::19, ::31, ::23]
        shares[pair.shapes.framed].append(float((corners == 0).float().mean()))
    assert np.mean(shares[True]) > 0.85
    assert np.mean(shares[False]) < 0.4


def test_a_remapped_image_follows_its_curve_and_keeps_the_background() -> None:
    image = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(1))
    image[:, :, :5] = 0
    curve = np.array([0.9, 0.1, 0.6, 0.0, 0.4, 1.0], np.float32)
    expected = np.interp(image.numpy(), np.linspace(0, 1, 6), curve) * (image.numpy() > 0)
    np.testing.assert_allclose(remap(image, curve).numpy(), expected, atol=1e-5)
    many = [drawn(seed, remapped=0.4, alike=0.5, mixed=0.0) for seed in range(400)]
    made = [one.fixed for one in many if one is not None and one.fixed is not None]
    assert abs(np.mean([one.curve is not None and one.keeps_details for one in made]) - 0.4) < 0.07
    assert abs(np.mean([one.curve is not None and not one.keeps_details for one in made]) - 0.3) < 0.07
    shapes = [drawn(seed, remapped=1.0, shapes=1.0) for seed in range(5)]
    assert all(one is not None and one.moving is not None and one.moving.curve is None for one in shapes)


def test_labels_that_look_alike_in_the_measured_image_look_alike_in_the_new_one() -> None:
    measured = torch.tensor([0.0, 0.2, 0.62, 0.6])[blocks()]
    measured = measured + 0.02 * torch.randn(measured.shape, generator=torch.Generator().manual_seed(0))
    measured[:, :, :, :4] = 0  # half of the background shows nothing, the other half something without a label
    measured[:, :, :, 4:8] = 0.4
    means = np.array([0.0, 0.9, 0.1, 0.5, 0.5], np.float32)
    curve = np.array([1.0, 0.9, 0.5, 0.2, 0.8, 0.0], np.float32)
    contrast = Contrast(means=means, deviations=np.zeros(5, np.float32), blur_vox=0.0, seed=4, curve=curve,
                        keeps_details=False)  # fmt: skip
    image = in_contrast(measured, blocks(), contrast, 3)
    tissues = tissues_of(blocks(), measured, 3)
    for number, level in ((1, 0.2), (2, 0.62), (3, 0.6), (4, 0.4)):
        values = image[tissues == number]
        assert float(values.std()) < 1e-6, "details within a label are new"
        expected = np.interp(level, np.linspace(0, 1, 6), curve) + 0.2 * (means[number] - 0.5)
        assert abs(float(values[0]) - expected) < 0.01
    assert (image[tissues == 0] == 0).all()
    kept = in_contrast(measured, blocks(), Contrast(**{**vars(contrast), "keeps_details": True}), 3)
    assert torch.equal(kept, remap(measured, curve))
