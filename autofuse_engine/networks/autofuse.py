"""AutoFuse: one path sees the pair, one sees each image alone, gates fuse them, a head predicts the velocity."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from autofuse_engine.networks import lean
from autofuse_engine.networks.blocks import convolve, convolve_activate_normalise
from autofuse_engine.networks.paths import Path
from autofuse_engine.networks.recomputation import Recomputing
from autofuse_engine.networks.segmentation import SegmentationHead


@dataclass(frozen=True, kw_only=True, eq=False)
class GateMean:
    """How far one fusion gate trusts the pair path.

    Attributes:
        stage: number of the stage, 2..8 as in the paper.
        level: its resolution, 0 = that of the images.
        pair_weight: ``(B,)`` in [0, 1], mean over channels and voxels; 1 = only the pair path's features pass.
    """

    stage: int
    level: int
    pair_weight: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkOutput:
    """What a registration network predicts, at half the resolution of its input.

    Attributes:
        velocity_mean: ``(B, 3, D/2, H/2, W/2)``, voxels of that grid; channel c moves along tensor axis ``c + 2``.
        velocity_log_variance: same shape, logarithm of the squared standard deviation, or None if not asked for.
        gate_means: one per fusion gate, in the order of the stages; empty for a network without gates.
        fixed_logits: ``(B, K, D, H, W)`` at full resolution, scores of the classes whose softmax are probabilities;
            None for a network that does not segment.
        moving_logits: likewise.
    """

    velocity_mean: Tensor
    velocity_log_variance: Tensor | None
    gate_means: tuple[GateMean, ...] = ()
    fixed_logits: Tensor | None = None
    moving_logits: Tensor | None = None


class AutoFuse(Recomputing):
    """The network of Meng et al., AutoFuse, Pattern Recognition 2024.

    Args:
        single_image_path: sees each image alone, with the same weights.
        pair_path: sees both images; twice as wide.
        gates: for each stage but the first, the module that fuses ``(pair, fixed, moving)`` features into the
            stage's output and a mean weight.
        head: takes the last stage's output to the velocity.
        segmentation: semi-supervised networks only: segments an image from the last stage of the single-image path,
            which then ends at full resolution and is one stage longer than the pair path. The pair path sees two
            more channels, the maps that code the fixed and the moving segmentation.
    """

    def __init__(
        self,
        single_image_path: Path,
        pair_path: Path,
        gates: Sequence[nn.Module],
        head: VelocityHead,
        segmentation: SegmentationHead | None = None,
    ) -> None:
        super().__init__()
        self.single_image_path = single_image_path
        self.pair_path = pair_path
        self.gates = nn.ModuleList(gates)
        self.head = head
        self.segmentation = segmentation

    def forward(self, fixed: Tensor, moving: Tensor, *, log_variance: bool | None = None) -> NetworkOutput:
        """Predict the velocity field that takes the moving image to the fixed one.

        Args:
            fixed: ``(B, 1, D, H, W)``, intensities in [0, 1]; every side a multiple of 16.
            moving: same shape.
            log_variance: whether to compute the log-variance; None means in training mode only.

        Raises:
            ValueError: if a shape breaks these rules.
        """
        self._check(fixed, moving)
        log_variance = self.training if log_variance is None else log_variance
        if lean.suits(fixed[:1], *self.parameters()) and not moving.requires_grad:
            with torch.autocast("cpu", enabled=False):
                pairs = zip(fixed.split(1), moving.split(1), strict=True)
                return _stacked([self._predict(*pair, log_variance=log_variance) for pair in pairs])
        return self._predict(fixed, moving, log_variance=log_variance)

    def _check(self, fixed: Tensor, moving: Tensor) -> None:
        if fixed.ndim != 5 or fixed.shape[1] != 1 or fixed.shape != moving.shape:
            shapes = f"{tuple(fixed.shape)} and {tuple(moving.shape)}"
            raise ValueError(f"fixed and moving have one shape (B, 1, D, H, W), received {shapes}")
        multiple = 2 ** max(self.pair_path.levels)
        if any(side % multiple or side == 0 for side in fixed.shape[2:]):
            raise ValueError(f"every side is a multiple of {multiple}, received {tuple(fixed.shape[2:])}")

    def _predict(self, fixed: Tensor, moving: Tensor, *, log_variance: bool) -> NetworkOutput:
        weights = next(self.parameters())
        fixed, moving = fixed.to(weights.dtype), moving.to(weights.dtype)
        means: list[GateMean] = []
        images, logits = [fixed, moving], (None, None)
        if self.segmentation is None:
            singles: Iterator[tuple[Tensor, Tensor]] = zip(
                self.single_image_path.features(fixed), self.single_image_path.features(moving), strict=True
            )
            next(singles)
        else:
            of_fixed, of_moving = self._segmented(fixed), self._segmented(moving)
            singles = zip(of_fixed.features, of_moving.features, strict=True)
            images += [of_fixed.code, of_moving.code]
            logits = (of_fixed.logits, of_moving.logits)

        def fuse(number: int, pair: Tensor) -> Tensor:
            fused, weight = self.run(self.gates[number - 1], pair, *next(singles))
            means.append(GateMean(stage=number + 1, level=self.pair_path.levels[number], pair_weight=weight))
            return fused

        last = deque(self.pair_path.features(torch.cat(images, dim=1), fuse), maxlen=1)
        mean, log_variances = self.head(last.pop(), log_variance=log_variance)
        return NetworkOutput(
            velocity_mean=mean,
            velocity_log_variance=log_variances,
            gate_means=tuple(means),
            fixed_logits=logits[0],
            moving_logits=logits[1],
        )

    def _segmented(self, image: Tensor) -> _Segmented:
        """Features of one image for the gates, scores of its classes, and their map."""
        if self.segmentation is None:
            raise ValueError("this network does not segment")
        _, *features, last = self.single_image_path.features(image)
        logits, code = self.run(self.segmentation, last)
        return _Segmented(features, logits, code)


@dataclass(frozen=True, eq=False)
class _Segmented:
    features: Sequence[Tensor]
    logits: Tensor
    code: Tensor


class VelocityHead(nn.Module):
    """Mean and log-variance of the velocity: a shared convolution, then one each; starts near the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shared = nn.Conv3d(channels, channels, kernel_size=3, padding=1)
        self.mean = nn.Conv3d(channels, 3, kernel_size=3, padding=1)
        self.log_variance = nn.Conv3d(channels, 3, kernel_size=3, padding=1)
        for layer, deviation, bias in ((self.mean, 1e-5, 0.0), (self.log_variance, 1e-10, -10.0)):
            nn.init.normal_(layer.weight, std=deviation)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, bias)

    def forward(self, x: Tensor, *, log_variance: bool) -> tuple[Tensor, Tensor | None]:
        """``(B, C, D, H, W)`` to the mean and, if asked for, the log-variance, ``(B, 3, D, H, W)`` each."""
        # The last convolutions may be of higher precision than the rest, see network_for_inference.
        shared = convolve_activate_normalise([x], self.shared).to(self.mean.weight.dtype)
        return convolve(shared, self.mean), convolve(shared, self.log_variance) if log_variance else None


def sample_velocity(output: NetworkOutput, generator: torch.Generator | None = None) -> Tensor:
    """Draw ``mean + exp(log_variance / 2) * noise``, ``(B, 3, D/2, H/2, W/2)``, half-resolution voxels.

    Raises:
        ValueError: if the output holds no log-variance.
    """
    if output.velocity_log_variance is None:
        raise ValueError("sampling needs velocity_log_variance; call the network with log_variance=True")
    mean = output.velocity_mean
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + torch.exp(0.5 * output.velocity_log_variance) * noise


def _stacked(outputs: Sequence[NetworkOutput]) -> NetworkOutput:
    """One output for a batch from those of its pairs."""

    def joined(name: str) -> Tensor | None:
        parts = [part for output in outputs if (part := getattr(output, name)) is not None]
        return torch.cat(parts) if parts else None

    return NetworkOutput(
        velocity_mean=torch.cat([output.velocity_mean for output in outputs]),
        velocity_log_variance=joined("velocity_log_variance"),
        fixed_logits=joined("fixed_logits"),
        moving_logits=joined("moving_logits"),
        gate_means=tuple(
            replace(gates[0], pair_weight=torch.cat([gate.pair_weight for gate in gates]))
            for gates in zip(*(output.gate_means for output in outputs), strict=True)
        ),
    )
