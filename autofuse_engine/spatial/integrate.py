"""From a stationary velocity field to the displacement of its flow: scaling and squaring."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from autofuse_engine.spatial.grid import voxel_grid
from autofuse_engine.spatial.warp import compose, sample, warp

_PROBES = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5))
_LEAST_PROBE_WEIGHT = 0.05

Between = Callable[[], None]


def _nothing() -> None:
    """What happens between pieces of work where nobody asks."""


def integrate(velocity_vox: Tensor, steps: int = 7, *, between: Between = _nothing) -> Tensor:
    """Displacement of the flow of a stationary velocity field at time 1 (Arsigny et al. 2006).

    Args:
        velocity_vox: ``(B, 3, D, H, W)``, voxels per unit time, tensor axis order.
        steps: number of squarings; the first step is ``velocity / 2**steps``.
        between: called between the squarings; may raise to stop.

    Returns:
        ``(B, 3, D, H, W)``, voxels. ``integrate(-velocity)`` is the inverse up to the error of the grid.
    """
    displacement = velocity_vox * (0.5**steps)
    for _ in range(steps):
        between()
        displacement = compose(displacement, displacement)
    return displacement


def flow(velocity_vox: Tensor, steps: int = 7, *, between: Between = _nothing) -> Tensor:
    """:func:`integrate` with a gradient that costs one lookup, close enough to the true one for a search.

    A change ``w`` of the velocity changes the displacement at ``x`` by ``w`` along the way that ``x`` goes, the mean of
    ``w(phi_s(x))`` over ``s`` from 0 to 1 where what follows stretches little. So the gradient at ``y`` is that of the
    displacements whose way leads through ``y``: at the middle of the way, that at ``y - velocity(y) / 2``. The true one
    takes a lookup with its derivative, and its transpose, for each squaring (docs/decisions/0148).

    Arguments and result are those of :func:`integrate`.
    """
    if steps == 0 or not torch.is_grad_enabled() or not velocity_vox.requires_grad:
        return integrate(velocity_vox, steps, between=between)
    return _Flow.apply(velocity_vox, steps, between)  # pyright: ignore[reportReturnType]


class _Flow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, velocity_vox: Tensor, steps: int, between: Between) -> Tensor:
        ctx.save_for_backward(velocity_vox)
        return integrate(velocity_vox, steps, between=between)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore
        (velocity_vox,) = ctx.saved_tensors
        return warp(output_gradient, -0.5 * velocity_vox), None, None


def squarings_for(velocity_vox: Tensor, longest_step_vox: float = 0.25) -> int:
    """Fewest squarings that keep the first step of each voxel below ``longest_step_vox``."""
    longest = float(velocity_vox.abs().amax())
    return max(0, math.ceil(math.log2(longest / longest_step_vox))) if longest > longest_step_vox else 0


def invert(
    displacement_vox: Tensor, tolerance_vox: float = 1e-3, rounds: int = 60, *, between: Between = _nothing
) -> Tensor:
    """Displacement that undoes ``(B, 3, D, H, W)``, voxels, at the nodes of its grid: a damped fixed-point iteration.

    For fields without a velocity. Converges where the map stretches every direction less than fourfold and does not
    fold; where it folds no inverse exists, and the search ends when nothing is gained any more.

    Args:
        displacement_vox: the field; zero at its border, or the inverse is that of its continuation.
        tolerance_vox: the search ends when no node is off by more.
        rounds: the most.
        between: called between the rounds; may raise to stop.
    """
    inverse, before = -displacement_vox, float("inf")
    for _ in range(rounds):
        between()
        residual = compose(inverse, displacement_vox)
        inverse = inverse - 0.5 * residual
        size = residual.abs()
        mean = float(size.mean())
        if float(size.amax()) <= tolerance_vox or mean > 0.98 * before:
            break
        before = mean
    return inverse


def polish_inverse(
    displacement_vox: Tensor, inverse_vox: Tensor, rounds: int = 3, *, rim: int = 0, between: Between = _nothing
) -> Tensor:
    """Make the interpolated inverse undo the interpolated field, at the nodes of the grid and between them.

    Each round measures ``inverse(x + displacement(x)) + displacement(x)``, which should be zero, at the nodes and at
    the centres of the cells' faces, and subtracts from every node the weighted mean of what its neighbourhood shows
    (the simultaneous iterative reconstruction technique).

    Args:
        displacement_vox: ``(B, 3, D, H, W)``, voxels.
        inverse_vox: same shape; ``integrate(-velocity)``.
        rounds: three suffice; the error then stays where the grid's resolution puts it.
        rim: so many voxels along every face of the grid are left out: nothing is measured there, and the inverse stays
            as it is where only they lead.
        between: called between pieces of a round; may raise to stop.
    """
    inner = [slice(rim, side - rim) for side in displacement_vox.shape[2:]]
    grid = voxel_grid(displacement_vox.shape[2:], displacement_vox.device)[(slice(None), slice(None), *inner)]
    counter = torch.zeros_like(inverse_vox[:, :1])
    for _ in range(rounds):
        # A fourth channel, so that one lookup serves for the residuals and for the weight with which they count.
        field = torch.cat([inverse_vox.detach(), counter], dim=1).requires_grad_(True)
        spread = torch.zeros_like(field)
        for offset in _PROBES:
            between()
            moved = _halfway(displacement_vox, offset, rim)
            landed = grid + torch.tensor(offset, device=grid.device).view(1, 3, 1, 1, 1) + moved
            between()
            with torch.enable_grad():
                looked_up = sample(field, landed)
            between()
            residual = torch.cat([looked_up[:, :3].detach() + moved, torch.ones_like(moved[:, :1])], dim=1)
            # The derivative of a lookup with respect to the field spreads residuals to the nodes they came from. Of a
            # scalar: for one that is given the gradient of each value, PyTorch loads sympy, 0.7 seconds.
            with torch.enable_grad():
                total = (looked_up * residual).sum()
            spread += torch.autograd.grad(total, field)[0]
        inverse_vox = inverse_vox - spread[:, :3] / spread[:, 3:].clamp(min=_LEAST_PROBE_WEIGHT)
    return inverse_vox


def _halfway(field: Tensor, offset: tuple[float, float, float], rim: int) -> Tensor:
    """``(B, C, D, H, W)`` at its nodes or, where ``offset`` is one half, halfway to the next node along that axis.

    ``rim`` nodes along every face are left out. After the last node the field stays as it is there.
    """
    kept = [side - 2 * rim for side in field.shape[2:]]
    beyond = min(rim, 1)
    for axis, side in enumerate(kept, start=2):
        field = field.narrow(axis, rim, side + beyond)
    for axis, (part, side) in enumerate(zip(offset, kept, strict=True), start=2):
        here = field.narrow(axis, 0, side)
        if part:
            following = field.narrow(axis, 1, side - 1 + beyond)
            following = following if beyond else torch.cat([following, here.narrow(axis, side - 1, 1)], dim=axis)
            here = torch.lerp(here, following, part)
        field = here
    return field
