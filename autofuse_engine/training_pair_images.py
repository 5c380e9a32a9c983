"""What a training step sees of two cases: moved, disturbed, synthesised; a function of seed and step alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autofuse_engine.data.augmentation import ImageChange, draw_change
from autofuse_engine.data.image_changes import disturb, move_image, move_labels
from autofuse_engine.data.synthesis import (
    Contrast,
    Synthesis,
    draw_synthesis,
    in_contrast,
    shape_maps,
    synthesise,
)
from autofuse_engine.networks.segmentation import GivenClasses
from autofuse_engine.training_configs import TrainingConfig

_SHAPES = ("shapes", "shapes")
_SAME = ImageChange()


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingPair:
    """Two images as the network sees them, and what the loss knows of them.

    Attributes:
        fixed: ``(1, 1, D, H, W)`` in [0, 1].
        moving: likewise.
        fixed_labels: classes ``(1, 1, D, H, W)``, int64, where known.
        moving_labels: likewise.
        noise_seed: of the velocity's noise.
        names: of the cases.
        compared: the images as they were before their looks were disturbed, which the loss compares; None: as seen.
        compares_images: False where the two show different contrasts.
        overlap_labels: ``(N,)``, the classes whose overlap counts at this step, or None.
        given: classes of the fixed and the moving image that are told to the network instead of its own map of them.
    """

    fixed: Tensor
    moving: Tensor
    fixed_labels: Tensor | None
    moving_labels: Tensor | None
    noise_seed: int
    names: tuple[str, str]
    compared: tuple[Tensor, Tensor] | None = None
    compares_images: bool = True
    overlap_labels: Tensor | None = None
    given: tuple[GivenClasses | None, GivenClasses | None] = (None, None)


def seed_of(*parts: int | str) -> int:
    """A seed of 62 bits from numbers and names; different ones are as good as independent."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode("ascii"), digest_size=8).digest(), "little") >> 2


Labels = tuple[Tensor | None, Tensor | None]


@dataclass(frozen=True, kw_only=True)
class PairMaker:
    """Makes the pair of a step.

    Attributes:
        config: of the run.
        spacing_mm: along D, H, W.
        labels: number of labels of the dataset, background left out; 0 where they are not used.
    """

    config: TrainingConfig
    spacing_mm: tuple[float, float, float]
    labels: int

    def make(
        self, images: tuple[Tensor, Tensor], labels: Labels, names: tuple[str, str], step: int, number: int
    ) -> TrainingPair:
        """The pair ``number`` of a step; images are ``(1, 1, D, H, W)`` in [0, 1], labels classes of that shape."""
        config = self.config
        depth, height, width = images[0].shape[2:]
        shape = (depth, height, width)

        def seed(what: str) -> int:
            return seed_of(config.seed, step, number, what)

        change = draw_change(config.augmentation, shape, self.spacing_mm, seed("augmentation"))
        changes = (_SAME, _SAME) if change is None else (change.fixed, change.moving)
        flips = () if change is None else change.flips
        synthesis = None
        if config.synthesis is not None and labels[0] is not None and labels[1] is not None:
            synthesis = draw_synthesis(config.synthesis, self.labels, shape, seed("synthesis"))
        if synthesis is not None and synthesis.shapes is not None:
            maps = shape_maps(synthesis.shapes, self._shape_labels(), shape, images[0].device)
            images, labels, names = (maps[0].float(), maps[1].float()), maps, _SHAPES
        clean = tuple(move_image(image, one) for image, one in zip(images, changes, strict=True))
        moved = tuple(None if one is None else move_labels(one, how) for one, how in zip(labels, changes, strict=True))
        shown = self._shown(clean, moved, synthesis)
        seen = [disturb(image, one).flip(flips) for image, one in zip(shown, changes, strict=True)]
        known = [None if one is None else one.flip(flips) for one in moved]
        compares = synthesis is None or (config.synthesis is not None and config.synthesis.similarity)
        compares = compares and (synthesis is None or synthesis.shapes is None)
        return TrainingPair(
            fixed=seen[0],
            moving=seen[1],
            fixed_labels=known[0],
            moving_labels=known[1],
            noise_seed=seed("velocity"),
            names=names,
            compared=(clean[0].flip(flips), clean[1].flip(flips)),
            compares_images=compares,
            overlap_labels=self._overlap_labels(synthesis, seed("labels")),
            given=self._given(known, seed("guidance")),
        )

    def _given(self, labels: list[Tensor | None], seed: int) -> tuple[GivenClasses | None, GivenClasses | None]:
        """In a share of the steps: some or all classes of one image or of both, as a user would give them."""
        random = np.random.default_rng(seed)
        if random.random() * 100 >= self.config.guided_percent:
            return None, None
        sides = ((True, True), (True, False), (False, True))[random.integers(3)]
        count = self.labels if random.random() < 0.5 else int(random.integers(1, self.labels + 1))
        classes = 1 + random.permutation(self.labels)[:count]

        def told(one: Tensor | None, side: bool) -> GivenClasses | None:
            if one is None or not side:
                return None
            chosen = torch.isin(one, torch.from_numpy(classes).to(one.device))
            return GivenClasses(labels=torch.where(chosen, one, 0), classes=tuple(classes.tolist()))

        return told(labels[0], sides[0]), told(labels[1], sides[1])

    def _shown(
        self, clean: tuple[Tensor, ...], labels: tuple[Tensor | None, ...], synthesis: Synthesis | None
    ) -> list[Tensor]:
        """The images before their looks are disturbed: as they are, or synthesised from the labels."""
        if synthesis is None:
            return list(clean)
        count = self.labels if synthesis.shapes is None else self._shape_labels() - 1

        def made(image: Tensor, classes: Tensor | None, contrast: Contrast | None) -> Tensor:
            if classes is None or contrast is None:
                return image
            return synthesise(classes, contrast) if synthesis.shapes else in_contrast(image, classes, contrast, count)

        contrasts = (synthesis.fixed, synthesis.moving)
        return [made(*one) for one in zip(clean, labels, contrasts, strict=True)]

    def _shape_labels(self) -> int:
        return 0 if self.config.synthesis is None else self.config.synthesis.shape_labels

    def _overlap_labels(self, synthesis: Synthesis | None, seed: int) -> Tensor | None:
        """Labels of a step, drawn anew each time."""
        if self.config.losses.label_overlap == 0:
            return None
        shapes = synthesis is not None and synthesis.shapes is not None
        count = self._shape_labels() - 1 if shapes else self.labels
        chosen = 1 + np.random.default_rng(seed).permutation(count)[: self.config.losses.labels_a_step]
        return torch.from_numpy(chosen)
