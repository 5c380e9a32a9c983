"""Register one pair of images: checks, initial alignment, network, refinement, integration, outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autofuse_engine.data.transform import SpatialTransform
from autofuse_engine.data.volume import Volume


@dataclass(frozen=True, kw_only=True, eq=False)
class RegistrationResult:
    """Everything that a registration yields; all volumes lie on the fixed image's grid.

    Attributes:
        transform: takes points of the fixed image to the moving image (``warped(x) = moving(transform(x))``).
        inverse: takes points of the moving image to the fixed image.
        warped: the moving image on the fixed grid, float32.
        warped_labels: the moving labelmap on the fixed grid, or None.
        jacobian: determinant of the whole transform's derivative; values <= 0 fold.
        displacement_magnitude: length of ``transform(x) - x``, mm.
        uncertainty: standard deviation of the displacement over posterior samples, mm, or None.
        report: figures that JSON can hold: metrics, seconds, memory, warnings, provenance.
    """

    transform: SpatialTransform
    inverse: SpatialTransform
    warped: Volume
    warped_labels: Volume | None
    jacobian: Volume
    displacement_magnitude: Volume
    uncertainty: Volume | None
    report: dict[str, Any]
