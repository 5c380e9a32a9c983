"""One image in the contrast of another: fitted where they lie on each other, and where they do so badly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from autofuse_engine.contrast_transfer import ContrastTransfer
from autofuse_engine.errors import CancelledError
from autofuse_engine.spatial.resample import resample
from autofuse_engine.spatial.smooth import smooth_image
from autofuse_engine.spatial.warp import warp

CLASSES = 7
SHAPE = (32, 40, 36)
SPACING = np.array([2.0, 2.0, 2.0])
ELSEWHERE = (0.5, 0.9, 0.2, 0.7, 0.35, 0.05, 0.6)
"""Of each class in the other contrast; no function of ``HERE``."""
HERE = (0.3, 0.5, 0.52, 0.8, 0.2, 0.82, 0.35)


def regions(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Probabilities ``(1, K, ...)`` of smooth random regions within a ball, and the ball ``(1, 1, ...)``."""
    noise = torch.randn(1, CLASSES, *SHAPE, generator=torch.Generator().manual_seed(seed))
    smoothed = torch.cat([smooth_image(noise[:, number : number + 1], 3.5) for number in range(CLASSES)], dim=1)
    k, j, i = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in SHAPE), indexing="ij")
    shown = (k**2 + j**2 + i**2 < 0.8).float()[None, None]
    probabilities = torch.softmax(smoothed * 300, dim=1)
    background = torch.zeros_like(probabilities)
    background[:, 0] = 1
    return torch.where(shown > 0, probabilities, background), shown


def image_of(probabilities: Tensor, shown: Tensor, levels: tuple[float, ...], slope: float = 0.0) -> Tensor:
    """Each class with its level, plus a texture that both contrasts share."""
    texture = torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(9))
    texture = smooth_image(texture, 1.0)
    mixed = (probabilities * torch.tensor(levels).view(1, -1, 1, 1, 1)).sum(dim=1, keepdim=True)
    return (mixed + slope * texture).clamp(min=0.01) * shown


def correlation(first: Tensor, second: Tensor, where: Tensor) -> float:
    values = torch.stack([first[where > 0], second[where > 0]])
    return float(torch.corrcoef(values)[0, 1])


@pytest.fixture(scope="module")
def made() -> tuple[ContrastTransfer, Tensor, Tensor, Tensor]:
    probabilities, shown = regions()
    image = image_of(probabilities, shown, HERE, 0.8)
    other = image_of(probabilities, shown, ELSEWHERE, -0.4)
    return ContrastTransfer(image, probabilities, SPACING), image, other, shown


def test_an_image_looks_like_the_other_where_they_lie_on_each_other(
    made: tuple[ContrastTransfer, Tensor, Tensor, Tensor],
) -> None:
    transfer, image, other, shown = made
    contrast = transfer.fit(other, 0.0)
    assert contrast.shape == (2, CLASSES)
    np.testing.assert_allclose(contrast[0], ELSEWHERE, atol=0.05)
    assert (contrast[1] < -0.2).all(), "the texture is the other way about"
    assert (contrast[1] > -0.7).all()
    result = transfer.show(image, shown, np.eye(4), contrast)
    assert correlation(image, other, shown) < 0.3
    assert correlation(result, other, shown) > 0.99
    assert ((result > 0) == (shown > 0)).all()


def test_mixtures_are_undone_where_the_alignment_is_poor(
    made: tuple[ContrastTransfer, Tensor, Tensor, Tensor],
) -> None:
    transfer, _, other, _ = made
    away = torch.randn(1, 3, *SHAPE, generator=torch.Generator().manual_seed(3))
    away = torch.cat([smooth_image(away[:, axis : axis + 1], 4.0) for axis in range(3)], dim=1)
    moved = warp(other, away * (2.0 / away.norm(dim=1).mean()))  # 2 voxels in the mean

    def error(blur_mm: float) -> float:
        return float((transfer.fit(moved, blur_mm)[0] - torch.tensor(ELSEWHERE)).abs().mean())

    assert error(2.0) < 0.6 * error(0.0)


def test_places_where_the_other_image_shows_nothing_do_not_count(
    made: tuple[ContrastTransfer, Tensor, Tensor, Tensor],
) -> None:
    transfer, _, other, _ = made
    cut = other.clone()
    cut[:, :, :14] = 0
    np.testing.assert_allclose(transfer.fit(cut, 2.0)[0], transfer.fit(other, 2.0)[0], atol=0.06)
    assert torch.isfinite(transfer.fit(torch.zeros_like(other), 2.0)).all()


def test_a_class_that_is_nowhere_changes_nothing() -> None:
    probabilities, shown = regions(1)
    probabilities[:, 0] += probabilities[:, 3]
    probabilities[:, 3] = 0
    image, other = image_of(probabilities, shown, HERE), image_of(probabilities, shown, ELSEWHERE)
    transfer = ContrastTransfer(image, probabilities, SPACING)
    result = transfer.show(image, shown, np.eye(4), transfer.fit(other, 2.0))
    assert torch.isfinite(result).all()
    assert correlation(result, other, shown) > 0.98


def test_the_image_may_come_on_another_grid(made: tuple[ContrastTransfer, Tensor, Tensor, Tensor]) -> None:
    transfer, image, other, shown = made
    contrast = transfer.fit(other, 0.0)
    finer = np.diag([0.5, 0.5, 0.5, 1.0])
    finer[:3, 3] = [3.0, 4.0, 2.0]
    shape = (40, 44, 48)
    covered = resample(shown, finer, shape)
    result = transfer.show(resample(image, finer, shape), covered, finer, contrast)
    expected = resample(transfer.show(image, shown, np.eye(4), contrast), finer, shape)
    assert float((result - expected)[covered > 0.999].abs().mean()) < 0.02
    rim = (covered > 0.1) & (covered < 0.9)
    assert float((result - expected)[rim].abs().mean()) < 0.07, "no brighter than what covers it"
    bright = transfer.show(resample(image, finer, shape), torch.ones_like(covered), finer, contrast)
    assert float((bright - expected)[rim].abs().mean()) > 0.1


def test_the_work_can_be_stopped(made: tuple[ContrastTransfer, Tensor, Tensor, Tensor]) -> None:
    _, image, other, _ = made
    probabilities, _ = regions()
    calls = 0

    def between() -> None:
        nonlocal calls
        calls += 1
        if calls == CLASSES + 3:
            raise CancelledError

    transfer = ContrastTransfer(image, probabilities, SPACING, between)
    with pytest.raises(CancelledError):
        transfer.fit(other, 2.0)
