"""Register one pair of images: checks, initial alignment, network, refinement, integration, outputs."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autofuse_engine import __version__
from autofuse_engine.assessment import Judge
from autofuse_engine.configs import NO_MODEL, RegistrationConfig
from autofuse_engine.data.affine import align, require_overlap
from autofuse_engine.data.checks import check_labelmap, check_mask, check_pair
from autofuse_engine.data.preprocessing import Grid, foreground
from autofuse_engine.data.resample import resample_image, resample_labels
from autofuse_engine.data.transform import SpatialTransform
from autofuse_engine.data.volume import Volume
from autofuse_engine.deformation import deform, inverse_consistency_mm, maps, regularity_map, transforms, uncertainty
from autofuse_engine.devices import resolve_device
from autofuse_engine.errors import CancelledError, InputError
from autofuse_engine.events import Event, Metric, Progress, Report, Warning, silent
from autofuse_engine.guidance import Guidance, usable_guidance
from autofuse_engine.initial_transform import InitialTransform, initial_transform
from autofuse_engine.memory import peak_memory_bytes, reset_peak
from autofuse_engine.memory_ladder import search_with_less_and_less_memory
from autofuse_engine.model_choice import settle_model
from autofuse_engine.prediction import ModelCache
from autofuse_engine.search import Search
from autofuse_engine.search_records import Found, PairImages
from autofuse_engine.segmentation_output import segmentations

__all__ = ["Guidance", "ModelCache", "RegistrationResult", "register"]

_SHARES = {  # of the progress bar: start and end of each stage
    "check": (0.0, 0.01),
    "initial alignment": (0.01, 0.15),
    "network": (0.15, 0.25),
    "refinement": (0.25, 0.88),
    "integration": (0.88, 0.92),
    "outputs": (0.92, 1.0),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class RegistrationResult:
    """Everything that a registration yields; volumes lie on the fixed image's grid unless they say otherwise.

    Attributes:
        transform: takes points of the fixed image to the moving image (``warped(x) = moving(transform(x))``).
        inverse: takes points of the moving image to the fixed image.
        warped: the moving image on the fixed grid, float32.
        warped_labels: the moving labelmap on the fixed grid, or None.
        jacobian: determinant of the whole transform's derivative; values <= 0 fold.
        displacement_magnitude: length of ``transform(x) - x``, mm.
        uncertainty: standard deviation of the displacement over posterior samples, mm, or None.
        report: figures that JSON can hold: metrics, seconds, memory, warnings, provenance.
        fixed_segmentation: uint8 labelmap of the fixed image that a semi-supervised model made, or None.
        moving_segmentation: the same of the moving image, on the moving image's grid; see :mod:`.segmentation_output`.
        regularity_weight: where smoothness counts most (1) and least (towards 0), from a model that learns it, or None.
    """

    transform: SpatialTransform
    inverse: SpatialTransform
    warped: Volume
    warped_labels: Volume | None
    jacobian: Volume
    displacement_magnitude: Volume
    uncertainty: Volume | None
    report: dict[str, Any]
    fixed_segmentation: Volume | None = None
    moving_segmentation: Volume | None = None
    regularity_weight: Volume | None = None


def register(
    fixed: Volume,
    moving: Volume,
    config: RegistrationConfig | None = None,
    *,
    fixed_labels: Volume | None = None,
    moving_labels: Volume | None = None,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    fixed_points_ras: NDArray[np.float64] | None = None,
    moving_points_ras: NDArray[np.float64] | None = None,
    guidance: Guidance | None = None,
    start_from: SpatialTransform | None = None,
    report: Report = silent,
    cancelled: Callable[[], bool] = lambda: False,
    finish_early: Callable[[], bool] = lambda: False,
    models: ModelCache | None = None,
) -> RegistrationResult:
    """Find the transform that takes the fixed image's points to the moving image.

    Args:
        fixed: the image that stays.
        moving: the image that is warped onto it.
        config: all choices; None means the defaults.
        fixed_labels: labelmap on the fixed grid; with ``moving_labels`` it serves to judge the result.
        moving_labels: labelmap on the moving grid; warped along.
        fixed_mask: on the fixed grid; only its voxels that are not zero count in the alignment and the refinement.
        moving_mask: the same for the moving image.
        fixed_points_ras: ``(N, 3)`` landmarks, mm, for the target registration error.
        moving_points_ras: ``(N, 3)``, the same landmarks in the moving image.
        guidance: segmentations that a semi-supervised model takes for granted, and that guide the refinement; where
            neither can be, a warning ``guidance-unused`` says why. Where labelmaps also judge the result, equal values
            mean the same in both.
        start_from: with ``initial="transform"``: a transform of any kind that takes points of the fixed image to the
            moving image, such as the result of another program. A model sees the moving image as it is warped by it,
            and the refinement improves on it. Without model and refinement it is the result.
        report: receives events.
        cancelled: asked between steps; True ends with :class:`CancelledError`.
        finish_early: asked between steps of the refinement; True goes on with the best field so far.
        models: keeps networks warm between calls.

    Raises:
        AutoFuseError: if the input, the model or the device cannot be used; code, sentence and cure say why.
    """
    run = _Run(config or RegistrationConfig(), report, cancelled)
    inputs = _Inputs(
        fixed=fixed,
        moving=moving,
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        fixed_points_ras=fixed_points_ras,
        moving_points_ras=moving_points_ras,
        guidance=guidance,
        start_from=start_from,
    )
    return run.execute(inputs, finish_early, models or ModelCache())


def _unclear(text: str) -> InputError:
    hint = "Give a transform together with the initial alignment 'transform', or neither."
    return InputError("initial-transform-unclear", text, hint)


def _label_alignment(found: Found) -> dict[str, Any] | None:
    """How well labels of the model lie on each other, and whether they improved the alignment; None without any."""
    aligned = found.label_alignment
    if aligned is None:
        return None
    return {
        "labels": aligned.labels,
        "moved": aligned.gained,
        "disagreement_before": aligned.before,
        "disagreement_after": aligned.after,
    }


def _place(grid: Grid) -> dict[str, Any]:
    return {"shape": list(grid.shape), "spacing_mm": grid.spacing_mm.tolist()}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Inputs:
    fixed: Volume
    moving: Volume
    fixed_labels: Volume | None
    moving_labels: Volume | None
    fixed_mask: Volume | None
    moving_mask: Volume | None
    fixed_points_ras: NDArray[np.float64] | None
    moving_points_ras: NDArray[np.float64] | None
    guidance: Guidance | None
    start_from: SpatialTransform | None

    def check(self) -> None:
        check_pair(self.fixed, self.moving)
        for labels, image, role in (
            (self.fixed_labels, self.fixed, "fixed labelmap"),
            (self.moving_labels, self.moving, "moving labelmap"),
        ):
            if labels is not None:
                check_labelmap(labels, image, role)
        if self.guidance is not None:
            self.guidance.check(self.fixed, self.moving)
        for mask, image, role in (
            (self.fixed_mask, self.fixed, "fixed mask"),
            (self.moving_mask, self.moving, "moving mask"),
        ):
            if mask is not None:
                check_mask(mask, image, role)
        counts = [None if points is None else len(points) for points in (self.fixed_points_ras, self.moving_points_ras)]
        if counts[0] != counts[1]:
            raise InputError(
                "points-differ",
                f"The point lists do not match: {counts[0] or 'no'} fixed and {counts[1] or 'no'} moving points.",
                "Give the same landmarks, in the same order, for both images.",
            )


@dataclass
class _Run:
    """One registration: its clock, its warnings and its place on the progress bar."""

    config: RegistrationConfig
    report: Report
    cancelled: Callable[[], bool]
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[dict[str, str]] = field(default_factory=list)

    def execute(self, inputs: _Inputs, finish_early: Callable[[], bool], models: ModelCache) -> RegistrationResult:
        started = time.perf_counter()
        with self._stage("check"):
            inputs.check()
            self.config, model_choice = settle_model(self.config, inputs.fixed, inputs.moving, self.tell)
            guidance, guided_by = usable_guidance(inputs.guidance, self.config, self.tell)
            device = resolve_device(self.config.device)
            reset_peak(device)
        with self._stage("initial alignment"):
            start = self._start(inputs)
        images = PairImages(
            fixed=inputs.fixed,
            moving=inputs.moving,
            fixed_mask=inputs.fixed_mask,
            moving_mask=inputs.moving_mask,
            start=start,
            guidance=guidance,
        )
        found, device = search_with_less_and_less_memory(
            self.config,
            device,
            lambda attempt: Search(self.config, attempt, models, self._stage, self.tell, self._check_cancelled).find(
                images, lambda: finish_early() or self.cancelled()
            ),
            self.tell,
        )
        start = found.start
        matrix = start.matrix_ras
        with self._stage("integration"):
            deformation = None
            if found.velocity_vox is not None:
                deformation = deform(found.velocity_vox, found.grid, found.following, between=self._check_cancelled)
            forward, inverse = transforms(deformation, matrix)
        with self._stage("outputs"):
            figures = maps(deformation, matrix, inputs.fixed, between=self._check_cancelled)
            velocity = found.velocity_vox
            spread = None
            if velocity is not None:
                spread = uncertainty(found.samples_vox, velocity, found.grid, inputs.fixed, found.following)
            self._check_cancelled()
            warped = resample_image(inputs.moving, forward, inputs.fixed)
            warped = warped.with_array(warped.array.astype(np.float32), f"{inputs.moving.name} warped")
            self._check_cancelled()
            labels = inputs.moving_labels
            warped_labels = None
            if labels is not None:
                warped_labels = resample_labels(labels, forward, inputs.fixed, between=self._check_cancelled)
            self._check_cancelled()
            inner = foreground(inputs.fixed.array)
            judge = Judge(inputs.fixed, inputs.fixed_labels, inputs.fixed_points_ras, inputs.moving_points_ras, inner)
            metrics = judge.before_and_after(
                inputs.moving, inputs.moving_labels, start.whole, forward, warped, warped_labels, self._check_cancelled
            )
            segmented = segmentations(found, inputs.fixed, inputs.moving)
            consistency = inverse_consistency_mm(forward, inverse, inputs.fixed, inner, self.config.seed)
        self.seconds["total"] = time.perf_counter() - started
        peak = peak_memory_bytes(device)
        return RegistrationResult(
            transform=forward,
            inverse=inverse,
            warped=warped,
            warped_labels=warped_labels,
            jacobian=figures.jacobian,
            displacement_magnitude=figures.magnitude,
            uncertainty=spread,
            fixed_segmentation=segmented[0],
            moving_segmentation=segmented[1],
            regularity_weight=regularity_map(found.regularity_weight, found.model_grid, inputs.fixed),
            report={
                "metrics": metrics,
                "folding_percent": figures.folding_percent,
                "folding_count": figures.folding_count,
                "worst_fold_ras": figures.worst_fold_ras,
                "inverse_consistency_mm": consistency,
                "seconds": self.seconds,
                "peak_memory_gib": None if peak is None else peak / 2**30,
                "refinement": {
                    "steps": found.steps,
                    "labels": found.labels,
                    "levels": [asdict(level) for level in found.levels],
                    "stopped_early": finish_early(),
                },
                "gate_means": found.gate_means,
                "passes": [{"mean_displacement_mm": length} for length in found.passes_mm],
                "guidance": guided_by,
                "working_grid": _place(found.grid),
                "model_grid": None if found.model_name == NO_MODEL else _place(found.model_grid),
                "initial_matrix_ras": matrix.tolist(),
                "initial_deformation": start.deformation is not None,
                "label_alignment": _label_alignment(found),
                "contrast_transfer": None if found.contrast is None else asdict(found.contrast),
                "warnings": self.warnings,
                "model_choice": model_choice,
                "provenance": self._provenance(inputs, device, found.model_name, found.model_sha256),
            },
        )

    def _start(self, inputs: _Inputs) -> InitialTransform:
        masks = {"fixed_mask": inputs.fixed_mask, "moving_mask": inputs.moving_mask}
        kind = self.config.initial
        if inputs.start_from is not None and kind != "transform":
            raise _unclear(f"A transform to start from is given, but the initial alignment is {kind!r}.")
        if kind == "transform":
            if inputs.start_from is None:
                raise _unclear("The initial alignment is 'transform', but no transform to start from is given.")
            start = initial_transform(inputs.start_from, inputs.fixed)
            require_overlap(inputs.fixed, inputs.moving, start.matrix_ras, **masks)
            return start
        if kind == "matrix":
            matrix = np.array(self.config.initial_matrix_ras, dtype=np.float64)
            if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-6:
                raise InputError(
                    "matrix-not-invertible",
                    "The initial matrix cannot be inverted.",
                    "Give a 4x4 matrix that takes fixed to moving points, in RAS and mm.",
                )
            require_overlap(inputs.fixed, inputs.moving, matrix, **masks)
            return InitialTransform(matrix_ras=matrix)
        found = align(
            inputs.fixed,
            inputs.moving,
            kind,
            **masks,
            seed=self.config.seed,
            report=self.tell,
            cancelled=self.cancelled,
        )
        return InitialTransform(matrix_ras=found.moving_from_fixed_ras)

    def tell(self, event: Event) -> None:
        """Pass an event on; a stage's own fraction becomes that of the whole job."""
        if isinstance(event, Progress):
            start, end = _SHARES[event.stage]
            event = Progress(stage=event.stage, fraction=start + (end - start) * event.fraction, text=event.text)
        elif isinstance(event, Warning):
            self.warnings.append({"code": event.code, "text": event.text})
        elif isinstance(event, Metric) and event.step % 10:
            return
        self.report(event)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self._check_cancelled()
        self.tell(Progress(stage=name, fraction=0.0))
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
        self._check_cancelled()

    def _check_cancelled(self) -> None:
        if self.cancelled():
            raise CancelledError

    def _provenance(self, inputs: _Inputs, device: torch.device, model: str, sha256: str | None) -> dict[str, Any]:
        return {
            "engine": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
            "device": str(device),
            "model": model,
            "model_sha256": sha256,
            "config": self.config.to_dict(),
            "seed": self.config.seed,
            "fixed": inputs.fixed.name,
            "moving": inputs.moving.name,
        }
