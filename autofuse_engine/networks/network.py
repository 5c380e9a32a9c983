"""What all registration networks share: their output, what they accept, and how a batch is predicted on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from autofuse_engine.networks import lean
from autofuse_engine.networks.recomputation import Recomputing
from autofuse_engine.networks.regularizer import code_for_smoothness
from autofuse_engine.networks.segmentation import GivenClasses

Guides = tuple[GivenClasses | None, GivenClasses | None]
"""Given classes of the fixed and of the moving image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GateMean:
    """How far one fusion gate trusts the pair path.

    Attributes:
        stage: number of the stage in the pair path, from 1 as in the paper.
        level: its resolution, 0 = that of the images.
        pair_weight: ``(B,)`` in [0, 1], mean over channels and voxels; 1 = only the pair path's features pass.
    """

    stage: int
    level: int
    pair_weight: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkOutput:
    """What a registration network predicts; the field may have half of the images' resolution.

    Attributes:
        velocity_mean: ``(B, 3, D/2, H/2, W/2)`` or ``(B, 3, D, H, W)``, voxels of that grid; channel c moves along
            tensor axis ``c + 2``. A stationary velocity, unless ``is_displacement``.
        velocity_log_variance: same shape, logarithm of the squared standard deviation, or None if not asked for, or
            if the network has none.
        is_displacement: True where the field is the displacement itself, which is not to be integrated.
        gate_means: one per fusion gate, in the order of the stages; empty for a network without gates.
        fixed_logits: ``(B, K, D, H, W)`` at full resolution, scores of the classes whose softmax are probabilities;
            None for a network that does not segment.
        moving_logits: likewise.
        regularity_weight: ``(B, 1, D, H, W)`` in (0, 1], how much smoothness counts at each voxel, or None.
    """

    velocity_mean: Tensor
    velocity_log_variance: Tensor | None
    is_displacement: bool = False
    gate_means: tuple[GateMean, ...] = ()
    fixed_logits: Tensor | None = None
    moving_logits: Tensor | None = None
    regularity_weight: Tensor | None = None


def sample_velocity(output: NetworkOutput, generator: torch.Generator | None = None) -> Tensor:
    """Draw ``mean + exp(log_variance / 2) * noise``, of the shape of the mean, in its voxels.

    Raises:
        ValueError: if the output holds no log-variance.
    """
    if output.velocity_log_variance is None:
        raise ValueError("sampling needs velocity_log_variance; call the network with log_variance=True")
    mean = output.velocity_mean
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + torch.exp(0.5 * output.velocity_log_variance) * noise


class RegistrationNetwork(Recomputing):
    """Base of all networks; a child predicts in :meth:`predict`.

    Args:
        size_multiple: every side of the images is a multiple of this.
        is_conditional: whether the network takes a code.
        guidable_classes: K, the number of classes with background, where segmentations reach the pair path and may
            be given; 0 for all other networks.
    """

    def __init__(self, size_multiple: int, *, is_conditional: bool = False, guidable_classes: int = 0) -> None:
        super().__init__()
        self.size_multiple, self.is_conditional = size_multiple, is_conditional
        self.guidable_classes = guidable_classes

    def forward(
        self,
        fixed: Tensor,
        moving: Tensor,
        *,
        log_variance: bool | None = None,
        code: Tensor | None = None,
        fixed_given: GivenClasses | None = None,
        moving_given: GivenClasses | None = None,
    ) -> NetworkOutput:
        """Predict the field that takes the moving image to the fixed one.

        Args:
            fixed: ``(B, 1, D, H, W)``, intensities in [0, 1]; every side a multiple of :attr:`size_multiple`.
            moving: same shape.
            log_variance: whether to compute the log-variance; None means in training mode only.
            code: ``(B, 2)`` in [0, 1] for a conditional network, see ``regularizer``; None means its usual code.
            fixed_given: classes of the fixed image that are known, which replace those that the network sees there.
            moving_given: the same for the moving image; each side does without the other.

        Raises:
            ValueError: if a shape breaks these rules, or a code or classes are given to a network that takes none.
        """
        self._check(fixed, moving)
        for given in (fixed_given, moving_given):
            self._check_given(given, fixed)
        if code is not None and not self.is_conditional:
            raise ValueError("a code is for conditional networks, received one for a network without conditioning")
        log_variance = self.training if log_variance is None else log_variance
        weights = next(self.parameters())
        fixed, moving = fixed.to(weights.dtype), moving.to(weights.dtype)
        if self.is_conditional:
            code = (code_for_smoothness(1.0) if code is None else code).to(weights).expand(fixed.shape[0], -1)
        if not (lean.suits(fixed[:1], *self.parameters()) and not moving.requires_grad):
            guides = (fixed_given, moving_given)
            return self.predict(fixed, moving, log_variance=log_variance, code=code, guides=guides)
        with torch.autocast("cpu", enabled=False):
            nothing = [None] * len(fixed)
            codes = nothing if code is None else code.split(1)
            given = [nothing if item is None else item.split() for item in (fixed_given, moving_given)]
            parts = zip(fixed.split(1), moving.split(1), codes, *given, strict=True)
            return _stacked(
                [self.predict(f, m, log_variance=log_variance, code=c, guides=(k, n)) for f, m, c, k, n in parts]
            )

    def predict(
        self, fixed: Tensor, moving: Tensor, *, log_variance: bool, code: Tensor | None, guides: Guides
    ) -> NetworkOutput:
        """As :meth:`forward`, with arguments that were checked and brought to the precision of the weights."""
        raise NotImplementedError

    def keep_single_images(self, keep: bool) -> None:
        """Whether what the network makes of each image alone stays as it is while the rest learns.

        Raises:
            ValueError: if nothing of this network sees images alone.
        """
        if keep:
            raise ValueError("this network has no path for single images that could be kept")

    def segment(self, image: Tensor) -> Tensor:
        """Scores of the classes of one image, ``(B, K, D, H, W)``, without a look at the other.

        Args:
            image: ``(B, 1, D, H, W)``, intensities in [0, 1]; every side a multiple of :attr:`size_multiple`.

        Raises:
            ValueError: if the network does not segment.
        """
        raise ValueError("this network does not segment")

    def _check_given(self, given: GivenClasses | None, image: Tensor) -> None:
        if given is None:
            return
        if not self.guidable_classes:
            raise ValueError("classes are given to networks whose pair path sees segmentations, not to this one")
        if given.labels.shape != image.shape:
            shapes = f"{tuple(given.labels.shape)} for {tuple(image.shape)}"
            raise ValueError(f"given labels have the shape of the images, received {shapes}")
        if max(given.classes, default=0) >= self.guidable_classes:
            raise ValueError(f"given classes lie in 1..{self.guidable_classes - 1}, received {given.classes}")

    def _check(self, fixed: Tensor, moving: Tensor) -> None:
        if fixed.ndim != 5 or fixed.shape[1] != 1 or fixed.shape != moving.shape:
            shapes = f"{tuple(fixed.shape)} and {tuple(moving.shape)}"
            raise ValueError(f"fixed and moving have one shape (B, 1, D, H, W), received {shapes}")
        if any(side % self.size_multiple or side == 0 for side in fixed.shape[2:]):
            raise ValueError(f"every side is a multiple of {self.size_multiple}, received {tuple(fixed.shape[2:])}")


def _stacked(outputs: Sequence[NetworkOutput]) -> NetworkOutput:
    """One output for a batch from those of its pairs."""

    def joined(name: str) -> Tensor | None:
        parts = [part for output in outputs if (part := getattr(output, name)) is not None]
        return torch.cat(parts) if parts else None

    return NetworkOutput(
        velocity_mean=torch.cat([output.velocity_mean for output in outputs]),
        velocity_log_variance=joined("velocity_log_variance"),
        is_displacement=outputs[0].is_displacement,
        fixed_logits=joined("fixed_logits"),
        moving_logits=joined("moving_logits"),
        regularity_weight=joined("regularity_weight"),
        gate_means=tuple(
            replace(gates[0], pair_weight=torch.cat([gate.pair_weight for gate in gates]))
            for gates in zip(*(output.gate_means for output in outputs), strict=True)
        ),
    )
