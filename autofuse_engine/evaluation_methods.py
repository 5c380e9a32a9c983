"""What the judge needs of a method: register one pair, say how long it took, and hand back the transform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.data.transform import SpatialTransform
from autofuse_engine.data.volume import Volume


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationPair:
    """Two images with all that is known of them; a method must not look at labels and points.

    Attributes:
        fixed: the fixed image; ``fixed.name`` is the case's name.
        moving: the moving image.
        initial_ras: 4x4, RAS mm; takes fixed points to the moving image: the initial alignment that every method but
            ``none`` starts from.
        fixed_labels: labelmap on the fixed grid, or None.
        moving_labels: labelmap on the moving grid, or None.
        fixed_points_ras: ``(N, 3)`` landmarks, mm, or None.
        moving_points_ras: the same landmarks in the moving image, or None.
        fixed_mask: on the fixed grid, not zero where voxels count, or None.
        moving_mask: the same for the moving image.
    """

    fixed: Volume
    moving: Volume
    initial_ras: NDArray[np.float64]
    fixed_labels: Volume | None = None
    moving_labels: Volume | None = None
    fixed_points_ras: NDArray[np.float64] | None = None
    moving_points_ras: NDArray[np.float64] | None = None
    fixed_mask: Volume | None = None
    moving_mask: Volume | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Registered:
    """What a method found.

    Attributes:
        forward: the whole transform, initial alignment included: fixed points to the moving image, RAS mm.
        inverse: the other way, or None where the method has none.
        seconds: of the method itself, without reading files, the shared initial alignment and judging.
        gate_means: ``stage``, ``level`` and ``pair_weight`` of each fusion gate of a network that has them.
        peak_memory_gib: most memory on the device where the method ran, as far as it can tell; None leaves it to the
            sampling of this process.
    """

    forward: SpatialTransform
    inverse: SpatialTransform | None
    seconds: float
    gate_means: tuple[dict[str, Any], ...] = ()
    peak_memory_gib: float | None = None


class Method(Protocol):
    """A way to register, made once and used for all pairs."""

    @property
    def name(self) -> str:
        """Display name."""
        ...

    def register(self, pair: EvaluationPair) -> Registered:
        """Find the transform of one pair.

        Raises:
            AutoFuseError: if the pair cannot be registered; the evaluation notes it and goes on.
        """
        ...
