"""Adam's steps against PyTorch's own."""

from __future__ import annotations

import pytest
import torch

from autofuse_engine.adam import Adam


def test_steps_are_those_of_pytorch_bit_for_bit() -> None:
    start = torch.randn(1, 3, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    target = torch.linspace(-2, 3, start.numel()).reshape(start.shape)
    ours, theirs = start.clone().requires_grad_(True), start.clone().requires_grad_(True)
    adam, optimizer = Adam(ours, (0.9, 0.99)), torch.optim.Adam([theirs], lr=1.0, betas=(0.9, 0.99))
    for rate in (0.3, 0.2, 0.1, 0.05):
        ((ours - target) ** 4).sum().backward()
        adam.step(rate)
        optimizer.zero_grad()
        ((theirs - target) ** 4).sum().backward()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        assert torch.equal(ours, theirs)
    assert ours.grad is None


def test_a_step_without_a_gradient_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a gradient"):
        Adam(torch.zeros(2, requires_grad=True), (0.9, 0.99)).step(0.1)
