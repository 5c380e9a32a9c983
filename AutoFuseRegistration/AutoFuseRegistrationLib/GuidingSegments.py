"""Which segments of the chosen segmentations a model that segments can be guided by."""

from __future__ import annotations

from typing import Any

from autofuse_engine import catalog
from autofuse_engine.class_names import can_be_guided, class_names, classes_by_name
from autofuse_engine.errors import ModelError
from autofuse_engine.model_card import ModelCard

NOT_CARDS = ("none", "auto")
"""Choices of a model that name none: it is not used, or chosen once the images are known."""


def guidableCard(model: str) -> ModelCard | None:
    """The card of a model that can be guided; None for any other, and for one that is not on this computer."""
    if model in NOT_CARDS:
        return None
    try:
        card = catalog.find(model).card
    except ModelError:
        return None
    return card if can_be_guided(card) else None


def guidingClasses(model: str, fixedSegmentation: Any, movingSegmentation: Any) -> dict[str, tuple[str, ...]]:
    """Names of the model's classes that segments have the names of, each with its sides, ``fixed`` and ``moving``.

    Args:
        model: a name of the catalog, or one of :data:`NOT_CARDS`.
        fixedSegmentation: segmentation node, or None.
        movingSegmentation: likewise.
    """
    card = guidableCard(model)
    if card is None:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    names = class_names(card)
    sides = {side: set(classes_by_name(card, dict(enumerate(segmentNames(node).values(), start=1))).values())
             for side, node in (("fixed", fixedSegmentation), ("moving", movingSegmentation))}  # fmt: skip
    for number, name in sorted(names.items()):
        of = tuple(side for side, classes in sides.items() if number in classes)
        if of:
            found[name] = of
    return found


def segmentNames(segmentationNode: Any) -> dict[str, str]:
    """Name by segment id; empty for None."""
    if segmentationNode is None:
        return {}
    segmentation = segmentationNode.GetSegmentation()
    return {identifier: segmentation.GetSegment(identifier).GetName() for identifier in segmentation.GetSegmentIDs()}
