"""Refine one pair: optimise its stationary velocity field, coarse to fine, from zero or from a prediction.

The velocity is the unknown, not a network's weights. Each level takes Adam steps through a Gaussian (a Sobolev
gradient), integrates by scaling and squaring (with a gradient of one lookup), looks the moving image up at its own
resolution (no second interpolation), and adds the smoothness and folding terms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.adam import Adam
from autofuse_engine.configs import RefinementConfig
from autofuse_engine.events import Metric, Progress, Report, silent
from autofuse_engine.losses.regularity import folding_penalty, squared_gradient
from autofuse_engine.losses.similarity import local_ncc, mean_squared_error, mind_ssc
from autofuse_engine.refinement_labels import LabelDisagreement, Memberships, memberships
from autofuse_engine.spatial.grid import apply_matrix, voxel_grid
from autofuse_engine.spatial.integrate import flow, squarings_for
from autofuse_engine.spatial.resample import resample
from autofuse_engine.spatial.smooth import enlarge_field, shrink, smooth, smooth_image
from autofuse_engine.spatial.warp import compose, sample, warp

_LONGEST_FIRST_STEP_VOX = 1.0
"""While it searches; half of it takes a quarter more time and gains little (docs/decisions/0146)."""
_PATIENCE = 10
_LEAST_GAIN = 2e-4
_MSE_SCALE = 2.0  # of the squared difference over the fixed image's variance: brings it to the size of local NCC
_MIND_SCALE = 10.0  # likewise, of the squared difference of descriptors in (0, 1]
_MIND_RADIUS = 1
_LAST_RATE = 0.2


@dataclass(frozen=True, kw_only=True, eq=False)
class RefinementPair:
    """What the refinement looks at.

    Attributes:
        fixed: ``(1, 1, D, H, W)`` on the working grid, intensities in [0, 1].
        moving: ``(1, 1, D', H', W')`` on its own grid, intensities in [0, 1].
        moving_from_fixed_vox: 4x4, tensor axis order; takes voxels of the working grid to voxels of ``moving``
            through the initial alignment.
        moving_voxels_per_fixed: ``(3,)``, tensor order of ``moving``: spacing of the working grid over its spacing.
        fixed_weight: ``(1, 1, D, H, W)``, where the fixed image counts; None means everywhere.
        moving_weight: ``(1, 1, D', H', W')``, where the moving image counts; None means everywhere.
        labels: ``(1, 1, D, H, W)`` integers each on the working grid, of the fixed image and of the moving image under
            the initial alignment; 0 where no label is. They guide the search; None for none.
    """

    fixed: Tensor
    moving: Tensor
    moving_from_fixed_vox: NDArray[np.float64]
    moving_voxels_per_fixed: tuple[float, float, float]
    fixed_weight: Tensor | None = None
    moving_weight: Tensor | None = None
    labels: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class LevelReport:
    """How one level went: factor against the working grid, steps taken, loss at its start and at its best."""

    factor: int
    steps: int
    loss_first: float
    loss_best: float


@dataclass(frozen=True, kw_only=True, eq=False)
class RefinementResult:
    """The best field found.

    Attributes:
        velocity_vox: ``(1, 3, D, H, W)``, voxels of the working grid.
        levels: one report per level, coarse to fine.
        stopped: True where ``stop()`` ended the search early.
        labels: how many guided the search.
    """

    velocity_vox: Tensor
    levels: tuple[LevelReport, ...]
    stopped: bool
    labels: int = 0


def refine(
    pair: RefinementPair,
    config: RefinementConfig,
    *,
    start_vox: Tensor | None = None,
    base_vox: Tensor | None = None,
    report: Report = silent,
    stop: Callable[[], bool] = lambda: False,
) -> RefinementResult:
    """Optimise the velocity field that takes ``pair.moving`` to ``pair.fixed``.

    Args:
        pair: images, geometry and weights.
        config: method and weights of the terms.
        start_vox: ``(1, 3, D, H, W)``, a prediction in voxels of the working grid; the search then skips all levels
            but the two finest. None starts from zero.
        base_vox: ``(1, 3, D, H, W)``, voxels of the working grid: a displacement that follows the flow of the
            velocity and stays as it is; None for none.
        report: receives ``Progress`` with the fraction of the refinement alone, and ``Metric``.
        stop: asked before every step and between its pieces; True ends the search with the best field so far.
    """
    shape = tuple(pair.fixed.shape[2:])
    factors = _factors(shape, config.coarsest_side)
    members = None if pair.labels is None or config.labels == 0 else memberships(*pair.labels)
    start = torch.zeros(1, 3, *shape, device=pair.fixed.device)
    if start_vox is not None:
        start, factors = start_vox.float(), factors[-2:]
    correction = torch.zeros_like(start[:, :, :1, :1, :1])
    costs = np.cumsum([0.0, *((1.0 / factor**3 + 0.02) * (config.steps_at(factor) + 1) for factor in factors)])
    levels: list[LevelReport] = []
    for number, factor in enumerate(factors):
        sides = tuple(side // factor for side in shape)
        beginning = enlarge_field(correction, sides) if levels else correction.expand(1, 3, *sides)
        watch = _Watch(report, stop, (float(costs[number] / costs[-1]), float(costs[number + 1] / costs[-1])))
        base = None if base_vox is None else shrink(base_vox, factor) / factor
        try:
            with _fast_denormals():
                level = _Level(pair, config, factor, base, members, watch.check)
                update, outcome = level.optimise(shrink(start, factor) / factor, beginning, watch)
        except _Stopped:  # while the level was prepared
            break
        correction = beginning + update
        levels.append(outcome)
        if stop():
            break
    correction = enlarge_field(correction, shape) if levels else correction
    return RefinementResult(
        velocity_vox=start + correction,
        levels=tuple(levels),
        stopped=stop(),
        labels=0 if members is None else members.labels,
    )


def _factors(shape: tuple[int, ...], coarsest_side: int) -> list[int]:
    """Powers of two, coarse to fine, that divide every side and leave ``coarsest_side`` voxels of the shortest."""
    factors = [1]
    while min(shape) // (2 * factors[0]) >= coarsest_side and all(side % (2 * factors[0]) == 0 for side in shape):
        factors.insert(0, 2 * factors[0])
    return factors


class _Stopped(Exception):  # noqa: N818 (nothing went wrong)
    """The search shall end with what it has."""


@dataclass(frozen=True)
class _Watch:
    report: Report
    stop: Callable[[], bool]
    span: tuple[float, float]

    def check(self) -> None:
        """Stop the piece of work that asks, where that is wished."""
        if self.stop():
            raise _Stopped

    def check_backward(self, loss: Tensor) -> None:
        """Check between the pieces of the coming backward pass too: before every node of the graph."""
        waiting, seen = [loss.grad_fn], set()
        while waiting:
            node = waiting.pop()
            if node is not None and node not in seen and node.next_functions:
                seen.add(node)
                node.register_prehook(lambda gradients: self.check())
                waiting.extend(following for following, _ in node.next_functions)

    def tell(self, factor: int, step: int, steps: int, loss: float) -> None:
        fraction = self.span[0] + (self.span[1] - self.span[0]) * (step + 1) / steps
        self.report(Progress(stage="refinement", fraction=fraction, text=f"level 1/{factor}, step {step + 1}"))
        self.report(Metric(stage="refinement", step=step + 1, values={"factor": float(factor), "loss": loss}))


class _Level:
    """Images, weights and loss at one resolution."""

    def __init__(
        self,
        pair: RefinementPair,
        config: RefinementConfig,
        factor: int,
        base: Tensor | None,
        members: Memberships | None,
        between: Callable[[], None],
    ) -> None:
        self.config, self.factor, self.base, self.between = config, factor, base, between
        between()
        self.fixed = shrink(pair.fixed, factor)
        weight = pair.fixed_weight
        self.fixed_weight = None if weight is None else shrink(weight.float(), factor)
        self.moving_weight = pair.moving_weight
        self.disagreement: LabelDisagreement | None = None
        if members is not None:
            self.disagreement = LabelDisagreement(members, factor, self.fixed_weight, between)
        self.mse_scale = _MSE_SCALE / max(float(self.fixed.var()), 1e-6)
        self.share = 1.0 if self.fixed_weight is None else float(self.fixed_weight.mean().clamp(min=0.05))
        center = np.eye(4)
        center[:3, :3] *= factor
        center[:3, 3] = (factor - 1) / 2
        self.matrix = pair.moving_from_fixed_vox @ center
        self.moving = pair.moving
        if factor > 1:
            sigmas = [0.5 * factor * ratio for ratio in pair.moving_voxels_per_fixed]
            self.moving = smooth_image(pair.moving, sigmas, between=between)
        if config.similarity == "mind":
            aligned = resample(self.moving, self.matrix, tuple(self.fixed.shape[2:]), between=between)
            features = (mind_ssc(image, _MIND_RADIUS, between=between) for image in (self.fixed, aligned))
            self.fixed_features, self.moving_features = features
        between()
        self.places = apply_matrix(self.matrix, voxel_grid(self.fixed.shape[2:], self.fixed.device))
        linear = np.eye(4)
        linear[:3, :3] = self.matrix[:3, :3]
        self.linear = linear

    def loss(self, velocity: Tensor) -> Tensor:
        """Similarity, labels, smoothness and folding of ``(1, 3, ...)`` in voxels of the level."""
        config, between = self.config, self.between
        squarings = squarings_for(velocity.detach(), _LONGEST_FIRST_STEP_VOX)
        displacement = flow(velocity, squarings, between=between)
        between()
        if self.base is not None:
            displacement = compose(displacement, self.base)
            between()
        places = self.places + apply_matrix(self.linear, displacement)
        weight = self.fixed_weight
        if self.moving_weight is not None:
            seen = sample(self.moving_weight, places.detach())
            weight = seen if weight is None else weight * seen
            between()
        if config.similarity == "mind":
            warped = warp(self.moving_features, displacement)
            between()
            similarity = _MIND_SCALE * mean_squared_error(self.fixed_features, warped, weight)
        elif config.similarity == "mse":
            similarity = self.mse_scale * mean_squared_error(self.fixed, sample(self.moving, places), weight)
        else:
            radius = config.radius if self.factor == 1 else config.coarse_radius
            warped = sample(self.moving, places)
            between()
            similarity = local_ncc(self.fixed, warped, radius, weight, between=between)
        between()
        if self.disagreement is not None:
            similarity = similarity + config.labels * self.disagreement(displacement, weight)
            between()
        regularity = config.smoothness * squared_gradient(velocity)
        if config.folding > 0:
            regularity = regularity + config.folding * folding_penalty(displacement, config.folding_margin)
        return similarity + regularity / self.share

    def optimise(self, start: Tensor, correction: Tensor, watch: _Watch) -> tuple[Tensor, LevelReport]:
        """What lowers the loss of ``start + correction`` when added to them; all in voxels of the level."""
        config, steps = self.config, self.config.steps_at(self.factor)
        update = torch.zeros_like(start).requires_grad_(True)
        adam = Adam(update, betas=(0.9, 0.99))
        best, best_loss, first_loss, waited, taken = torch.zeros_like(start), float("inf"), float("nan"), 0, 0
        with suppress(_Stopped):
            for step in range(steps + 1):  # the last round only judges the last step
                watch.check()
                smoothed = smooth(update, config.smoothing_vox)
                watch.check()
                loss = self.loss(start + correction + smoothed)
                value = float(loss.detach())
                taken = step
                first_loss = value if step == 0 else first_loss
                gained = best_loss - value
                waited = 0 if gained > _LEAST_GAIN * abs(value) else waited + 1
                if gained > 0:
                    best, best_loss = smoothed.detach(), value
                    if smoothed is update:  # which Adam changes in place
                        best = best.clone()
                if step == steps or waited > _PATIENCE:
                    break
                watch.check_backward(loss)
                loss.backward()
                adam.step(config.learning_rate * (1 - (1 - _LAST_RATE) * step / steps))
                watch.tell(self.factor, step, steps, value)
        outcome = LevelReport(factor=self.factor, steps=taken, loss_first=first_loss, loss_best=best_loss)
        return best, outcome


@contextmanager
def _fast_denormals() -> Iterator[None]:
    """Numbers below 1e-38 count as zero: the tails of Gaussians and of gradients would slow the CPU down manyfold."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
