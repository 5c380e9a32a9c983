"""The project's own methods as an evaluation sees them: no alignment, the shared one, refinement, and models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autofuse_engine import catalog
from autofuse_engine.configs import RegistrationConfig
from autofuse_engine.data.transform import MatrixStep, SpatialTransform
from autofuse_engine.devices import resolve_device
from autofuse_engine.errors import InputError
from autofuse_engine.evaluation_configs import MethodSpec
from autofuse_engine.evaluation_methods import EvaluationPair, Method, Registered
from autofuse_engine.events import Report, silent
from autofuse_engine.prediction import ModelCache
from autofuse_engine.registration import RegistrationResult, register

COUNTED_STAGES = ("network", "refinement", "integration")
"""Stages of ``register`` whose time is a method's; reading, alignment, outputs and figures are the same for all."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodContext:
    """What all methods of an evaluation share."""

    device: str = "auto"
    seed: int = 0
    models: ModelCache = field(default_factory=ModelCache)
    report: Report = silent
    cancelled: Callable[[], bool] = lambda: False


def our_method(spec: MethodSpec, context: MethodContext) -> Method:
    """Make a method of the project; a model is loaded here, so that a wrong one is told before any pair.

    Raises:
        ModelError: if the model is unknown or damaged.
        InputError: ``method-invalid`` where an option has no effect on the model.
        DeviceError: ``device-unknown`` or ``device-absent``.
    """
    if spec.kind in ("none", "affine"):
        return MatrixMethod(spec.name, moves=spec.kind == "affine")
    if spec.kind == "model" and spec.model is not None:
        card = catalog.find(spec.model).card
        context.models.get(spec.model, resolve_device(context.device), "float32")
        conditional = card is not None and card.network.conditional
        if spec.similarity != "lncc" and spec.refinement_steps == 0:
            raise similarity_unused(spec)
        if spec.smoothness != 1 and spec.refinement_steps == 0 and not conditional:
            raise InputError(
                "method-invalid",
                f"The smoothness of the method {spec.name!r} changes nothing: its model is not conditional.",
                "Leave smoothness out, or refine with @refine=STEPS or @refine=default.",
            )
    return RegisterMethod(spec, context)


def similarity_unused(spec: MethodSpec) -> InputError:
    """A similarity that nothing would maximise."""
    return InputError(
        "method-invalid",
        f"The similarity of the method {spec.name!r} changes nothing: its result is not refined.",
        "Leave similarity out, or refine with @refine=STEPS or @refine=default.",
    )


def registered_of(result: RegistrationResult) -> Registered:
    """A result of ``register`` as an evaluation takes it."""
    seconds = result.report["seconds"]
    return Registered(
        forward=result.transform,
        inverse=result.inverse,
        seconds=sum(seconds.get(stage, 0.0) for stage in COUNTED_STAGES),
        gate_means=tuple(result.report["gate_means"] or ()),
    )


class MatrixMethod:
    """The shared initial alignment alone (``affine``), or the images as they lie (``none``)."""

    def __init__(self, name: str, *, moves: bool) -> None:
        self.name = name
        self._moves = moves

    def register(self, pair: EvaluationPair) -> Registered:
        """Nothing to find: it takes no time of its own."""
        matrix = pair.initial_ras if self._moves else np.eye(4)
        return Registered(
            forward=SpatialTransform(steps=(MatrixStep(matrix_ras=matrix),)),
            inverse=SpatialTransform(steps=(MatrixStep(matrix_ras=np.linalg.inv(matrix).astype(np.float64)),)),
            seconds=0.0,
            peak_memory_gib=0.0,
        )


class RegisterMethod:
    """``register`` from the shared initial alignment on: a model, a model with refinement, or refinement alone."""

    def __init__(self, spec: MethodSpec, context: MethodContext) -> None:
        self.name = spec.name
        self._spec, self._context = spec, context

    def register(self, pair: EvaluationPair) -> Registered:
        """Register without labels and landmarks; masks count as they do in ``autofuse register``."""
        result = register(
            pair.fixed,
            pair.moving,
            self._config(pair),
            fixed_mask=pair.fixed_mask,
            moving_mask=pair.moving_mask,
            report=self._context.report,
            cancelled=self._context.cancelled,
            models=self._context.models,
        )
        return registered_of(result)

    def _config(self, pair: EvaluationPair) -> RegistrationConfig:
        spec = self._spec
        more: dict[str, Any] = {"passes": spec.passes} if spec.passes > 1 else {}
        x, y, z, w = (tuple(float(value) for value in row) for row in pair.initial_ras)
        return RegistrationConfig.from_dict(
            {
                "model": spec.model or "none",
                "initial": "matrix",
                "initial_matrix_ras": (x, y, z, w),
                "refinement_steps": spec.refinement_steps,
                "similarity": spec.similarity,
                "smoothness": spec.smoothness,
                "label_weight": spec.label_weight,
                "label_alignment": spec.label_alignment,
                "device": self._context.device,
                "seed": self._context.seed,
                **more,
            }
        )
