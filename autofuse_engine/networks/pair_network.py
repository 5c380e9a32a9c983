"""Networks of one path that sees both images: early, middle and late fusion, and VoxelMorph."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor, nn

from autofuse_engine.networks.blocks import convolve_activate_normalise
from autofuse_engine.networks.heads import FieldHead
from autofuse_engine.networks.network import Guides, NetworkOutput, RegistrationNetwork
from autofuse_engine.networks.paths import Path


class PairNetwork(RegistrationNetwork):
    """A path and a head. What the path makes of the images decides where their features meet.

    Args:
        path: takes the concatenation of fixed and moving image.
        head: takes the last stage's output to the field.
        matching: convolution, followed by LeakyReLU and instance norm, of the last stage's output; for paths that
            keep the images apart to their end.
    """

    def __init__(self, path: Path, head: FieldHead, matching: nn.Conv3d | None = None) -> None:
        super().__init__(2 ** max(path.levels))
        self.path = path
        self.matching = matching
        self.head = head

    def predict(
        self, fixed: Tensor, moving: Tensor, *, log_variance: bool, code: Tensor | None, guides: Guides
    ) -> NetworkOutput:
        """See :meth:`RegistrationNetwork.forward`."""
        last = deque(self.path.features(torch.cat([fixed, moving], dim=1)), maxlen=1).pop()
        if self.matching is not None:
            last = convolve_activate_normalise([last], self.matching)
        mean, log_variances = self.head(last, log_variance=log_variance)
        return NetworkOutput(
            velocity_mean=mean, velocity_log_variance=log_variances, is_displacement=self.head.is_displacement
        )
