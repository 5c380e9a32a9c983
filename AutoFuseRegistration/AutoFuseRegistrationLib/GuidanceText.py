"""The sentences of the check box "Guide by these segmentations": what guides and how, or what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from slicer.i18n import tr as _

from autofuse_engine.class_names import class_names
from autofuse_engine.configs import AUTOMATIC_MODEL

from .GuidingSegments import Guides
from .ParameterNode import AutoFuseRegistrationParameterNode

_MOST_NAMES = 5
_NAMES_OF_MANY = 3


def guidanceText(guides: Guides, parameters: AutoFuseRegistrationParameterNode) -> str:
    """A few lines of plain text.

    Args:
        guides: what the chosen segmentations can guide.
        parameters: the choices.
    """
    if guides.possible:
        how = _ofModel(guides, parameters) if guides.classes else _ofRefinement(guides)
        judge = _("Their Dice is then no independent judge of the result; so this is off until you switch it on.")
        return f"{how}\n{judge}"
    return "\n".join(_missing(guides, parameters))


def listed(names: Sequence[str]) -> str:
    """Names in a row; of many the first ones, and how many more there are."""
    if len(names) <= _MOST_NAMES:
        return ", ".join(names)
    first = ", ".join(names[:_NAMES_OF_MANY])
    return _("{names} and {count} more").format(names=first, count=len(names) - _NAMES_OF_MANY)


def _ofModel(guides: Guides, parameters: AutoFuseRegistrationParameterNode) -> str:
    words = {
        ("fixed", "moving"): _("{name} of both volumes"),
        ("fixed",): _("{name} of the fixed volume"),
        ("moving",): _("{name} of the moving volume"),
    }
    segments = listed([words[sides].format(name=name) for name, sides in guides.classes.items()])
    if guides.refines:
        text = _("These segments are taken for granted by the model, and by the refinement: {segments}.")
    else:
        text = _("These segments are taken for granted by the model: {segments}.")
    text = text.format(segments=segments)
    if parameters.model == AUTOMATIC_MODEL:
        probably = _("The images decide which model it is when the run begins, probably {title}.")
        text = f"{text}\n{probably.format(title=guides.card.title or guides.card.name)}"
    return text


def _ofRefinement(guides: Guides) -> str:
    return _("The refinement makes these segments lie on each other: {segments}.").format(
        segments=listed(guides.common)
    )


def _missing(guides: Guides, parameters: AutoFuseRegistrationParameterNode) -> list[str]:
    """Why nothing guides, and what to do; a line each."""
    fixed, moving = parameters.fixedSegmentation, parameters.movingSegmentation
    lines = []
    if guides.common:
        text = _("The refinement could make these segments lie on each other: {segments}.")
        lines.append(text.format(segments=listed(guides.common)))
    else:
        lines.append(_("The refinement can make segments of equal names lie on each other."))
    if guides.unmatchable:
        lines.append(guides.unmatchable)
    elif fixed is None:
        lines.append(_("Choose the fixed segmentation too."))
    elif moving is None:
        lines.append(_("Choose the moving segmentation too."))
    elif not guides.common:
        text = _("No segment of {moving} has the name of one of {fixed}: give corresponding segments equal names.")
        lines.append(text.format(moving=moving.GetName(), fixed=fixed.GetName()))
    if not guides.refines:
        lines.append(_("It is switched off: set the refinement steps, under Advanced, above 0."))
    if guides.card is not None and (known := list(class_names(guides.card).values())):
        text = _("Or name segments of one or both volumes like what the model segments: {classes}.")
        lines.append(text.format(classes=listed(known)))
    return lines
