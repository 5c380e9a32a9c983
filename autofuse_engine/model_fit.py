"""Whether a model knows such images, by its card, and which of the models at hand suits a pair best.

Standard library only, so that 3D Slicer's own process can ask. Nothing here proves that a model works: it finds images
that lie outside of what the model was trained on, by what can be measured before the registration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autofuse_engine.catalog import CatalogEntry
from autofuse_engine.configs import NO_MODEL
from autofuse_engine.image_facts import ImageFacts, intensity_names
from autofuse_engine.model_card import ModelCard
from autofuse_engine.model_words import body_parts, contradicts_body_part, contradicts_modality, modalities

SPACING_FAR, SIZE_UNUSUAL, INTENSITY_UNUSUAL = "model-spacing-far", "model-size-unusual", "model-intensity-unusual"
LABELS_DISAGREE = "labels-disagree"
"""What a model sees in both images does not go together; known only when it has looked."""
CONTRAST_TRANSFERRED = "contrast-transferred"
"""One image was searched in the contrast of the other."""
DOUBT_CODES = (SPACING_FAR, SIZE_UNUSUAL, INTENSITY_UNUSUAL)
_OF_CONTRAST = (SPACING_FAR, INTENSITY_UNUSUAL)
"""What need not be known of an image of another contrast, which the model is not asked about: scans of that are often
of another spacing too."""

_FINER, _COARSER = 4.0, 1.6
_SIZE_FACTOR = 1.4
_FILLED_SHARE, _EMPTIER_SHARE = 0.95, 0.7
_INTENSITY_SHARE, _INTENSITY_MARGIN = 0.5, 0.04
_CURE = "Register with the model 'none', or choose a model that was trained on such images."


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """Why a model may not know an image: a code for programs, and a sentence with what was measured and the cure."""

    code: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which model an automatic choice came to, ``none`` included, and why, in one sentence."""

    model: str
    reason: str


def doubts(card: ModelCard, image: ImageFacts) -> tuple[Doubt, ...]:
    """What speaks against using a model on an image; empty where nothing does, or where the card says too little.

    Args:
        card: of the model.
        image: facts that were not measured are not judged.
    """
    found = (_spacing_doubt(card, image), _size_doubt(card, image), _intensity_doubt(card, image))
    return tuple(doubt for doubt in found if doubt is not None)


def doubts_of_pair(card: ModelCard, fixed: ImageFacts, moving: ImageFacts) -> tuple[Doubt, ...]:
    """The doubts of both images; those of one image's contrast are none where the model can do with the other alone.

    Args:
        card: of the model.
        fixed: see :func:`doubts`.
        moving: likewise.
    """
    images = (fixed, moving)
    found = [doubts(card, image) for image in images]
    strange = [_of_another_contrast(card, image, of_image) for image, of_image in zip(images, found, strict=True)]
    if card.shows_contrasts and sum(strange) == 1:
        found = [
            tuple(doubt for doubt in of_image if not other or doubt.code not in _OF_CONTRAST)
            for of_image, other in zip(found, strange, strict=True)
        ]
    return tuple(doubt for of_image in found for doubt in of_image)


def spacing_range_mm(card: ModelCard) -> tuple[float, float] | None:
    """Finest and coarsest voxel axis of images for a model: what its card says, else a quarter of the finest and 1.6
    times the coarsest that it was trained on; None where the card says nothing."""
    if card.intended_use.spacing_range_mm is not None:
        return card.intended_use.spacing_range_mm
    if card.training_range is None:
        return None
    working, seen = card.preprocessing.spacing_mm, card.training_range.spacing_mm
    return min(*working, seen[0]) / _FINER, max(*working, seen[-1]) * _COARSER


def choose(
    entries: Sequence[CatalogEntry],
    facts: Callable[[ModelCard], Sequence[ImageFacts]],
    *,
    one_modality: bool = True,
) -> Choice:
    """The model that suits all images of a pair best, or none.

    Only a card with a training range can be judged. A model is left out where something speaks against it for one of
    the images, or where a name tells of another body part or modality; but one that can show the image which it knows
    in the contrast of the other need not know the contrast of both. Of several, the one whose body part and
    modality the names tell comes first, then one made for a modality before one made for any, then that with the
    closest foreground volume and spacing, then the name.

    Args:
        entries: the models at hand.
        facts: gives those of the fixed and the moving image, with intensities as the model maps them.
        one_modality: False where the images are compared across modalities: then only models for ``any`` count, and
            those that show one image in the contrast of the other.
    """
    judged = [entry for entry in entries if entry.card is not None and entry.card.training_range is not None]
    if not entries:
        return Choice(model=NO_MODEL, reason="no model is installed")
    if not judged:
        return Choice(model=NO_MODEL, reason="no installed model says which images it knows")
    reasons: list[str] = []
    fitting: list[tuple[tuple[float, bool, float, str], str]] = []
    for entry in judged:
        card = entry.card
        if card is None:
            continue
        images = facts(card)
        if reason := _against(card, images, one_modality):
            reasons.append(f"{entry.name}: {reason}")
            continue
        reason = _reason_for(card, images)
        fitting.append(((*_order(card, images), entry.name), reason))
    if not fitting:
        return Choice(model=NO_MODEL, reason=f"no installed model fits ({'; '.join(reasons)})")
    (*_, name), reason = min(fitting)
    return Choice(model=name, reason=reason)


def _reason_for(card: ModelCard, images: Sequence[ImageFacts]) -> str:
    measured = all(image.intensities is not None for image in images) and not _any_modality(card)
    knows = "spacing, size and intensities" if measured else "spacing and size"
    about = " ".join(word for word in (card.intended_use.modality, card.intended_use.body_part) if word)
    others = [image.name for image in images if _of_another_contrast(card, image, doubts(card, image))]
    but = f", but for the contrast of {others[0]}" if others else ""
    return f"{knows} are like those of its training{f' ({about})' if about else ''}{but}"


def _of_another_contrast(card: ModelCard, image: ImageFacts, found: Sequence[Doubt]) -> bool:
    """Whether its name or its intensities tell of another contrast than the model's."""
    told = contradicts_modality(image.name, card.intended_use.modality)
    return told or any(doubt.code == INTENSITY_UNUSUAL for doubt in found)


def _against(card: ModelCard, images: Sequence[ImageFacts], one_modality: bool) -> str:
    """The first reason against a model in some words; empty where there is none."""
    if not one_modality and not _any_modality(card) and not card.shows_contrasts:
        return "made for pairs of one modality"
    found = [doubts(card, image) for image in images]
    strange = [_of_another_contrast(card, image, of_image) for image, of_image in zip(images, found, strict=True)]
    may_differ = card.shows_contrasts and sum(strange) == 1 < len(images)
    for image, of_image, other in zip(images, found, strange, strict=True):
        if contradicts_body_part(image.name, card.intended_use.body_part):
            return f"the name {image.name} tells of {' and '.join(sorted(body_parts(image.name)))}"
        if contradicts_modality(image.name, card.intended_use.modality) and not may_differ:
            return f"the name {image.name} tells of {' and '.join(sorted(modalities(image.name)))}"
        for doubt in of_image:
            if not (may_differ and other and doubt.code in _OF_CONTRAST):
                return _SHORT[doubt.code]
    return ""


_SHORT = {
    SPACING_FAR: "trained at other spacings",
    SIZE_UNUSUAL: "trained on images of another size",
    INTENSITY_UNUSUAL: "trained on other intensities",
}


def _any_modality(card: ModelCard) -> bool:
    return card.intended_use.modality.lower() == "any"


def _order(card: ModelCard, images: Sequence[ImageFacts]) -> tuple[float, bool, float]:
    """Smaller is better."""
    use, known = card.intended_use, card.training_range
    told = sum(bool(body_parts(image.name) & body_parts(use.body_part)) for image in images)
    told += sum(bool(modalities(image.name) & modalities(use.modality)) for image in images)
    middle = 1.0 if known is None else max(known.foreground_ml[2], 1e-6)
    volumes = [image.field_of_view_ml if image.foreground_ml is None else image.foreground_ml for image in images]
    volume = max(abs(math.log(max(value, 1e-6) / middle)) for value in volumes)
    working = math.prod(card.preprocessing.spacing_mm)
    spacing = max(abs(math.log(math.prod(image.spacing_mm) / working)) / 3 for image in images)
    return -float(told), _any_modality(card), round(volume + spacing, 6)


def _spacing_doubt(card: ModelCard, image: ImageFacts) -> Doubt | None:
    limits = spacing_range_mm(card)
    if limits is None:
        return None
    low, high = limits
    finest, coarsest = min(image.spacing_mm), max(image.spacing_mm)
    if finest >= low * 0.99 and coarsest <= high * 1.01:
        return None
    measured = " x ".join(f"{side:.3g}" for side in image.spacing_mm)
    text = (
        f"The voxels of {image.name} measure {measured} mm; the model {card.name} is made for {low:.2g} to {high:.2g} "
        f"mm. {_CURE}"
    )
    return Doubt(code=SPACING_FAR, text=text)


def _size_doubt(card: ModelCard, image: ImageFacts) -> Doubt | None:
    known = card.training_range
    if known is None:
        return None
    low, high = known.foreground_ml[0], known.foreground_ml[-1]
    crops = known.foreground_share[1] >= _FILLED_SHARE
    volume, what = image.foreground_ml, "shows"
    if volume is None:
        volume, what = image.field_of_view_ml, "covers"
    too_large = volume > high * _SIZE_FACTOR and (what == "shows" or crops)
    text = ""
    if too_large or volume < low / _SIZE_FACTOR:
        text = f"{image.name} {what} {_ml(volume)}; the model {card.name} was trained on {_ml(low)} to {_ml(high)}."
    elif crops and image.foreground_share is not None and image.foreground_share < _EMPTIER_SHARE:
        text = (
            f"{round(100 * (1 - image.foreground_share))} % of {image.name} is background; the model {card.name} was "
            "trained on crops without background."
        )
    elif image.foreground_share is not None and image.foreground_share > max(
        _FILLED_SHARE, (1 + known.foreground_share[-1]) / 2
    ):
        text = f"{image.name} has no background around it; the model {card.name} was trained on images that have some."
    return Doubt(code=SIZE_UNUSUAL, text=f"{text} {_CURE}") if text else None


def _intensity_doubt(card: ModelCard, image: ImageFacts) -> Doubt | None:
    known = card.training_range
    if known is None or image.intensities is None or _any_modality(card):
        return None
    worst, text = 0.0, ""
    for name in intensity_names():
        value, spread = image.intensities[name], known.intensities[name]
        margin = _INTENSITY_SHARE * (spread[-1] - spread[0]) + _INTENSITY_MARGIN
        beyond = max(spread[0] - margin - value, value - spread[-1] - margin)
        if beyond > worst:
            worst = beyond
            text = (
                f"The intensities of {image.name} are spread unusually ({_INTENSITY_WORDS.get(name) or name} "
                f"{value:.2f}; the model {card.name} was trained on {spread[0]:.2f} to {spread[-1]:.2f}): another "
                f"modality or sequence, or something else in the picture. {_CURE}"
            )
    return Doubt(code=INTENSITY_UNUSUAL, text=text) if text else None


_INTENSITY_WORDS = {"mean": "mean", "sd": "standard deviation", "p50": "median"} | {
    f"p{percent}": f"{percent}th percentile" for percent in (10, 25, 75, 90)
}


def _ml(volume: float) -> str:
    return f"{volume:,.0f} ml" if volume >= 10 else f"{volume:.2g} ml"
