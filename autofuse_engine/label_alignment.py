"""Improve an initial alignment by the labels that a model sees in both images.

Mutual information of whole images is flat where one tissue surrounds many structures, and more so across contrasts.
Where the structures themselves are known in both images, the matrix under which they lie on each other is better found
by them; cf. EasyReg (Iglesias, Scientific Reports 2023, arXiv 2305.07120), which fits it to their centroids. Overlap is
maximised here instead: centroids of labels that merge left and right say nothing about the width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.adam import Adam
from autofuse_engine.model_card import LEAST_LABELS
from autofuse_engine.refinement_labels import LabelDisagreement, memberships
from autofuse_engine.spatial.grid import voxel_grid
from autofuse_engine.spatial.smooth import shrink
from autofuse_engine.spatial.warp import warp

_LEVELS_MM = (8.0, 4.0)
_LEAST_SIDE = 8
_STEPS = 40
_FIRST_STEP_VOX = 0.1
_BETAS = (0.9, 0.99)
_LEAST_GAIN = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelAlignment:
    """What the labels say of the alignment.

    Attributes:
        matrix_vox: 4x4, tensor axis order: takes voxels of the grid to where the moving labels are to be looked up.
        labels: how many both images have.
        gained: whether they disagree less under the matrix, by a percent at least.
        before: disagreement as the labels were given, 0 where all lie on each other (:class:`LabelDisagreement`).
        after: the same under the matrix.
    """

    matrix_vox: NDArray[np.float64]
    labels: int
    gained: bool
    before: float
    after: float


def align_labels(
    fixed_labels: Tensor,
    moving_labels: Tensor,
    spacing_mm: NDArray[np.float64],
    kind: Literal["rigid", "affine"],
    *,
    moving_inside: Tensor | None = None,
    between: Callable[[], None] = lambda: None,
) -> LabelAlignment | None:
    """Find the matrix under which the labels agree best, from where they lie.

    Args:
        fixed_labels: ``(1, 1, D, H, W)``, integers, 0 where no label is.
        moving_labels: same grid: those of the moving image under the alignment so far.
        spacing_mm: ``(3,)``, of the grid along i, j, k.
        kind: what the matrix may do.
        moving_inside: ``(1, 1, D, H, W)``, 1 where the moving image shows something, else 0; None means everywhere.
            Labels that its border cuts say nothing of what lies beyond.
        between: called between steps; may raise to stop.

    Returns:
        None where too few labels are shared (:data:`LEAST_LABELS`).
    """
    members = memberships(fixed_labels, moving_labels)
    if members is None or members.labels < LEAST_LABELS:
        return None
    sides = torch.as_tensor(spacing_mm[::-1].copy(), dtype=torch.float32, device=fixed_labels.device)
    motion = _Motion(kind, sides, tuple(fixed_labels.shape[2:]))
    before = after = 0.0
    for factor in _factors(tuple(fixed_labels.shape[2:]), float(sides.mean())):
        disagreement = LabelDisagreement(members, factor, between=between)
        shown = None if moving_inside is None else shrink(moving_inside, factor)

        def disagree(
            displacement_vox: Tensor, measure: LabelDisagreement = disagreement, shown: Tensor | None = shown
        ) -> Tensor:
            weight = None if shown is None else warp(shown, displacement_vox.detach())
            return measure(displacement_vox, weight)

        optimiser = Adam(motion.values, _BETAS)
        for step in range(_STEPS):
            between()
            disagree(motion.displacement_vox(factor)).backward()
            optimiser.step(_FIRST_STEP_VOX * factor * float(sides.mean()) * (1 - step / _STEPS))
        with torch.no_grad():
            after = float(disagree(motion.displacement_vox(factor)))
            before = float(disagree(torch.zeros_like(motion.displacement_vox(factor))))
    gained = after < before * (1 - _LEAST_GAIN)
    return LabelAlignment(
        matrix_vox=motion.matrix_vox(), labels=members.labels, gained=gained, before=before, after=after
    )


def _factors(shape: tuple[int, ...], spacing_mm: float) -> tuple[int, ...]:
    """How many times coarser each level is than the grid, coarse to fine."""
    found: list[int] = []
    for level_mm in _LEVELS_MM:
        factor = 1
        while 2 * factor * spacing_mm <= level_mm * 1.1 and all(
            side % (2 * factor) == 0 and side // (2 * factor) >= _LEAST_SIDE for side in shape
        ):
            factor *= 2
        found.append(factor)
    return tuple(dict.fromkeys(found))


class _Motion:
    """A rigid or affine motion about the centre of a grid; every value is the distance in mm that it moves a point at
    a typical distance from there."""

    def __init__(self, kind: Literal["rigid", "affine"], sides_mm: Tensor, shape: tuple[int, ...]) -> None:
        self._rigid, self._sides, self._shape = kind == "rigid", sides_mm, shape
        extents = sides_mm * torch.tensor(shape, dtype=torch.float32, device=sides_mm.device)
        self._radius = float(extents.min()) / 4
        self.values = torch.zeros(2 if self._rigid else 4, 3, device=sides_mm.device, requires_grad=True)

    def _parts(self) -> tuple[Tensor, Tensor]:
        """``(3, 3)``, the linear part minus the identity, and ``(3,)``, the shift in mm."""
        shift, rest = self.values[0], self.values[1:] / self._radius
        if not self._rigid:
            return rest, shift
        zero = torch.zeros_like(rest[0, 0])
        x, y, z = rest[0]
        skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).view(3, 3)
        return torch.linalg.matrix_exp(skew) - torch.eye(3, device=skew.device), shift

    def displacement_vox(self, factor: int) -> Tensor:
        """``(1, 3, D/f, H/f, W/f)``, in voxels of the level."""
        linear, shift = self._parts()
        sides = self._sides * factor
        grid = voxel_grid(tuple(side // factor for side in self._shape), self._sides.device)
        centre = (torch.tensor(grid.shape[2:], device=grid.device) - 1) / 2
        places = (grid - centre.view(1, 3, 1, 1, 1)) * sides.view(1, 3, 1, 1, 1)
        moved = torch.einsum("ij,bjdhw->bidhw", linear, places) + shift.view(1, 3, 1, 1, 1)
        return moved / sides.view(1, 3, 1, 1, 1)

    def matrix_vox(self) -> NDArray[np.float64]:
        """4x4 on voxels of the grid itself, tensor axis order."""
        linear, shift = (part.detach().cpu().double().numpy() for part in self._parts())
        sides, centre = self._sides.cpu().double().numpy(), (np.array(self._shape) - 1) / 2
        matrix = np.eye(4)
        matrix[:3, :3] += linear / sides[:, None] * sides[None, :]
        matrix[:3, 3] = centre + shift / sides - matrix[:3, :3] @ centre
        return matrix
