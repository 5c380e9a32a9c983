"""What a search for the velocity field of a pair is given, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.data.preprocessing import Grid, axes_towards
from autofuse_engine.data.volume import Volume
from autofuse_engine.guidance import Guidance
from autofuse_engine.initial_transform import InitialTransform
from autofuse_engine.label_alignment import LabelAlignment
from autofuse_engine.networks.build import Precision
from autofuse_engine.refinement import LevelReport
from autofuse_engine.spatial.parts import Part


@dataclass(frozen=True, kw_only=True, eq=False)
class PairImages:
    """The pair as the user gave it, and where the search starts.

    ``start`` divides what the search starts from; its matrix is the initial alignment. ``guidance`` is for a model that
    can use it, or for the refinement alone.
    """

    fixed: Volume
    moving: Volume
    fixed_mask: Volume | None
    moving_mask: Volume | None
    start: InitialTransform
    guidance: Guidance | None = None

    @property
    def moving_from_fixed_ras(self) -> NDArray[np.float64]:
        """4x4, RAS mm, of the initial alignment."""
        return self.start.matrix_ras

    def in_canonical_order(self) -> PairImages:
        """The same volumes with voxel axes towards right, anterior, superior: the stored order leaves no trace."""
        return PairImages(
            fixed=_canonical(self.fixed),
            moving=_canonical(self.moving),
            fixed_mask=None if self.fixed_mask is None else _canonical(self.fixed_mask),
            moving_mask=None if self.moving_mask is None else _canonical(self.moving_mask),
            start=self.start,
            guidance=self.guidance,
        )


def _canonical(volume: Volume) -> Volume:
    return volume.reordered(axes_towards(volume.ras_from_ijk))


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One rung of the memory ladder."""

    device: torch.device
    precision: Precision
    coarser: float = 1.0

    def __str__(self) -> str:
        grid = "" if self.coarser == 1 else f", {self.coarser:g} times coarser working grid"
        return f"{self.precision} on {self.device}{grid}"


@dataclass(frozen=True, kw_only=True)
class ContrastFigures:
    """Of a pair of two contrasts that was searched in one: ``known`` says which image's labels showed it in the other's
    contrast, ``correlation`` how well that explains the other image as the coarse search put it."""

    known: Literal["fixed", "moving"]
    correlation: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """The velocity field of a pair, ``(1, 3, D, H, W)`` in voxels of ``grid``; None where only the alignment counts.

    ``following`` are fields of the same shape that follow the flow of the velocity: from a model that predicts the
    displacement or was asked more than once, and what the search started from. ``model_grid`` is where the model saw
    the images: ``grid`` itself unless the refinement took a finer one. On it lie ``fixed_classes`` and
    ``moving_classes``, ``(D, H, W)``, uint8, where the model segments: the fixed image, and the moving image under the
    alignment ``segmented_under_ras`` (4x4), that of ``start`` unless it was improved afterwards; None of an image that
    the model does not know (``contrast``). There also lies ``regularity_weight``, ``(1, 1, D, H, W)``, from a model
    that learns it. ``steps`` of the refinement were allowed at each level (by default fewer at the finest), and
    ``labels`` guided it. ``passes_mm`` has the mean length of each pass's displacement where there were several.
    ``start`` is that of the pair, or what the labels of a model made of its matrix (``label_alignment``, where six or
    more count, or ``contrast``).
    """

    start: InitialTransform
    segmented_under_ras: NDArray[np.float64]
    velocity_vox: Tensor | None
    grid: Grid
    model_grid: Grid
    samples_vox: tuple[Tensor, ...]
    gate_means: list[dict[str, float]] | None
    steps: int
    levels: tuple[LevelReport, ...]
    labels: int
    model_name: str
    model_sha256: str | None
    fixed_classes: Tensor | None = None
    moving_classes: Tensor | None = None
    following: tuple[Part, ...] = ()
    regularity_weight: Tensor | None = None
    passes_mm: tuple[float, ...] = ()
    label_alignment: LabelAlignment | None = None
    contrast: ContrastFigures | None = None
