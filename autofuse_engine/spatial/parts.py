"""Maps that follow one another: velocities and displacements as parts of one map, and its inverse part by part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from autofuse_engine.spatial.integrate import integrate, invert
from autofuse_engine.spatial.warp import compose


def _nothing() -> None:
    """What happens between pieces of work where nobody asks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One map of several: the flow of a stationary velocity, or a displacement.

    Attributes:
        field_vox: ``(1, 3, D, H, W)``, voxels.
        is_velocity: whether the field is a velocity, which has an exact inverse, or the displacement itself.
    """

    field_vox: Tensor
    is_velocity: bool

    def with_field(self, field_vox: Tensor) -> Part:
        """The same kind of part with another field."""
        return replace(self, field_vox=field_vox)

    def displacement(self, squarings: int = 7, *, between: Callable[[], None] = _nothing) -> Tensor:
        """``(1, 3, D, H, W)``, voxels; ``between`` is called between pieces of the work and may raise to stop."""
        return integrate(self.field_vox, squarings, between=between) if self.is_velocity else self.field_vox

    def inverse(self, squarings: int = 7, *, between: Callable[[], None] = _nothing) -> Tensor:
        """Displacement that undoes the part: the flow of the opposite velocity, or found by iteration."""
        if self.is_velocity:
            return integrate(-self.field_vox, squarings, between=between)
        return invert(self.field_vox, between=between)


def composed(parts: Sequence[Part], squarings: int = 7, *, between: Callable[[], None] = _nothing) -> Tensor:
    """Displacement of all parts, the first of them first: ``(1, 3, D, H, W)``, voxels.

    Raises:
        ValueError: if there is no part.
    """
    _require_one(parts)
    total = parts[0].displacement(squarings, between=between)
    for part in parts[1:]:
        total = compose(total, part.displacement(squarings, between=between))
    return total


def composed_inverse(parts: Sequence[Part], squarings: int = 7, *, between: Callable[[], None] = _nothing) -> Tensor:
    """Displacement that undoes all parts, the last of them first; shape and errors of :func:`composed`."""
    _require_one(parts)
    total = parts[-1].inverse(squarings, between=between)
    for part in reversed(parts[:-1]):
        total = compose(total, part.inverse(squarings, between=between))
    return total


def _require_one(parts: Sequence[Part]) -> None:
    if not parts:
        raise ValueError("a map has at least one part, received none")
