"""First values of weights."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def initialise(how: Callable[[Tensor], object], weights: Tensor) -> None:
    """``how(weights)``, one of ``torch.nn.init``; nothing for weights without memory.

    A network whose weights come from a file is first built on the device ``meta``. Drawing normal numbers there does
    nothing, but loads PyTorch's compiler: 800 modules, more than two seconds of a program's first registration.
    """
    if not weights.is_meta:
        how(weights)
