"""Which segments of the chosen segmentations can guide: the model, and the refinement or that one alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from autofuse_engine import catalog
from autofuse_engine.class_names import can_be_guided, class_names, classes_by_name
from autofuse_engine.configs import AUTOMATIC_MODEL, NO_MODEL
from autofuse_engine.errors import InputError, ModelError
from autofuse_engine.model_card import ModelCard
from AutoFuseLib import Segmentations

from . import Defaults
from .ParameterNode import AutoFuseRegistrationParameterNode


@dataclass(frozen=True, kw_only=True)
class Guides:
    """What the chosen segmentations can guide.

    Attributes:
        card: of the model, if that can be guided; with the automatic choice, of the model that it probably comes to.
        classes: names of the model's classes that segments have the names of, each with its sides, ``fixed`` and
            ``moving``. Where there are any, they alone guide, the model and the refinement.
        common: names of segments that both segmentations have; without classes these guide the refinement alone.
        refines: whether a refinement follows.
        unmatchable: why segments cannot be matched by name, as a sentence with its cure; empty if they can.
    """

    card: ModelCard | None = None
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    common: tuple[str, ...] = ()
    refines: bool = True
    unmatchable: str = ""

    @property
    def possible(self) -> bool:
        """Whether there is something that guides."""
        return bool(self.classes) or (bool(self.common) and self.refines)


def guides(parameters: AutoFuseRegistrationParameterNode) -> Guides:
    """What the chosen segmentations can guide with the chosen model and steps."""
    fixed, moving = parameters.fixedSegmentation, parameters.movingSegmentation
    entries = catalog.list_models() if parameters.model == AUTOMATIC_MODEL else ()
    card = _card(Defaults.expectedModel(parameters, entries))
    guidable = card if can_be_guided(card) else None
    common, unmatchable = _common(fixed, moving)
    return Guides(
        card=guidable,
        classes={} if guidable is None else _classes(guidable, fixed, moving),
        common=common,
        refines=Defaults.refines(parameters, card),
        unmatchable=unmatchable,
    )


def segmentNames(segmentationNode: Any) -> dict[str, str]:
    """Name by segment id; empty for None."""
    if segmentationNode is None:
        return {}
    segmentation = segmentationNode.GetSegmentation()
    return {identifier: segmentation.GetSegment(identifier).GetName() for identifier in segmentation.GetSegmentIDs()}


def _card(model: str) -> ModelCard | None:
    """None where no model is used, and for one that is not on this computer or damaged."""
    if model == NO_MODEL:
        return None
    try:
        return catalog.find(model).card
    except ModelError:
        return None


def _classes(card: ModelCard, fixedSegmentation: Any, movingSegmentation: Any) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    sides = {side: set(classes_by_name(card, dict(enumerate(segmentNames(node).values(), start=1))).values())
             for side, node in (("fixed", fixedSegmentation), ("moving", movingSegmentation))}  # fmt: skip
    for number, name in sorted(class_names(card).items()):
        of = tuple(side for side, classes in sides.items() if number in classes)
        if of:
            found[name] = of
    return found


def _common(fixedSegmentation: Any, movingSegmentation: Any) -> tuple[tuple[str, ...], str]:
    """Names of the segments that the export gives equal labels, or why it cannot."""
    if fixedSegmentation is None or movingSegmentation is None:
        return (), ""
    try:
        found = Segmentations.commonSegments(fixedSegmentation, movingSegmentation)
    except InputError as error:
        return (), f"{error.text} {error.hint}"
    return tuple(segment.name.strip() for segment in found), ""
