"""From what people type or send to guidance: label values and their names, matched with a model's classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from autofuse_engine import catalog
from autofuse_engine.class_names import can_be_guided, class_names, classes_by_name, classes_by_value
from autofuse_engine.configs import AUTOMATIC_MODEL, NO_MODEL
from autofuse_engine.data.tables import read_table, table_invalid, whole_number
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import InputError
from autofuse_engine.guidance import Guidance
from autofuse_engine.model_card import ModelCard


def guidance_from_names(
    fixed_labels: Volume | None, moving_labels: Volume | None, names: Mapping[int, str] | None
) -> Guidance:
    """Guidance by the labels whose names are those of a model's classes, whichever model it will be.

    Where that comes to none, labels that both labelmaps hold guide the refinement.

    Args:
        fixed_labels: labelmap on the fixed grid, or None.
        moving_labels: the same for the moving image.
        names: by label value; None means that the values are those of the dataset that the model was trained on.
    """

    def classes(card: ModelCard) -> Mapping[int, int]:
        if names is not None:
            return classes_by_name(card, names)
        maps = [labels for labels in (fixed_labels, moving_labels) if labels is not None]
        return classes_by_value(card, {int(value) for labels in maps for value in np.unique(labels.array)})

    return Guidance(fixed=fixed_labels, moving=moving_labels, classes=classes, names=names or {})


def require_guidable(model: str, *, sides: int) -> None:
    """Refuse guidance that cannot come about, before any image is read; a model that is chosen later may do.

    Args:
        model: as chosen.
        sides: how many of the two images have labels.

    Raises:
        InputError: ``guidance-invalid``.
        ModelError: if the model is unknown or damaged.
    """
    if sides == 0:
        raise _invalid(
            "There is no segmentation to guide by.",
            "Give --fixed-labels, --moving-labels or both, or leave out --guide.",
        )
    if model == AUTOMATIC_MODEL or sides == 2:
        return
    card = None if model == NO_MODEL else catalog.find(model).card
    if not can_be_guided(card):
        reason = "Without a model" if card is None else f"With the model {card.name}"
        raise _invalid(
            f"{reason} the labels of one image alone cannot guide.",
            "Give the labels of both images, or choose a model that segments them with --model.",
        )


def require_a_match(model: str, guidance: Guidance, names_from: Path | None) -> None:
    """Refuse guidance in which no label means a class of the model or is in both images, where that is known already.

    Raises:
        InputError: ``guidance-invalid``.
    """
    card = None if model in (NO_MODEL, AUTOMATIC_MODEL) else catalog.find(model).card
    if guidance.for_refinement().class_of:
        return
    if card is None or not can_be_guided(card):
        if model != AUTOMATIC_MODEL:
            raise _invalid(
                "No label value occurs in both labelmaps.", "Give equal values to what shall lie on each other."
            )
        return
    known_guidance = guidance.for_card(card)
    if any(known_guidance.used_classes(labels) for labels in (guidance.fixed, guidance.moving)):
        return
    known = ", ".join(class_names(card).values()) or "unnamed"
    if names_from is None:
        raise _invalid(
            f"No label value is one that the card of {card.name} tells for its classes ({known}).",
            "Name the values of your labels with --label-names FILE.csv (columns value,name).",
        )
    raise _invalid(
        f"No label that occurs has, in {names_from}, the name of a class of {card.name} ({known}).",
        "Give the labels the names of these classes.",
    )


def require_purpose(names_from: Path | None) -> None:
    """Refuse names of labels where nothing is guided.

    Raises:
        InputError: ``guidance-invalid``.
    """
    if names_from is not None:
        raise _invalid("--label-names serves --guide only, which is not given.", "Add --guide, or leave it out.")


def read_label_names(path: Path) -> dict[int, str]:
    """Names by label value from a table with the columns ``value`` and ``name``.

    Raises:
        FileError: ``file-not-found`` or ``table-invalid``.
    """
    names: dict[int, str] = {}
    for number, row in enumerate(read_table(path, (("value", "label"), ("name",))), start=1):
        value = whole_number(row["value"], path, number)
        if value in names:
            raise table_invalid(path, f"the value {value} stands there twice")
        names[value] = row["name"]
    return names


def _invalid(text: str, hint: str) -> InputError:
    return InputError("guidance-invalid", text, hint)
