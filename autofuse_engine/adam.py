"""Adam's steps for one tensor (Kingma and Ba, ICLR 2015, algorithm 1).

The numbers are those of ``torch.optim.Adam``, whose first use loads PyTorch's compiler: two to six seconds before the
first step of a program's first registration.
"""

from __future__ import annotations

import torch
from torch import Tensor

_EPSILON = 1e-8


class Adam:
    """Moves a tensor against its gradient.

    Args:
        values: a leaf tensor that requires its gradient; changed in place.
        betas: decay of the means of the gradient and of its square.
    """

    def __init__(self, values: Tensor, betas: tuple[float, float]) -> None:
        self._values, self._betas = values, betas
        self._mean, self._square = torch.zeros_like(values), torch.zeros_like(values)
        self._steps = 0

    def step(self, learning_rate: float) -> None:
        """Take a step, and forget the gradient.

        Raises:
            ValueError: if there is no gradient.
        """
        gradient = self._values.grad
        if gradient is None:
            raise ValueError("a step needs a gradient, received none")
        self._steps += 1
        first, second = self._betas
        with torch.no_grad():
            self._mean.lerp_(gradient, 1 - first)
            self._square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
            root = (self._square.sqrt() / (1 - second**self._steps) ** 0.5).add_(_EPSILON)
            self._values.addcdiv_(self._mean, root, value=-learning_rate / (1 - first**self._steps))
        self._values.grad = None
