"""What can be told of an image before it is registered, and how such facts spread over a model's training images.

Standard library only: 3D Slicer's own process knows spacing and field of view, ``data/image_measures.py`` measures all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autofuse_engine.configs import Config

INTENSITY_PERCENTILES = (10, 25, 50, 75, 90)
"""Of the foreground's intensities after normalisation: their histogram in five numbers."""

SPREAD_PERCENTILES = (0, 5, 50, 95, 100)
"""Of a fact over the training images."""


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """Facts of one image; None where they were not measured.

    Attributes:
        name: what messages call the image; words in it can tell modality and body part.
        spacing_mm: along i, j, k as stored; the order does not matter.
        field_of_view_mm: length of the image along the same axes.
        foreground_ml: volume of what differs from the image's border; all of it where the border shows anatomy too.
        foreground_share: the same as a share of the image, 0 to 1.
        intensities: of the foreground in [0, 1] as the model's preprocessing maps them: mean, standard deviation, and
            the :data:`INTENSITY_PERCENTILES`, by name; see :func:`intensity_names`.
    """

    name: str
    spacing_mm: tuple[float, float, float]
    field_of_view_mm: tuple[float, float, float]
    foreground_ml: float | None = None
    foreground_share: float | None = None
    intensities: Mapping[str, float] | None = None

    @property
    def field_of_view_ml(self) -> float:
        """Volume of the whole image."""
        return math.prod(self.field_of_view_mm) / 1000

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON; :meth:`from_dict` reads it back."""
        return {
            "name": self.name,
            "spacing_mm": list(self.spacing_mm),
            "field_of_view_mm": list(self.field_of_view_mm),
            "foreground_ml": self.foreground_ml,
            "foreground_share": self.foreground_share,
            "intensities": None if self.intensities is None else dict(self.intensities),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ImageFacts:
        """Read back what :meth:`to_dict` gave."""
        x, y, z = content["spacing_mm"]
        right, anterior, superior = content["field_of_view_mm"]
        values = {**content, "spacing_mm": (x, y, z), "field_of_view_mm": (right, anterior, superior)}
        return cls(**values)


def intensity_names() -> tuple[str, ...]:
    """Keys of :attr:`ImageFacts.intensities`."""
    return ("mean", "sd", *(f"p{percent}" for percent in INTENSITY_PERCENTILES))


@dataclass(frozen=True, kw_only=True)
class TrainingRange(Config):
    """How the facts spread over the images that a model was trained on: five numbers each, lowest to highest.

    The numbers are the :data:`SPREAD_PERCENTILES` over the training cases. ``cases`` counts cases by split;
    ``spacing_mm`` and ``field_of_view_mm`` count every axis of every image. ``label_shares`` are, by class number as
    text, the volumes of what the training labelmaps call so, over that of all classes together; empty where there are
    none.
    """

    cases: Mapping[str, int] = field(default_factory=dict)
    spacing_mm: tuple[float, ...]
    field_of_view_mm: tuple[float, ...]
    foreground_ml: tuple[float, ...]
    foreground_share: tuple[float, ...]
    intensities: Mapping[str, tuple[float, ...]]
    label_shares: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("cases", "intensities", "label_shares"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"{name} is a dictionary, received {getattr(self, name)!r}")
        for name in ("spacing_mm", "field_of_view_mm", "foreground_ml", "foreground_share"):
            object.__setattr__(self, name, _five(name, getattr(self, name)))
        strangers = set(self.intensities) ^ set(intensity_names())
        if strangers:
            raise ValueError(f"intensities are {', '.join(intensity_names())}, received {sorted(self.intensities)}")
        spreads = {name: _five(name, values) for name, values in self.intensities.items()}
        object.__setattr__(self, "intensities", spreads)
        if not all(name.isascii() and name.isdigit() for name in self.label_shares):
            raise ValueError(f"label_shares are by class number, received {sorted(self.label_shares)}")
        shares = {name: _five(f"label {name}", values) for name, values in self.label_shares.items()}
        object.__setattr__(self, "label_shares", shares)

    @classmethod
    def of_images(cls, facts: Sequence[ImageFacts], cases: Mapping[str, int]) -> TrainingRange:
        """The spread over the images of the training cases; every fact was measured.

        Raises:
            ValueError: without any image, or if one was not measured.
        """
        if not facts:
            raise ValueError("a range needs at least one image")

        def spread(values: Iterable[float | None]) -> tuple[float, ...]:
            known = [value for value in values if value is not None]
            if len(known) < len(facts):
                raise ValueError("every image of a range is measured")
            return spread_of(known, 4)

        return cls(
            cases=dict(cases),
            spacing_mm=spread(side for image in facts for side in image.spacing_mm),
            field_of_view_mm=spread(side for image in facts for side in image.field_of_view_mm),
            foreground_ml=spread(image.foreground_ml for image in facts),
            foreground_share=spread(image.foreground_share for image in facts),
            intensities={
                name: spread(None if image.intensities is None else image.intensities[name] for image in facts)
                for name in intensity_names()
            },
        )


def spread_of(values: Sequence[float], decimals: int) -> tuple[float, ...]:
    """The :data:`SPREAD_PERCENTILES` of at least one value."""
    return tuple(round(_percentile(values, percent), decimals) for percent in SPREAD_PERCENTILES)


def _percentile(values: Sequence[float], percent: float) -> float:
    """With linear interpolation between the sorted values."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _five(name: str, values: Any) -> tuple[float, ...]:
    good = isinstance(values, (list, tuple)) and len(values) == len(SPREAD_PERCENTILES)
    numbers = list(values) if good else []
    good = good and all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in numbers)
    if not good or not all(math.isfinite(item) for item in numbers) or sorted(numbers) != numbers:
        raise ValueError(f"{name} has five numbers that do not fall, received {values!r}")
    return tuple(float(item) for item in numbers)
