"""The overlap of carried labels against Dice computed by hand, and its gradient against differences."""

from __future__ import annotations

import pytest
import torch

from autofuse_engine.losses.label_overlap import label_overlap

SHAPE = (8, 14, 10)


def slab(first: int, end: int, label: int, into: torch.Tensor | None = None) -> torch.Tensor:
    """A label in planes along H."""
    labels = torch.zeros(1, 1, *SHAPE, dtype=torch.int64) if into is None else into
    labels[:, :, :, first:end] = label
    return labels


def shift(amount: float, axis: int = 1) -> torch.Tensor:
    displacement = torch.zeros(1, 3, *SHAPE)
    displacement[:, axis] = amount
    return displacement


@pytest.mark.parametrize(
    ("amount", "expected"), [(0.0, 1 - 2 / 4), (2.0, 0.0), (1.0, 1 - 2 * 3 / 8), (1.5, 1 - 2 * 3.5 / 8)]
)
def test_a_shifted_slab_has_the_dice_of_its_overlap(amount: float, expected: float) -> None:
    """The moving slab lies two planes further: displaced by 2 it fits; by fractions its border is a half member."""
    fixed, moving = slab(4, 8, 1), slab(6, 10, 1)
    loss = label_overlap(fixed, moving, shift(amount), torch.tensor([1]))
    assert float(loss) == pytest.approx(expected, abs=1e-4)
    assert float(label_overlap(fixed, moving, shift(amount, axis=0), torch.tensor([1]))) == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_each_channel_moves_along_its_own_axis(axis: int) -> None:
    fixed, moving = (torch.zeros(1, 1, *SHAPE, dtype=torch.int64) for _ in range(2))
    fixed.narrow(axis + 2, 2, 3).fill_(1)
    moving.narrow(axis + 2, 4, 3).fill_(1)
    losses = [float(label_overlap(fixed, moving, shift(2.0, channel), torch.tensor([1]))) for channel in range(3)]
    assert losses[axis] == pytest.approx(0, abs=1e-4)
    assert all(losses[other] == pytest.approx(2 / 3, abs=1e-4) for other in range(3) if other != axis)


def test_only_the_chosen_labels_that_both_images_have_count() -> None:
    fixed, moving = slab(10, 13, 3, slab(4, 8, 1)), slab(1, 3, 2, slab(4, 8, 1))
    still = shift(0.0)
    assert float(label_overlap(fixed, moving, still, torch.tensor([1, 2, 3]))) == pytest.approx(0, abs=1e-5)
    assert float(label_overlap(fixed, moving, still, torch.tensor([2, 3]))) == 0
    both = slab(10, 13, 3, slab(4, 8, 1))
    assert float(label_overlap(both, slab(11, 14, 3, slab(4, 8, 1)), still, torch.tensor([3, 1]))) == pytest.approx(
        1 / 6, abs=1e-4
    )
    assert float(label_overlap(both, slab(11, 14, 3, slab(4, 8, 1)), still, torch.tensor([1]))) == pytest.approx(
        0, abs=1e-5
    )


def test_its_gradient_pulls_labels_over_each_other() -> None:
    fixed, moving = slab(4, 8, 1), slab(6, 10, 1)
    amount = torch.tensor(0.3, requires_grad=True)
    loss = label_overlap(fixed, moving, shift(1.0) * amount, torch.tensor([1]))
    loss.backward()
    step = 1e-2
    above, below = (
        float(label_overlap(fixed, moving, shift(1.0) * (0.3 + sign * step), torch.tensor([1]))) for sign in (1, -1)
    )
    assert amount.grad is not None
    assert float(amount.grad) == pytest.approx((above - below) / (2 * step), rel=1e-2)
    assert float(amount.grad) < 0


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"both labelmaps are \(1, 1, D, H, W\)"):
        label_overlap(slab(1, 2, 1), slab(1, 2, 1)[:, :, 1:], shift(0.0), torch.tensor([1]))
