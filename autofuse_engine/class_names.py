"""What the classes of a semi-supervised model are called, and which of somebody's labels mean the same.

Standard library only: 3D Slicer asks here before any worker runs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autofuse_engine.model_card import ModelCard

_APOSTROPHES = str.maketrans("", "", "'’`")


def can_be_guided(card: ModelCard | None) -> bool:
    """Whether given segmentations reach the pair path of the model."""
    return card is not None and card.network.classes > 0 and card.network.input_fusion


def class_names(card: ModelCard) -> dict[int, str]:
    """Names of the model's classes above background, by class; empty where the card does not tell them."""
    return {entry.value: entry.name for entry in _classes(card) if plain(entry.name)}


def classes_by_name(card: ModelCard, names: Mapping[int, str]) -> dict[int, int]:
    """The class of the model for each label value whose name is that of a class.

    Names are compared as :func:`plain` writes them. A name that two classes of the model share matches neither.

    Args:
        card: of the model.
        names: by label value.
    """
    found: dict[str, list[int]] = {}
    for number, name in class_names(card).items():
        found.setdefault(plain(name), []).append(number)
    of_name = {name: numbers[0] for name, numbers in found.items() if len(numbers) == 1}
    return {value: of_name[plain(name)] for value, name in names.items() if value > 0 and plain(name) in of_name}


def classes_by_value(card: ModelCard, values: Iterable[int]) -> dict[int, int]:
    """The class of the model for each label value that meant a class in the labelmaps of its training dataset.

    Empty where the card does not tell these values, as older cards do not.
    """
    of_label = {label: entry.value for entry in _classes(card) for label in entry.labels}
    return {value: of_label[value] for value in values if value in of_label}


def plain(name: str) -> str:
    """A name without case, accents' encoding, punctuation, underscores and repeated or surrounding spaces."""
    folded = unicodedata.normalize("NFKC", name).casefold().translate(_APOSTROPHES)
    return re.sub(r"[\W_]+", " ", folded).strip()


@dataclass(frozen=True)
class _Class:
    value: int
    name: str
    labels: tuple[int, ...]


def _classes(card: ModelCard) -> list[_Class]:
    """The entries of ``training["classes"]`` that can be understood; reading a card does not check them."""
    entries = card.training.get("classes")
    found = []
    for entry in entries if isinstance(entries, (list, tuple)) else ():
        value, name = (entry.get("value"), entry.get("name")) if isinstance(entry, Mapping) else (None, None)
        if type(value) is int and 0 < value < card.network.classes and isinstance(name, str):
            labels = entry.get("labels")
            numbers = labels if isinstance(labels, (list, tuple)) else ()
            found.append(_Class(value, name.strip(), tuple(item for item in numbers if type(item) is int and item > 0)))
    return found
