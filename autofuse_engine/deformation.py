"""From a velocity field on the working grid to a transform with its exact inverse, and to maps of what it does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.data.preprocessing import Grid
from autofuse_engine.data.transform import GridStep, MatrixStep, SpatialTransform
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.spatial.grid import voxel_map
from autofuse_engine.spatial.integrate import polish_inverse
from autofuse_engine.spatial.jacobian import folding, jacobian_determinant
from autofuse_engine.spatial.parts import Part, composed, composed_inverse
from autofuse_engine.spatial.resample import resample, resample_displacement

_SQUARINGS = 7
_LEAST_TAPER_VOXELS = 4
_CONSISTENCY_POINTS = 50_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Deformation:
    """The deformable part of a registration, on the working grid with its taper.

    Attributes:
        grid: place of the fields.
        displacement_vox: ``(1, 3, D, H, W)``, voxels of the grid, on the CPU; takes fixed points towards the moving
            image, before the initial alignment does.
        inverse_vox: the inverse field.
    """

    grid: Grid
    displacement_vox: Tensor
    inverse_vox: Tensor


def deform(
    velocity_vox: Tensor,
    grid: Grid,
    following: Sequence[Part] = (),
    *,
    between: Callable[[], None] = lambda: None,
) -> Deformation:
    """Taper all fields to zero beyond the grid, integrate velocities forwards and backwards, and polish the inverse.

    Args:
        velocity_vox: ``(1, 3, D, H, W)``, voxels of ``grid``.
        grid: the working grid.
        following: fields of the same shape that follow the flow of the velocity, in their order. The inverse of a
            displacement is found by iteration; where it folds there is none, and the field stored is the closest that
            was found.
        between: called between pieces of the work; may raise to stop.
    """
    parts = [Part(field_vox=velocity_vox, is_velocity=True), *following]
    width = max(_taper_width(part.field_vox) for part in parts)
    parts = [part.with_field(taper(part.field_vox, width)) for part in parts]
    displacement = composed(parts, _SQUARINGS, between=between)
    inverse = composed_inverse(parts, _SQUARINGS, between=between)
    # The taper only lets the field end; it may be many times as large as the image, which is what the inverse is for.
    inverse = polish_inverse(displacement, inverse, rim=width - _LEAST_TAPER_VOXELS, between=between)
    return Deformation(grid=grid.padded(width), displacement_vox=displacement.cpu(), inverse_vox=inverse.cpu())


def taper(field: Tensor, width: int) -> Tensor:
    """Continue ``(1, C, D, H, W)`` by ``width`` voxels on every side, falling to zero along a cosine."""
    rise = 0.5 - 0.5 * torch.cos(math.pi * torch.arange(width, dtype=field.dtype, device=field.device) / width)
    for axis in (2, 3, 4):
        last = field.shape[axis] - 1
        shape = [1] * 5
        shape[axis] = width
        before = field.narrow(axis, 0, 1) * rise.view(shape)
        after = field.narrow(axis, last, 1) * rise.flip(0).view(shape)
        field = torch.cat([before, field, after], dim=axis)
    return field


def _taper_width(velocity_vox: Tensor) -> int:
    """Wide enough that the slope of the taper stays below one half: no fold can come from it."""
    faces = [velocity_vox.select(axis, index) for axis in (2, 3, 4) for index in (0, -1)]
    largest = max(float(face.abs().amax()) for face in faces)
    return max(_LEAST_TAPER_VOXELS, math.ceil(math.pi * largest) + 1)


def transforms(
    deformation: Deformation | None, moving_from_fixed_ras: NDArray[np.float64]
) -> tuple[SpatialTransform, SpatialTransform]:
    """The forward transform (fixed points to moving points) and its inverse, as chains of a grid and a matrix."""
    matrix = [] if np.array_equal(moving_from_fixed_ras, np.eye(4)) else [moving_from_fixed_ras]
    forward = [MatrixStep(matrix_ras=item) for item in matrix]
    backward = [MatrixStep(matrix_ras=np.linalg.inv(item).astype(np.float64)) for item in matrix]
    if deformation is None:
        empty = MatrixStep(matrix_ras=np.eye(4))
        return SpatialTransform(steps=tuple(forward or [empty])), SpatialTransform(steps=tuple(backward or [empty]))
    there = _grid_step(deformation.displacement_vox, deformation.grid)
    back = _grid_step(deformation.inverse_vox, deformation.grid)
    return SpatialTransform(steps=(there, *forward)), SpatialTransform(steps=(*backward, back))


def _grid_step(displacement_vox: Tensor, grid: Grid) -> GridStep:
    vectors_ijk = displacement_vox[0].flip(0).permute(1, 2, 3, 0).double().numpy()
    displacement_ras = (vectors_ijk @ grid.ras_from_ijk[:3, :3].T).astype(np.float32)
    return GridStep(displacement_ras=np.ascontiguousarray(displacement_ras), ras_from_ijk=grid.ras_from_ijk)


@dataclass(frozen=True, kw_only=True, eq=False)
class Maps:
    """What the whole transform does, voxel by voxel of the fixed image."""

    jacobian: Volume
    magnitude: Volume
    folding_percent: float
    folding_count: int
    worst_fold_ras: tuple[float, float, float] | None


def maps(
    deformation: Deformation | None,
    moving_from_fixed_ras: NDArray[np.float64],
    fixed: Volume,
    *,
    between: Callable[[], None] = lambda: None,
) -> Maps:
    """Jacobian determinant and length of the displacement of the whole transform on the fixed grid.

    The determinant is taken by forward differences between voxels; the last slice along each axis repeats the one
    before it, so that the map has the size of the image. Folding counts the cells between voxels. ``between`` is called
    between pieces of the work, and may raise to stop.
    """
    shape = fixed.shape
    if deformation is None:
        displacement = torch.zeros(1, 3, *shape)
    else:
        lookup = voxel_map(fixed.ras_from_ijk, deformation.grid.ras_from_ijk)
        displacement = resample_displacement(deformation.displacement_vox, lookup, shape)
    cells = jacobian_determinant(displacement) * float(np.linalg.det(moving_from_fixed_ras[:3, :3]))
    percent, count = folding(cells)
    worst = _worst_fold_ras(cells, fixed) if count else None
    whole = torch.nn.functional.pad(cells[None], (0, 1) * 3, mode="replicate")[0, 0]
    magnitude = np.empty(shape, dtype=np.float32)
    linear = fixed.ras_from_ijk[:3, :3]
    for slice_number in range(shape[0]):
        between()
        points = slice_points(fixed, slice_number)
        vectors = displacement[0, :, slice_number].flip(0).permute(1, 2, 0).double().numpy()
        moved = map_points(moving_from_fixed_ras, points + vectors @ linear.T)
        magnitude[slice_number] = np.linalg.norm(moved - points, axis=-1)
    return Maps(
        jacobian=fixed.with_array(whole.numpy(), "jacobian"),
        magnitude=fixed.with_array(magnitude, "displacement magnitude"),
        folding_percent=percent,
        folding_count=count,
        worst_fold_ras=worst,
    )


def _worst_fold_ras(cells: Tensor, fixed: Volume) -> tuple[float, float, float]:
    """Centre of the cell with the lowest determinant, RAS mm; ``cells`` has one entry less than the image each way."""
    k, j, i = np.unravel_index(int(cells.argmin()), tuple(cells.shape[-3:]))
    right, anterior, superior = map_points(fixed.ras_from_ijk, np.array([i, j, k]) + 0.5).tolist()
    return right, anterior, superior


def slice_points(volume: Volume, slice_number: int) -> NDArray[np.float64]:
    """Centres of the voxels of one slice, ``(H, W, 3)``, RAS mm."""
    _, height, width = volume.shape
    j, i = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return map_points(volume.ras_from_ijk, np.stack([i, j, np.full_like(i, slice_number)], axis=-1))


def uncertainty(
    samples_vox: tuple[Tensor, ...],
    velocity_vox: Tensor,
    grid: Grid,
    fixed: Volume,
    following: Sequence[Part] = (),
) -> Volume | None:
    """Standard deviation of the displacement over draws of the velocity, mm, on the fixed grid; None without draws.

    The root of the summed variances along the three axes, in mm. What follows the flow is the same for each draw.
    """
    if not samples_vox:
        return None
    spacing = torch.as_tensor(grid.spacing_mm[::-1].copy(), dtype=torch.float32).view(1, 3, 1, 1, 1)
    total = torch.zeros(())
    squares = torch.zeros(())
    for sample in samples_vox:
        parts = [Part(field_vox=velocity_vox + sample, is_velocity=True), *following]
        displacement = composed(parts, _SQUARINGS).cpu() * spacing
        total = total + displacement
        squares = squares + displacement.square()
    count = len(samples_vox)
    variance = (squares / count - (total / count).square()).clamp(min=0) * (count / max(1, count - 1))
    deviation = variance.sum(dim=1, keepdim=True).sqrt()
    on_fixed = resample(deviation, voxel_map(fixed.ras_from_ijk, grid.ras_from_ijk), fixed.shape)
    return fixed.with_array(on_fixed[0, 0].numpy(), "uncertainty")


def regularity_map(weight: Tensor | None, grid: Grid, fixed: Volume) -> Volume | None:
    """How much smoothness counts, ``(1, 1, D, H, W)`` of ``grid``, on the fixed grid; 1 beyond; None without one."""
    if weight is None:
        return None
    freedom = resample(1 - weight, voxel_map(fixed.ras_from_ijk, grid.ras_from_ijk), fixed.shape)
    return fixed.with_array((1 - freedom)[0, 0].cpu().numpy(), "regularity weight")


def inverse_consistency_mm(
    forward: SpatialTransform, inverse: SpatialTransform, fixed: Volume, where: NDArray[np.bool_], seed: int
) -> dict[str, float]:
    """Mean, 99th percentile and maximum of ``|inverse(forward(x)) - x|`` in mm, at random points of the foreground.

    The points lie anywhere within voxels, not only at their centres: interpolation counts.
    """
    rng = np.random.default_rng(seed)
    k, j, i = np.nonzero(where)
    chosen = rng.integers(0, len(k), size=min(len(k), _CONSISTENCY_POINTS))
    places = np.stack([i[chosen], j[chosen], k[chosen]], axis=1) + rng.uniform(-0.5, 0.5, (len(chosen), 3))
    points = map_points(fixed.ras_from_ijk, places)
    error = np.linalg.norm(inverse.transform_points(forward.transform_points(points)) - points, axis=1)
    return {"mean": float(error.mean()), "p99": float(np.percentile(error, 99)), "max": float(error.max())}
