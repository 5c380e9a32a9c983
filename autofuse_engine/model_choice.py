"""Settle which model a registration uses: the one that was named, or the best fitting one; and warn where it is new."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from autofuse_engine import catalog
from autofuse_engine.configs import AUTOMATIC_MODEL, NO_MODEL, RegistrationConfig
from autofuse_engine.data.image_measures import measure_image
from autofuse_engine.data.volume import Volume
from autofuse_engine.events import Progress, Report, Warning
from autofuse_engine.image_facts import ImageFacts
from autofuse_engine.model_card import ModelCard, Preprocessing
from autofuse_engine.model_fit import choose, doubts_of_pair


def settle_model(
    config: RegistrationConfig, fixed: Volume, moving: Volume, report: Report
) -> tuple[RegistrationConfig, dict[str, Any]]:
    """The configuration with the name of a model in place of ``auto``, and what the report says of the choice.

    Warns with the codes of :data:`~autofuse_engine.model_fit.DOUBT_CODES` where a model that was named does not know
    one of the images. A model that is chosen knows both, or all but the contrast of one.

    Args:
        config: as the user gave it.
        fixed: checked image.
        moving: checked image.
        report: receives warnings, and the choice as text.

    Returns:
        The configuration, and ``{"asked", "used", "reason"}``.

    Raises:
        ModelError: if the model that was named is unknown or damaged.
    """
    if config.model == NO_MODEL:
        return config, {"asked": NO_MODEL, "used": NO_MODEL, "reason": "chosen by the user"}
    images = _Measured(fixed, moving)
    if config.model == AUTOMATIC_MODEL:
        choice = choose(catalog.list_models(), images.by, one_modality=config.similarity != "mind")
        report(Progress(stage="check", fraction=0.5, text=f"model {choice.model}: {choice.reason}"))
        told = {"asked": AUTOMATIC_MODEL, "used": choice.model, "reason": choice.reason}
        passes = 1 if choice.model == NO_MODEL else config.passes
        if passes < config.passes:
            text = "No installed model fits both images, so there is none that could look at them again: passes is 1."
            report(Warning(code="passes-unused", text=text))
        return replace(config, model=choice.model, passes=passes), told
    card = catalog.find(config.model).card
    for doubt in () if card is None else doubts_of_pair(card, *images.by(card)):
        report(Warning(code=doubt.code, text=doubt.text))
    return config, {"asked": config.model, "used": config.model, "reason": "chosen by the user"}


class _Measured:
    """Facts of both images, measured once for each way of mapping intensities."""

    def __init__(self, fixed: Volume, moving: Volume) -> None:
        self._volumes = (fixed, moving)
        self._facts: dict[tuple[Any, ...], tuple[ImageFacts, ImageFacts]] = {}

    def by(self, card: ModelCard) -> tuple[ImageFacts, ImageFacts]:
        """The facts as the model sees them."""
        prepared: Preprocessing = card.preprocessing
        key = (prepared.intensity_percentiles, prepared.intensity_window)
        if key not in self._facts:
            fixed, moving = self._volumes
            self._facts[key] = measure_image(fixed, prepared), measure_image(moving, prepared)
        return self._facts[key]
