"""What a model predicted on its own grid, carried onto a finer one, where the refinement goes on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from autofuse_engine.data.preprocessing import Grid
from autofuse_engine.passes import Passes
from autofuse_engine.spatial.grid import voxel_map
from autofuse_engine.spatial.parts import Part
from autofuse_engine.spatial.resample import resample_displacement


@dataclass(frozen=True, kw_only=True, eq=False)
class CarriedFields:
    """Fields of a pair, all ``(1, 3, D, H, W)`` in voxels of one grid; see :class:`.passes.Passes` for what they mean.

    Attributes:
        velocity_vox: None where nothing was predicted.
        samples_vox: draws of the velocity minus its mean.
        following: what follows the flow of the velocity.
        following_vox: displacement of all of ``following``; None where none follows.
    """

    velocity_vox: Tensor | None = None
    samples_vox: tuple[Tensor, ...] = ()
    following: tuple[Part, ...] = ()
    following_vox: Tensor | None = None

    @classmethod
    def of(cls, passes: Passes) -> CarriedFields:
        """What all passes of a model came to."""
        return cls(
            velocity_vox=passes.last.velocity_vox,
            samples_vox=passes.last.samples_vox,
            following=passes.following,
            following_vox=passes.following_vox,
        )

    @classmethod
    def starting_from(cls, before_vox: Tensor) -> CarriedFields:
        """A displacement that was known before, and nothing else: the velocity is zero."""
        part = Part(field_vox=before_vox, is_velocity=False)
        return cls(velocity_vox=torch.zeros_like(before_vox), following=(part,), following_vox=before_vox)

    def onto(self, grid: Grid, own: Grid) -> CarriedFields:
        """The same fields in physical space, looked up on another grid; beyond their own they go on as at its border.

        The flow of a velocity that was looked up between voxels differs from the looked-up flow by less than what the
        coarser grid can tell. Axes of both grids may differ in direction.

        Args:
            grid: the new grid.
            own: the grid on which the fields lie.
        """
        lookup = voxel_map(grid.ras_from_ijk, own.ras_from_ijk)

        def carried(field: Tensor | None) -> Tensor | None:
            return None if field is None else resample_displacement(field, lookup, grid.shape, continued=True)

        samples = [carried(sample) for sample in self.samples_vox]
        parts = [(part, carried(part.field_vox)) for part in self.following]
        return replace(
            self,
            velocity_vox=carried(self.velocity_vox),
            samples_vox=tuple(sample for sample in samples if sample is not None),
            following=tuple(part.with_field(field) for part, field in parts if field is not None),
            following_vox=carried(self.following_vox),
        )
