"""Gaussian smoothing of images and fields by shifted additions, and change of resolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def smooth(field: Tensor, sigma_vox: float | Sequence[float]) -> Tensor:
    """Gaussian smoothing of ``(B, C, D, H, W)`` with zeros beyond the border.

    The operation is its own transpose, so that its gradient costs the same. Kernels end at three standard
    deviations; axes with sigma 0 stay as they are.

    Args:
        field: ``(B, C, D, H, W)``.
        sigma_vox: standard deviation in voxels, one for all axes or one each in tensor order.
    """
    sigmas = (float(sigma_vox),) * 3 if isinstance(sigma_vox, (int, float)) else tuple(map(float, sigma_vox))
    if len(sigmas) != 3 or min(sigmas) < 0:
        raise ValueError(f"sigma_vox is one or three numbers of at least 0, received {sigma_vox!r}")
    return field if max(sigmas) == 0 else _Smooth.apply(field, sigmas)  # pyright: ignore[reportReturnType]


def smooth_image(
    image: Tensor, sigma_vox: float | Sequence[float], *, between: Callable[[], None] = lambda: None
) -> Tensor:
    """As :func:`smooth`, but the image continues beyond its border: weights outside are left out of the mean.

    ``between`` is called between the axes; it may raise to stop.
    """
    sigmas = (float(sigma_vox),) * 3 if isinstance(sigma_vox, (int, float)) else tuple(map(float, sigma_vox))
    weights = torch.ones_like(image[:1, :1])
    for axis, sigma in enumerate(sigmas):
        alone = [sigma if other == axis else 0.0 for other in range(len(sigmas))]
        image = smooth(image, alone)
        between()
        weights = smooth(weights, alone)
        between()
    return image / weights


class _Smooth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, field: Tensor, sigmas: tuple[float, ...]) -> Tensor:
        ctx.sigmas = sigmas
        return _convolve(field, sigmas)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        return _convolve(output_gradient, ctx.sigmas), None


def _convolve(field: Tensor, sigmas: tuple[float, ...]) -> Tensor:
    for axis, sigma in zip((2, 3, 4), sigmas, strict=True):
        if sigma > 0:
            field = _convolve_along(field, axis, sigma)
    return field


def _convolve_along(field: Tensor, axis: int, sigma: float) -> Tensor:
    radius = max(1, math.ceil(3 * sigma))
    weights = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(radius + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    length = field.shape[axis]
    result = field * (weights[0] / total)
    for offset in range(1, min(radius, length - 1) + 1):
        share, remaining = weights[offset] / total, length - offset
        result.narrow(axis, 0, remaining).add_(field.narrow(axis, offset, remaining), alpha=share)
        result.narrow(axis, offset, remaining).add_(field.narrow(axis, 0, remaining), alpha=share)
    return result


def shrink(image: Tensor, factor: int) -> Tensor:
    """Mean of each cube of ``factor`` voxels a side; every side of ``(B, C, D, H, W)`` is a multiple of it."""
    if any(side % factor for side in image.shape[2:]):
        raise ValueError(f"every side is a multiple of {factor}, received {tuple(image.shape[2:])}")
    return image if factor == 1 else F.avg_pool3d(image, factor)


def enlarge_field(field_vox: Tensor, shape: Sequence[int], *, align_corners: bool = False) -> Tensor:
    """Resample ``(B, 3, D, H, W)`` vectors onto a finer grid over the same box; lengths stay true.

    Args:
        field_vox: displacements or velocities in voxels of their own grid.
        shape: sides of the new grid; the result is in voxels of that grid.
        align_corners: whether the outermost voxel centres coincide (True), or the outermost voxel faces (False).
            With True the official release multiplies by the ratio of the sides, and so does this function.
    """
    ratio = [new / old for new, old in zip(shape, field_vox.shape[2:], strict=True)]
    scale = torch.tensor(ratio, dtype=field_vox.dtype, device=field_vox.device).view(1, 3, 1, 1, 1)
    if all(r == 1 for r in ratio):
        return field_vox
    return F.interpolate(field_vox, size=tuple(shape), mode="trilinear", align_corners=align_corners) * scale
