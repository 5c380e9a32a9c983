"""Labels of both images that guide a refinement: how far they disagree under a displacement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from autofuse_engine.losses.similarity import mean_squared_error
from autofuse_engine.spatial.smooth import shrink
from autofuse_engine.spatial.warp import warp

MOST_CHANNELS = 8
"""Up to so many labels each have a channel of their own; more share them, see :func:`memberships`."""
_LEAST_VARIANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Memberships:
    """Where labels are, in channels ``(1, C, D, H, W)`` of float32, and how many labels these tell apart."""

    fixed: Tensor
    moving: Tensor
    labels: int


def memberships(fixed_labels: Tensor, moving_labels: Tensor) -> Memberships | None:
    """Channels that say where each label is that both labelmaps hold; None where they share none.

    Of more than ``MOST_CHANNELS`` labels each is a unit vector of that many channels, in random directions which
    depend on the number of labels alone: squared differences between two labels are about alike, at the cost of 8
    channels however many the labels are (random projections, Johnson and Lindenstrauss 1984).

    Args:
        fixed_labels: ``(1, 1, D, H, W)``, integers, 0 where no label is.
        moving_labels: same shape.
    """
    here = torch.unique(fixed_labels)
    shared = here[torch.isin(here, torch.unique(moving_labels.to(here.device)))]
    shared = shared[shared != 0]
    count = len(shared)
    if count == 0:
        return None
    vectors = torch.eye(count)
    if count > MOST_CHANNELS:
        vectors = torch.randn(count, MOST_CHANNELS, generator=torch.Generator().manual_seed(count))
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
    vectors = torch.cat([torch.zeros_like(vectors[:1]), vectors]).to(here.device)

    def channels(labels: Tensor) -> Tensor:
        labels = labels[0, 0].to(shared.device)
        places = torch.searchsorted(shared, labels).clamp(max=count - 1)
        number = torch.where(shared[places] == labels, places + 1, 0)
        return vectors[number].permute(3, 0, 1, 2)[None].contiguous()

    return Memberships(channels(fixed_labels), channels(moving_labels), count)


class LabelDisagreement:
    """The squared difference of the two images' memberships, over their variance in the fixed image.

    0 where labels lie on each other exactly, about 2 where they have nothing to do with each other. With one channel a
    label this is the Brier form of an overlap; it has a gradient at borders only.

    Args:
        members: on the working grid; those of the moving image under the initial alignment.
        factor: how many times coarser the level is; memberships become shares of its voxels.
        weight: ``(1, 1, D/f, H/f, W/f)``, where the fixed image counts; None means everywhere.
        between: called between pieces of the work; may raise to stop.
    """

    def __init__(
        self,
        members: Memberships,
        factor: int,
        weight: Tensor | None = None,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self._fixed = shrink(members.fixed, factor)
        between()
        self._moving = shrink(members.moving, factor)
        between()
        mean = mean_squared_error(self._fixed, torch.zeros_like(self._fixed), weight)
        center = self._fixed if weight is None else self._fixed * weight
        total = float(self._fixed[0, 0].numel()) if weight is None else float(weight.sum().clamp(min=1e-6))
        middle = (center.sum(dim=(2, 3, 4)) / total).square().mean()
        self._scale = 1.0 / max(float(mean - middle), _LEAST_VARIANCE)

    def __call__(self, displacement_vox: Tensor, weight: Tensor | None) -> Tensor:
        """A scalar.

        Args:
            displacement_vox: ``(1, 3, D/f, H/f, W/f)``, voxels of the level.
            weight: ``(1, 1, D/f, H/f, W/f)``, where both images count, or None.
        """
        return self._scale * mean_squared_error(self._fixed, warp(self._moving, displacement_vox), weight)
