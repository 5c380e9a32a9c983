"""The segmentation that a semi-supervised network makes of each image, and the map that tells the pair path of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autofuse_engine.networks import lean
from autofuse_engine.networks.blocks import convolve


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenClasses:
    """Where somebody says that classes of a semi-supervised network are in an image, and so where they are not.

    Attributes:
        labels: ``(B, 1, D, H, W)``, integers: the given class of each voxel, 0 where none of ``classes`` is.
        classes: those that are given, each above 0; no other class occurs in ``labels``.

    Raises:
        ValueError: if a shape, a type or a class breaks these rules.
    """

    labels: Tensor
    classes: tuple[int, ...]

    def __post_init__(self) -> None:
        labels = self.labels
        if labels.ndim != 5 or labels.shape[1] != 1 or labels.is_floating_point() or labels.is_complex():
            received = f"{tuple(labels.shape)} of {labels.dtype}"
            raise ValueError(f"given labels are integers of the shape (B, 1, D, H, W), received {received}")
        if min(self.classes, default=1) < 1:
            raise ValueError(f"given classes are above 0, received {self.classes}")
        found = set(torch.unique(labels).tolist()) - {0}
        if not found <= set(self.classes):
            raise ValueError(f"given labels are 0 or one of {self.classes}, received {sorted(found)}")

    def split(self) -> Iterator[GivenClasses]:
        """One for each image of the batch."""
        return (GivenClasses(labels=labels, classes=self.classes) for labels in self.labels.split(1))


class SegmentationHead(nn.Module):
    """Class scores from the last features of the single-image path (section 3.3 of the AutoFuse paper).

    Args:
        channels: of the features.
        classes: K, background (class 0) counted.
        hard: code the most probable class instead of the expected one; no gradient passes through that map.
    """

    def __init__(self, channels: int, classes: int, *, hard: bool) -> None:
        super().__init__()
        self.scores = nn.Conv3d(channels, classes, kernel_size=1)
        self.hard = hard

    def forward(self, features: Tensor, given: GivenClasses | None = None) -> tuple[Tensor, Tensor]:
        """``(B, C, D, H, W)`` to logits ``(B, K, D, H, W)`` and the map ``(B, 1, D, H, W)`` with values in [0, 1).

        Classes that are given enter the map only; the logits are the network's own.
        """
        logits = self.logits(features)
        if given is not None:
            code = guided_code(logits, given, hard=self.hard)
        else:
            code = hard_code(logits) if self.hard else expected_code(logits)
        return logits, code.to(features.dtype)

    def logits(self, features: Tensor) -> Tensor:
        """``(B, C, D, H, W)`` to scores ``(B, K, D, H, W)``; in channels-last order where nobody learns."""
        if lean.suits(features, *self.scores.parameters()):
            return lean.convolve([features], self.scores)
        return convolve(features, self.scores)


def class_probabilities(logits: Tensor) -> Tensor:
    """Softmax over the classes of ``(B, K, D, H, W)``; float32, same shape, in the order that the memory has."""
    rows = logits.permute(0, 2, 3, 4, 1)
    if rows.is_contiguous():  # as lean convolutions leave them: a copy in another order takes longer than the rest
        return torch.softmax(rows.float(), dim=-1).permute(0, 4, 1, 2, 3)
    return torch.softmax(logits.float(), dim=1)


def guided_code(logits: Tensor, given: GivenClasses, *, hard: bool) -> Tensor:
    """The map of a segmentation of which some classes are given and the others predicted; float32.

    ``k / K`` where class k is given. Elsewhere no given class can be: their probabilities are zero there, those of the
    others are divided by their sum, and the code is :func:`expected_code` or, if ``hard``, :func:`hard_code` of that.
    Where every class but background is given, the rest is 0.

    Args:
        logits: ``(B, K, D, H, W)``.
        given: of the same B, D, H, W.
        hard: which code.

    Returns:
        ``(B, 1, D, H, W)``.
    """
    taken = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    taken[list(given.classes)] = True
    rest = logits.float().masked_fill(taken.view(1, -1, 1, 1, 1), float("-inf"))
    predicted = hard_code(rest) if hard else expected_code(rest)
    labels = given.labels.to(logits.device)
    return torch.where(labels > 0, labels.float() / logits.shape[1], predicted)


def expected_code(logits: Tensor) -> Tensor:
    """``sum_k k * p_k / K``: the expected label over the number of classes, differentiable; float32.

    Args:
        logits: ``(B, K, D, H, W)``.

    Returns:
        ``(B, 1, D, H, W)``.
    """
    classes = logits.shape[1]
    labels = torch.arange(classes, device=logits.device, dtype=torch.float32) / classes
    # A product of matrices: nothing as large as the probabilities is made a second time.
    rows = class_probabilities(logits).permute(0, 2, 3, 4, 1)
    with torch.autocast(logits.device.type, enabled=False):  # labels lie closer together than bfloat16 can tell
        if rows.is_contiguous():
            return (rows @ labels)[:, None]
        return (labels @ rows.permute(0, 4, 1, 2, 3).flatten(2)).view(logits.shape[0], 1, *logits.shape[2:])


def hard_code(logits: Tensor) -> Tensor:
    """``argmax_k p_k / K``, as imported weights know it; float32, same shapes as :func:`expected_code`."""
    return logits.argmax(dim=1, keepdim=True).float() / logits.shape[1]
