"""Ask a model for the velocity field of a pair, and keep models warm between pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autofuse_engine import catalog
from autofuse_engine.checkpoint import load_checkpoint
from autofuse_engine.errors import ModelError
from autofuse_engine.model_card import ModelCard
from autofuse_engine.networks.build import Precision, network_for_inference
from autofuse_engine.networks.network import RegistrationNetwork, sample_velocity
from autofuse_engine.networks.regularizer import code_for_smoothness
from autofuse_engine.networks.segmentation import GivenClasses, class_probabilities
from autofuse_engine.spatial.integrate import integrate
from autofuse_engine.spatial.smooth import enlarge_field


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadyModel:
    """A network on its device, in its precision, with its card."""

    card: ModelCard
    network: RegistrationNetwork
    device: torch.device
    precision: Precision


class ModelCache:
    """Loaded models by weights, device and precision, so that a second run does not load again."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str, str], ReadyModel] = {}

    def get(self, name_or_path: str, device: torch.device, precision: Precision) -> ReadyModel:
        """The model, loaded on first use; the file is looked up and its card read each time.

        Raises:
            ModelError: if the model is unknown or damaged.
        """
        entry = catalog.find(name_or_path)
        if entry.card is None or entry.card.weights is None:
            raise ModelError("model-card-invalid", f"The model {entry.name} has no usable card.", "Import it again.")
        key = (entry.card.weights.sha256, str(device), precision)
        if key not in self._models:
            loaded = load_checkpoint(entry.weights_path)
            network = network_for_inference(loaded.network, precision, device)
            self._models[key] = ReadyModel(card=loaded.card, network=network, device=device, precision=precision)
        return self._models[key]

    def clear(self) -> None:
        """Forget all models, so that their memory can be used."""
        self._models.clear()


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a network says of a pair, at full resolution.

    Attributes:
        velocity_vox: ``(1, 3, D, H, W)``, voxels: the mean of the predicted distribution; zero for a model that
            predicts the displacement.
        samples_vox: draws of the velocity minus its mean, each ``(1, 3, D, H, W)``.
        gate_means: one entry per fusion gate: stage, level, mean weight of the pair path.
        fixed_classes: ``(D, H, W)``, uint8, most probable class of each voxel; None where the model does not segment.
        moving_classes: the same for the aligned moving image, on the same grid.
        displacement_vox: ``(1, 3, D, H, W)``, voxels, for a model that predicts the displacement; it follows the flow
            of the velocity. None for all others.
        regularity_weight: ``(1, 1, D, H, W)`` in (0, 1], how much smoothness counts at each voxel; None where the
            model does not learn it.
        fixed_probabilities: ``(1, K, D, H, W)``, float32, of each class at each voxel, background first; None where
            the model does not segment or nobody asked for them.
        moving_probabilities: the same for the aligned moving image, on the same grid.
    """

    velocity_vox: Tensor
    samples_vox: tuple[Tensor, ...]
    gate_means: list[dict[str, Any]]
    fixed_classes: Tensor | None = None
    moving_classes: Tensor | None = None
    displacement_vox: Tensor | None = None
    regularity_weight: Tensor | None = None
    fixed_probabilities: Tensor | None = None
    moving_probabilities: Tensor | None = None


def predict(
    model: ReadyModel,
    fixed: Tensor,
    moving: Tensor,
    *,
    samples: int = 0,
    seed: int = 0,
    smoothness: float = 1.0,
    fixed_given: GivenClasses | None = None,
    moving_given: GivenClasses | None = None,
    keeps_probabilities: bool = False,
    between: Callable[[], None] = lambda: None,
) -> Prediction:
    """One forward pass, and draws from the predicted distribution.

    Args:
        model: from :class:`ModelCache`.
        fixed: ``(1, 1, D, H, W)``, intensities in [0, 1]; sides are multiples of the network's.
        moving: same shape, initially aligned.
        samples: number of draws; a model that predicts the displacement has none to give.
        seed: of the draws.
        smoothness: 0.1 to 10; sets the code of a conditional model, others do without.
        fixed_given: classes of the fixed image that guide a semi-supervised model.
        moving_given: the same for the aligned moving image.
        keeps_probabilities: whether the prediction holds those of the classes.
        between: called before every part of the network; may raise to stop.

    Raises:
        ValueError: if classes are given to a model that cannot use them.
    """
    config = model.card.network
    dtype = torch.bfloat16 if model.precision == "bfloat16" else torch.float32
    with torch.inference_mode(), _asking(model.network, between):
        images = [image.to(model.device, dtype) for image in (fixed, moving)]
        code = code_for_smoothness(smoothness) if config.conditional else None
        output = model.network(
            *images, log_variance=samples > 0, code=code, fixed_given=fixed_given, moving_given=moving_given
        )
    shape = fixed.shape[2:]
    samples = 0 if output.is_displacement else samples

    def whole(field: Tensor) -> Tensor:
        return enlarge_field(field.float().clone(), shape, align_corners=config.align_corners)

    mean = output.velocity_mean.float()
    generator = torch.Generator(device=mean.device).manual_seed(seed)
    draws = tuple(whole(sample_velocity(output, generator).float() - mean) for _ in range(samples))
    gates = [
        {"stage": gate.stage, "level": gate.level, "pair_weight": float(gate.pair_weight.float().mean())}
        for gate in output.gate_means
    ]
    scores = (output.fixed_logits, output.moving_logits)
    fixed_classes, moving_classes = (
        None if logits is None else logits[0].argmax(dim=0).to(torch.uint8) for logits in scores
    )
    fixed_probabilities, moving_probabilities = (
        class_probabilities(logits).clone(memory_format=torch.contiguous_format)
        if keeps_probabilities and logits is not None
        else None
        for logits in scores
    )
    field = whole(mean)
    return Prediction(
        velocity_vox=torch.zeros_like(field) if output.is_displacement else field,
        samples_vox=draws,
        gate_means=gates,
        fixed_classes=fixed_classes,
        moving_classes=moving_classes,
        displacement_vox=field if output.is_displacement else None,
        regularity_weight=None if output.regularity_weight is None else output.regularity_weight.float().clone(),
        fixed_probabilities=fixed_probabilities,
        moving_probabilities=moving_probabilities,
    )


def predict_labels(
    model: ReadyModel,
    fixed: Tensor,
    moving: Tensor,
    *,
    keeps_probabilities: bool = False,
    known: Prediction | None = None,
    between: Callable[[], None] = lambda: None,
) -> Prediction:
    """What a model makes of both images whose field was not trained: each is segmented alone, the velocity is zero.

    Args:
        model: from :class:`ModelCache`, of a network that segments.
        fixed: ``(1, 1, D, H, W)``, intensities in [0, 1]; sides are multiples of the network's.
        moving: same shape, initially aligned.
        keeps_probabilities: whether the prediction holds those of the classes.
        known: an earlier answer of this function, made with the same fixed image, which is not asked for again.
        between: called before every part of the network; may raise to stop.

    Raises:
        ValueError: if the network does not segment.
    """
    dtype = torch.bfloat16 if model.precision == "bfloat16" else torch.float32

    def segmented(image: Tensor) -> tuple[Tensor, Tensor | None]:
        with torch.inference_mode(), _asking(model.network, between):
            scores = model.network.segment(image.to(model.device, dtype))
            classes = scores[0].argmax(dim=0).to(torch.uint8)
            probabilities = class_probabilities(scores) if keeps_probabilities else None
        # clones can be used outside of the inference mode; in the order of memory, another takes five times as long
        return classes.clone(), None if probabilities is None else probabilities.clone()

    of_fixed = segmented(fixed) if known is None else (known.fixed_classes, known.fixed_probabilities)
    of_moving = segmented(moving)
    return Prediction(
        velocity_vox=torch.zeros(1, 3, *fixed.shape[2:], device=model.device),
        samples_vox=(),
        gate_means=[],
        fixed_classes=of_fixed[0],
        moving_classes=of_moving[0],
        fixed_probabilities=of_fixed[1],
        moving_probabilities=of_moving[1],
    )


@contextmanager
def _asking(network: nn.Module, between: Callable[[], None]) -> Iterator[None]:
    handles = [part.register_forward_pre_hook(lambda *_: between()) for part in network.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def displacement_at_half_resolution(velocity_mean: Tensor, steps: int, *, align_corners: bool) -> Tensor:
    """The paper's own order: integrate at half resolution, then trilinear upsampling of twice the displacement.

    ``(B, 3, D/2, H/2, W/2)`` in half-resolution voxels to ``(B, 3, D, H, W)`` in voxels. ``register`` enlarges the
    velocity first and integrates it at full resolution, which makes the inverse exact on the grid that is stored.
    """
    displacement = integrate(velocity_mean, steps)
    return enlarge_field(displacement, [2 * side for side in displacement.shape[2:]], align_corners=align_corners)
