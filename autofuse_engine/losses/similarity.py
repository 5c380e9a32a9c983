"""How alike two images are: local NCC, MSE, and MIND-SSC for pairs of different modality. Smaller is more alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def local_ncc(
    fixed: Tensor,
    warped: Tensor,
    radius: int = 4,
    weight: Tensor | None = None,
    *,
    between: Callable[[], None] = lambda: None,
) -> Tensor:
    """Negative mean of the squared local correlation, in [-1, 0] (Avants et al. 2008; VoxelMorph, eq. 6).

    Windows have ``(2 * radius + 1)**3`` voxels and count zeros beyond the border. Sums are three passes of shifted
    additions and the gradient with respect to ``warped`` is in closed form (three more sums); always float32.

    Args:
        fixed: ``(B, 1, D, H, W)``; receives no gradient.
        warped: same shape.
        weight: same shape, or None for 1 everywhere; the mean is weighted with it.
        between: called between pieces of the work; may raise to stop.

    Raises:
        ValueError: if shapes differ.
    """
    _check_same_shape(fixed, warped)
    return _LocalNcc.apply(fixed.float(), warped.float(), radius, weight, between)  # pyright: ignore[reportReturnType]


def mean_squared_error(fixed: Tensor, warped: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean of the squared difference of ``(B, C, D, H, W)`` images, weighted with ``(B, 1, D, H, W)``."""
    _check_same_shape(fixed, warped)
    squared = (fixed.float() - warped.float()).square()
    if weight is None:
        return squared.mean()
    return (squared * weight).sum() / (weight.sum() * fixed.shape[1]).clamp(min=1e-6)


def window_sum(image: Tensor, radius: int) -> Tensor:
    """Sum over the cube of side ``2 * radius + 1`` around each voxel of ``(B, C, D, H, W)``; zeros lie outside."""
    for axis in (2, 3, 4):
        image = _sum_along(image, axis, radius)
    return image


def _sum_along(image: Tensor, axis: int, radius: int) -> Tensor:
    """Running sum along one axis by doubling: additions of views shifted by 1, 2, 4, ... voxels."""
    if radius == 0:
        return image
    length, window = image.shape[axis], 2 * radius + 1
    padding = [0, 0] * (4 - axis) + [radius, radius]
    run = F.pad(image, padding)
    total: Tensor | None = None
    covered, size = 0, 1
    while True:
        if window & size:
            piece = run.narrow(axis, covered, length)
            total = piece if total is None else total + piece
            covered += size
        if total is not None and covered == window:
            return total
        reach = run.shape[axis] - size
        run = run.narrow(axis, 0, reach) + run.narrow(axis, size, reach)
        size *= 2


class _LocalNcc(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, fixed: Tensor, warped: Tensor, radius: int, weight: Tensor | None, between: Callable[[], None]
    ) -> Tensor:
        count = float((2 * radius + 1) ** 3)
        sum_f, sum_w = window_sum(fixed, radius), window_sum(warped, radius)
        between()
        variance_f = window_sum(fixed * fixed, radius).sub_(sum_f * sum_f / count).clamp_(min=0)
        variance_w = window_sum(warped * warped, radius).sub_(sum_w * sum_w / count).clamp_(min=0)
        between()
        cross = window_sum(fixed * warped, radius).sub_(sum_f * sum_w / count)
        inverse = (variance_f * variance_w).add_(1e-5).reciprocal_()
        ratio = cross * inverse
        squared = ratio * cross
        total = float(fixed.numel()) if weight is None else weight.sum().clamp(min=1e-6)
        loss = -(squared.sum() if weight is None else (squared * weight).sum()) / total
        if ctx.needs_input_grad[1]:
            by_cross = ratio.mul_(-2.0)
            by_variance = squared.mul_(inverse).mul_(variance_f)
            if weight is not None:
                by_cross, by_variance = by_cross.mul_(weight), by_variance.mul_(weight)
            between()
            # d loss / d warped(y): sums over all windows that hold y
            means = torch.addcmul(by_cross * sum_f, by_variance, sum_w, value=2.0).div_(count)
            gradient = fixed * window_sum(by_cross, radius)
            between()
            gradient.addcmul_(warped, window_sum(by_variance, radius), value=2.0)
            gradient.sub_(window_sum(means, radius)).div_(total)
            ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[None, Tensor, None, None, None]:  # pyright: ignore
        (gradient,) = ctx.saved_tensors
        return None, gradient * output_gradient, None, None, None


def _check_same_shape(fixed: Tensor, warped: Tensor) -> None:
    if fixed.shape != warped.shape or fixed.ndim != 5:
        raise ValueError(f"both images are (B, C, D, H, W), received {tuple(fixed.shape)} and {tuple(warped.shape)}")


def mind_ssc(
    image: Tensor, radius: int = 2, distance: int = 2, *, between: Callable[[], None] = lambda: None
) -> Tensor:
    """Modality-independent neighbourhood descriptor with self-similarity context (Heinrich et al., MICCAI 2013).

    Each of the 12 channels compares two of the six neighbours at ``distance`` voxels that lie side by side: the
    mean squared difference of the patches around them, over the mean of the 12, turned into a similarity in (0, 1].

    Args:
        image: ``(B, 1, D, H, W)``.
        radius: patches have ``2 * radius + 1`` voxels a side.
        distance: voxels from the centre to its neighbours.
        between: called between the channels; may raise to stop.

    Returns:
        ``(B, 12, D, H, W)``; the most similar pair of neighbours has the value 1.
    """
    padded = F.pad(image.float(), (distance,) * 6, mode="replicate")
    patch_voxels = float((2 * radius + 1) ** 3)
    coverage = window_sum(torch.ones_like(image, dtype=torch.float32), radius) / patch_voxels
    distances = []
    for first, second in _MIND_PAIRS:
        difference = _shifted(padded, first, distance) - _shifted(padded, second, distance)
        between()
        distances.append(window_sum(difference.square(), radius) / patch_voxels / coverage)
    stacked = torch.cat(distances, dim=1)
    stacked = stacked - stacked.amin(dim=1, keepdim=True)
    noise = stacked.mean(dim=1, keepdim=True)
    mean_noise = float(noise.mean())
    noise = noise.clamp(min=max(mean_noise * 1e-3, 1e-12), max=max(mean_noise * 1e3, 1e-12))
    return torch.exp(-stacked / noise)


_NEIGHBOURS = ((-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1))
_MIND_PAIRS = tuple(
    (first, second)
    for number, first in enumerate(_NEIGHBOURS)
    for second in _NEIGHBOURS[number + 1 :]
    if sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) == 2  # not opposite each other
)


def _shifted(padded: Tensor, direction: tuple[int, int, int], distance: int) -> Tensor:
    for axis, step in enumerate(direction, start=2):
        padded = padded.narrow(axis, distance + step * distance, padded.shape[axis] - 2 * distance)
    return padded
