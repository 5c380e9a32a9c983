"""Bring a pair of two contrasts to one: find the contrast, and meanwhile the alignment, by coarse searches in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.configs import RefinementConfig
from autofuse_engine.contrast_transfer import ContrastTransfer
from autofuse_engine.data.preprocessing import Grid
from autofuse_engine.events import Event, Progress, Report
from autofuse_engine.metrics import correlation
from autofuse_engine.refinement import RefinementPair, refine
from autofuse_engine.spatial.grid import apply_matrix, voxel_grid, voxel_map
from autofuse_engine.spatial.integrate import integrate, squarings_for
from autofuse_engine.spatial.resample import inside, resample
from autofuse_engine.spatial.warp import sample

Side = Literal["fixed", "moving"]
BLUR_MM = (8.0, 5.0, 4.0)
"""What the alignment is taken to be unsure of: at first, after one coarse search, and after two."""
SHARE = 0.35
"""Of the refinement's time that all this takes, about."""
_LEAST_WEIGHT = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class CommonContrast:
    """What was found.

    Attributes:
        side: the image whose labels are known, which is to be shown in the other's contrast.
        transfer: has its labels.
        contrast: how they look in the other image.
        matrix_vox: 4x4, tensor axis order: takes voxels of the grid to where the initial alignment is to be looked up.
        grid: of the labels, and of the matrix.
        correlation: of the image shown in the other's contrast with the other, where the last coarse search put it; 0
            where they have nothing in common.
    """

    side: Side
    transfer: ContrastTransfer
    contrast: Tensor
    matrix_vox: NDArray[np.float64]
    grid: Grid
    correlation: float

    def applied(
        self, pair: RefinementPair, covered: Tensor, grid: Grid, aligned_vox: NDArray[np.float64]
    ) -> RefinementPair:
        """The pair with both images in one contrast.

        Args:
            pair: on any working grid.
            covered: how much of each voxel of the known image the foreground covers, of its shape in ``pair``.
            grid: that grid.
            aligned_vox: 4x4, tensor axis order: from voxels of the labels' grid to those of ``pair.moving``, as the
                moving image was aligned when its labels were made.
        """
        if self.side == "fixed":
            lookup = voxel_map(grid.ras_from_ijk, self.grid.ras_from_ijk)
            return replace(pair, fixed=self.transfer.show(pair.fixed, covered, lookup, self.contrast))
        return replace(pair, moving=self.transfer.show(pair.moving, covered, _inverse(aligned_vox), self.contrast))


def find_common_contrast(
    pair: RefinementPair,
    grid: Grid,
    side: Side,
    covered: Tensor,
    probabilities: Tensor,
    config: RefinementConfig,
    *,
    kind: Literal["rigid", "affine"] | None,
    report: Report,
    stop: Callable[[], bool],
    between: Callable[[], None] = lambda: None,
) -> CommonContrast:
    """Fit the contrast, search coarsely, and again; each time from the alignment that the search came to.

    Args:
        pair: on ``grid``, under the initial alignment.
        grid: of ``probabilities``.
        side: the image whose labels are known.
        covered: how much of each voxel of the known image the foreground covers, of its shape in ``pair``.
        probabilities: ``(1, K, D, H, W)``, of that image's labels, the moving one as it is aligned.
        config: of the refinement; all levels but the finest are searched.
        kind: what the alignment may become; None leaves it as it is.
        report: receives the progress, as a share of the refinement.
        stop: asked between steps; True ends the search with what it has.
        between: called between pieces of the work; may raise to stop.
    """

    def aligned(image: Tensor) -> Tensor:
        return resample(image, pair.moving_from_fixed_vox, grid.shape, between=between)

    known = pair.fixed if side == "fixed" else aligned(pair.moving)
    transfer = ContrastTransfer(known, probabilities, grid.spacing_mm, between)
    coarse = replace(config, finest_steps=0)
    masked = _masked(pair)
    matrix, other = np.eye(4), aligned(masked.moving) if side == "fixed" else masked.fixed
    counts = masked.fixed_weight if side == "fixed" else masked.moving_weight
    counts = counts if side == "fixed" or counts is None else aligned(counts)

    def fitted(blur_mm: float) -> CommonContrast:
        contrast = transfer.fit(other if counts is None else other * (counts > _LEAST_WEIGHT), blur_mm)
        return CommonContrast(
            side=side, transfer=transfer, contrast=contrast, matrix_vox=matrix, grid=grid, correlation=0.0
        )

    found = fitted(BLUR_MM[0])
    for number, blur_mm in enumerate(BLUR_MM[1:]):
        if stop():
            break
        shown = replace(
            found.applied(pair, covered, grid, pair.moving_from_fixed_vox),
            moving_from_fixed_vox=pair.moving_from_fixed_vox @ matrix,
        )
        part = _part_of(report, number, len(BLUR_MM) - 1)
        velocity = refine(shown, coarse, report=part, stop=stop).velocity_vox
        other = _carried(masked, side, matrix, velocity, between)
        if kind is not None:
            matrix = matrix @ _closest_matrix(velocity, pair.fixed_weight, grid.spacing_mm, kind)
        found = fitted(blur_mm)
    of_known = covered if side == "fixed" else aligned(covered)
    first, second = (
        image.cpu().numpy() for image in (transfer.show(known, of_known, np.eye(4), found.contrast), other)
    )
    both = (first > 0) & (second > 0)
    explained = correlation(first, second, both) if both.any() else 0.0
    return replace(found, correlation=explained if np.isfinite(explained) else 0.0)


def _masked(pair: RefinementPair) -> RefinementPair:
    """The pair with images that show nothing where they do not count."""
    weights = pair.fixed_weight, pair.moving_weight
    fixed, moving = (
        image if weight is None else image * (weight > _LEAST_WEIGHT)
        for image, weight in zip((pair.fixed, pair.moving), weights, strict=True)
    )
    return replace(pair, fixed=fixed, moving=moving)


def within(report: Report, first: float, last: float) -> Report:
    """Progress as a part of the whole; everything else as it is."""

    def tell(event: Event) -> None:
        if isinstance(event, Progress):
            event = replace(event, fraction=first + (last - first) * event.fraction)
        report(event)

    return tell


def _part_of(report: Report, number: int, count: int) -> Report:
    """Only progress: the curve of the loss is that of the refinement itself."""
    scaled = within(report, SHARE * number / count, SHARE * (number + 1) / count)

    def tell(event: Event) -> None:
        if isinstance(event, Progress):
            scaled(event)

    return tell


def _carried(
    pair: RefinementPair, side: Side, matrix: NDArray[np.float64], velocity: Tensor, between: Callable[[], None]
) -> Tensor:
    """The image whose labels are unknown, ``(1, 1, D, H, W)``, on the other one, by what is known of the transform.

    A point x of the fixed image lies at M C phi(x) of the moving one, M being the initial alignment, C ``matrix`` and
    phi the flow; the aligned moving image was looked up at M y, so that x = phi^-1(C^-1 y).
    """
    squarings = squarings_for(velocity)
    points = voxel_grid(tuple(velocity.shape[2:]), velocity.device)
    if side == "fixed":
        places = points + integrate(velocity, squarings, between=between)
        places, image = apply_matrix(pair.moving_from_fixed_vox @ matrix, places), pair.moving
    else:
        back = integrate(-velocity, squarings, between=between)
        places, image = apply_matrix(_inverse(matrix), points), pair.fixed
        places = places + sample(back, places)
    return sample(image, places) * inside(places, tuple(image.shape[2:])).float()


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.inv(matrix).astype(np.float64)


def _closest_matrix(
    velocity: Tensor, weight: Tensor | None, spacing_mm: NDArray[np.float64], kind: Literal["rigid", "affine"]
) -> NDArray[np.float64]:
    """4x4, tensor axis order, voxels: the linear map that comes closest to the flow in the foreground."""
    displacement = integrate(velocity, squarings_for(velocity))
    points = voxel_grid(tuple(velocity.shape[2:]), velocity.device)
    counted = torch.ones_like(points[:, :1]) if weight is None else weight
    counted = (counted > _LEAST_WEIGHT)[0, 0]
    before = points[0][:, counted].double().cpu().numpy()
    after = before + displacement[0][:, counted].double().cpu().numpy()
    result = np.eye(4)
    if before.shape[1] <= 12:
        return result
    center, goal = before.mean(axis=1, keepdims=True), after.mean(axis=1, keepdims=True)
    cross = (after - goal) @ (before - center).T
    if kind == "rigid":  # Kabsch 1976, in mm
        sides = np.diag(spacing_mm[::-1])
        left, _, right = np.linalg.svd(sides @ cross @ sides)
        signs = np.diag([1.0, 1.0, float(np.sign(np.linalg.det(left @ right)))])
        result[:3, :3] = np.linalg.inv(sides) @ left @ signs @ right @ sides
    else:
        result[:3, :3] = cross @ np.linalg.inv((before - center) @ (before - center).T)
    result[:3, 3:] = goal - result[:3, :3] @ center
    return result
