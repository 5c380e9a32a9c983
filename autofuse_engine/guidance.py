"""Segmentations that guide a registration: whether a model or the refinement can use them, and their working grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autofuse_engine import catalog
from autofuse_engine.class_names import can_be_guided, class_names
from autofuse_engine.configs import NO_MODEL, RegistrationConfig
from autofuse_engine.data.checks import check_labelmap
from autofuse_engine.data.preprocessing import Grid
from autofuse_engine.data.resample import resample_labels
from autofuse_engine.data.transform import MatrixStep, SpatialTransform
from autofuse_engine.data.volume import Volume
from autofuse_engine.events import Report, Warning
from autofuse_engine.model_card import ModelCard
from autofuse_engine.networks.segmentation import GivenClasses

ClassesOf = Callable[[ModelCard], Mapping[int, int]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Guidance:
    """Labelmaps that tell a semi-supervised model where some of its classes are, or the refinement what lies on what.

    A class counts as given for an image where its labelmap holds at least one voxel of it: then the model takes it to
    be there and nowhere else, and so does the refinement. All other classes stay what the model predicts. Where no
    model knows the labels, those that both labelmaps hold guide the refinement alone.

    Attributes:
        fixed: labelmap on the fixed image's grid, or None.
        moving: labelmap on the moving image's grid, or None; each side does without the other.
        classes: class of the model, above 0, by label value; several values may mean one class. Other values of the
            labelmaps say nothing. Or a function that tells them for the card of the model, which may be chosen later.
        names: by label value, for the report; others are called by their value.
        of_model: whether classes are those of a model; :func:`usable_guidance` settles it.

    Raises:
        ValueError: if a label value or a class is not a whole number above 0.
    """

    fixed: Volume | None = None
    moving: Volume | None = None
    classes: Mapping[int, int] | ClassesOf = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    of_model: bool = True

    def __post_init__(self) -> None:
        for label, number in ({} if callable(self.classes) else self.classes).items():
            if type(label) is not int or type(number) is not int or min(label, number) < 1:
                raise ValueError(f"classes are whole numbers above 0 by such, received {label!r}: {number!r}")

    @property
    def class_of(self) -> Mapping[int, int]:
        """Class by label value.

        Raises:
            ValueError: if that depends on a card, see :meth:`for_card`.
        """
        if callable(self.classes):
            raise ValueError("the classes of this guidance depend on a model's card, which is not known yet")
        return self.classes

    def for_card(self, card: ModelCard) -> Guidance:
        """The same guidance with the classes of a model."""
        return replace(self, classes=self.classes(card)) if callable(self.classes) else self

    def for_refinement(self) -> Guidance:
        """The same labelmaps, with a class of its own for each label value that both of them hold."""
        values: set[int] = set()
        if self.fixed is not None and self.moving is not None:
            both = np.intersect1d(np.unique(self.fixed.array), np.unique(self.moving.array)).astype(np.int64)
            values = set(both[both > 0].tolist())
        numbered = {value: number for number, value in enumerate(sorted(values), start=1)}
        return replace(self, classes=numbered, of_model=False)

    def check(self, fixed: Volume, moving: Volume) -> None:
        """Require integer labelmaps on the grids of the images.

        Raises:
            InputError: ``labels-not-integer``, ``labels-grid-differs`` or ``labels-empty``.
        """
        for labels, image, side in ((self.fixed, fixed, "fixed"), (self.moving, moving, "moving")):
            if labels is not None:
                check_labelmap(labels, image, f"{side} labelmap that guides")

    def on_grid(self, grid: Grid, moving_from_fixed_ras: NDArray[np.float64]) -> GivenOnGrid:
        """Both labelmaps on the working grid, nearest voxel; the moving one through the initial alignment.

        Args:
            grid: the working grid, in the fixed image's place.
            moving_from_fixed_ras: 4x4, RAS mm.
        """
        return GivenOnGrid(
            fixed=self._given(self.fixed, grid, np.eye(4)),
            moving=self._given(self.moving, grid, moving_from_fixed_ras),
        )

    def used_classes(self, labels: Volume | None) -> tuple[int, ...]:
        """The classes that a labelmap gives, in their order."""
        return () if labels is None else tuple(sorted({self.class_of[value] for value in self._used_values(labels)}))

    def report(self, card_names: Mapping[int, str]) -> dict[str, Any]:
        """What the report of a registration says: names of classes, their label values, and the sides given."""
        if not self.of_model:
            card_names = {number: self.names.get(value, f"label {value}") for value, number in self.class_of.items()}
        sides = {"fixed": self.used_classes(self.fixed), "moving": self.used_classes(self.moving)}
        used = sorted({*sides["fixed"], *sides["moving"]})
        return {
            "classes": [card_names.get(number, f"class {number}") for number in used],
            "labels": sorted(value for value, number in self.class_of.items() if number in used),
            **{side: bool(classes) for side, classes in sides.items()},
        }

    def _used_values(self, labels: Volume) -> list[int]:
        return [value for value in np.unique(labels.array).astype(np.int64).tolist() if value in self.class_of]

    def _given(self, labels: Volume | None, grid: Grid, labels_from_grid_ras: NDArray) -> GivenClasses | None:
        if labels is None or not (used := self.used_classes(labels)):
            return None
        values, places = np.unique(labels.array, return_inverse=True)
        of_place = np.array([self.class_of.get(int(value), 0) for value in values], np.int32)
        classes = labels.with_array(of_place[places].reshape(labels.shape))
        transform = SpatialTransform(steps=(MatrixStep(matrix_ras=labels_from_grid_ras),))
        work = Volume(array=np.zeros(grid.shape, np.uint8), ras_from_ijk=grid.ras_from_ijk, name="working grid")
        array = resample_labels(classes, transform, work, nearest=True).array
        return GivenClasses(labels=torch.from_numpy(np.ascontiguousarray(array))[None, None], classes=used)


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenOnGrid:
    """Given classes of both images on the working grid, ``(1, 1, D, H, W)`` each, or None."""

    fixed: GivenClasses | None
    moving: GivenClasses | None


def usable_guidance(
    guidance: Guidance | None, config: RegistrationConfig, report: Report
) -> tuple[Guidance | None, dict[str, Any] | None]:
    """The guidance as the model or the refinement of a registration can use it, with what the report says of it.

    Labels that mean classes of a model which can be guided are given to it. Otherwise labels that both labelmaps hold
    guide the refinement alone. Where neither can be, a warning ``guidance-unused`` says why, and the result is
    ``(None, None)``.

    Args:
        guidance: as the caller gave it.
        config: names the model.
        report: receives the warning.

    Raises:
        ModelError: if the model is unknown or damaged.
    """
    if guidance is None:
        return None, None
    card = None if config.model == NO_MODEL else catalog.find(config.model).card
    reason = "no model segments"
    if card is not None and can_be_guided(card):
        for_model = guidance.for_card(card)
        if beyond := [number for number in for_model.class_of.values() if number >= card.network.classes]:
            raise ValueError(f"classes of {card.name} lie in 1..{card.network.classes - 1}, received {beyond}")
        if (facts := for_model.report(class_names(card)))["classes"]:
            return for_model, facts
        known = ", ".join(class_names(card).values()) or "not named on its card"
        reason = f"no label means a class of the model {card.name} ({known})"
    elif card is not None:
        reason = f"the model {card.name} does not " + (
            "show its segmentations to the path that registers" if card.network.classes else "segment"
        )
    for_refinement = guidance.for_refinement()
    if not _refines(config, card) or config.label_weight == 0:
        reason += ", and no refinement heeds labels"
    elif not for_refinement.class_of:
        reason += ", and no label is in both segmentations"
    else:
        return for_refinement, for_refinement.report({})
    report(Warning(code="guidance-unused", text=f"The segmentations do not guide the registration: {reason}."))
    return None, None


def _refines(config: RegistrationConfig, card: ModelCard | None) -> bool:
    stated = config.refinement_steps
    if stated is None and card is not None:
        stated = card.refinement_steps
    return stated != 0
