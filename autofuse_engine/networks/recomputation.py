"""Activation checkpointing: training keeps the inputs of each part only and computes the rest again when it learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Recomputing(nn.Module):
    """Base of modules that call their parts through :meth:`run`.

    Attributes:
        recompute: whether the results inside of a part are forgotten and computed once more in the backward pass
            (Chen et al. 2016, arXiv 1604.06174). Changes memory and time, no number.
    """

    recompute = False

    def run(self, part: Callable[..., Any], *inputs: Any) -> Any:
        """``part(*inputs)``; ``part`` draws no random numbers."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=False)
        return part(*inputs)


def set_recomputation(network: nn.Module, recompute: bool) -> None:
    """Switch recomputation on or off in every part of a network."""
    for module in network.modules():
        if isinstance(module, Recomputing):
            module.recompute = recompute
