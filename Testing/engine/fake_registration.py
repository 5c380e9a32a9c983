"""A registration that costs nothing: a known smooth field stands in for the search, everything else is computed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from autofuse_engine.configs import RegistrationConfig
from autofuse_engine.data.resample import resample_image, resample_labels
from autofuse_engine.data.transform import GridStep, MatrixStep, SpatialTransform
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import CancelledError
from autofuse_engine.events import Event, Metric, Progress, Warning, silent
from autofuse_engine.registration import RegistrationResult


def wavy_transform(fixed: Volume, amplitude_mm: float, shift_mm: tuple[float, float, float]) -> SpatialTransform:
    """One sine of displacement along each axis of the fixed grid, then a shift."""
    k, j, i = np.meshgrid(*(np.linspace(0, np.pi, side) for side in fixed.shape), indexing="ij")
    bump = np.sin(k) * np.sin(j) * np.sin(i)
    displacement = amplitude_mm * np.stack([bump * np.cos(j), -bump * np.cos(2 * i), bump], axis=-1)
    matrix = np.eye(4)
    matrix[:3, 3] = shift_mm
    return SpatialTransform(
        steps=(GridStep(displacement_ras=displacement, ras_from_ijk=fixed.ras_from_ijk), MatrixStep(matrix_ras=matrix))
    )


def fake_register(
    fixed: Volume,
    moving: Volume,
    config: RegistrationConfig | None = None,
    *,
    moving_labels: Volume | None = None,
    report: Callable[[Event], None] = silent,
    cancelled: Callable[[], bool] = lambda: False,
    amplitude_mm: float = 4.0,
    shift_mm: tuple[float, float, float] = (1.5, -2.0, 0.5),
    **_: object,
) -> RegistrationResult:
    """The contract of ``register`` with a field that is given instead of found."""
    config = config or RegistrationConfig()
    report(Progress(stage="check", fraction=0.0))
    report(Warning(code="fake", text="This is a stand-in."))
    for step in range(4):
        if cancelled():
            raise CancelledError
        report(Progress(stage="refinement", fraction=0.2 * (step + 1), text="level 1"))
        report(Metric(stage="refinement", step=step, values={"loss": 1.0 / (step + 1)}))
    transform = wavy_transform(fixed, amplitude_mm, shift_mm)
    grid = transform.flattened(fixed.ras_from_ijk, fixed.shape)
    spacing = fixed.spacing_mm
    gradient = np.stack(np.gradient(grid.displacement_ras, *spacing[::-1], axis=(2, 1, 0)), axis=-1)
    direction = fixed.ras_from_ijk[:3, :3] / spacing
    jacobian = np.linalg.det(np.eye(3) + gradient @ direction.T)
    backwards = np.eye(4)
    backwards[:3, 3] = -np.array(shift_mm)
    inverse = SpatialTransform(steps=(MatrixStep(matrix_ras=backwards),))
    figures = {"ncc": 0.42, "dice_mean": 0.55, "dice": {1: 0.5, 2: 0.6}, "hd95_mean_mm": 4.0, "hd95_mm": {1: 4.0},
               "tre_mean_mm": None}  # fmt: skip
    return RegistrationResult(
        transform=transform,
        inverse=inverse,
        warped=resample_image(moving, transform, fixed),
        warped_labels=None if moving_labels is None else resample_labels(moving_labels, transform, fixed),
        jacobian=fixed.with_array(jacobian.astype(np.float32), name="jacobian"),
        displacement_magnitude=fixed.with_array(
            np.linalg.norm(grid.displacement_ras, axis=-1).astype(np.float32), name="displacement magnitude"
        ),
        uncertainty=None,
        report={
            "metrics": {"before": figures, "initial": figures, "after": {**figures, "ncc": 0.91, "dice_mean": 0.84}},
            "folding_percent": float((jacobian <= 0).mean() * 100),
            "folding_count": int((jacobian <= 0).sum()),
            "inverse_consistency_mm": {"mean": 0.01, "p99": 0.06, "max": 0.3},
            "seconds": {"check": 0.1, "refinement": 2.0, "total": 2.1},
            "peak_memory_gib": 0.5,
            "refinement": {"levels": []},
            "gate_means": None,
            "working_grid": {"shape": list(fixed.shape), "spacing_mm": [2.0, 2.0, 2.0]},
            "warnings": [{"code": "fake", "text": "This is a stand-in."}],
            "provenance": {"engine": "0", "device": "cpu", "model": "none", "config": config.to_dict(), "seed": 0},
        },
    )
