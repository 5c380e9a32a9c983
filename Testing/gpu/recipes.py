"""How each model that ships is trained: one configuration a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autofuse_engine.augmentation_configs import AugmentationConfig, SynthesisConfig
from autofuse_engine.configs import NetworkConfig
from autofuse_engine.training_configs import LossConfig, Stage, TrainingConfig

BRAIN_CHANGES = AugmentationConfig(
    rotation_degrees=3, scaling=0.03, shear=0.01, translation_vox=1, pose_rotation_degrees=12, pose_scaling=0.08,
    pose_translation_vox=3, gamma=0.3, bias=0.3, noise=0.03, slice_mm=4, rim_vox=1.5, crop=0.2, flips="W",
)  # fmt: skip
"""Of images at 2 mm. What the two images of a pair do not share is what an affine alignment leaves; the fixed image of
a user lies as it lies. Left and right labels are merged, so W may be mirrored."""
CROP_CHANGES = AugmentationConfig(
    rotation_degrees=8, scaling=0.08, translation_vox=2, gamma=0.3, bias=0.2, noise=0.03, slice_mm=3
)
"""Of a crop at 1 mm that has no background to strip or to lose."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A model and what its card says of it.

    Attributes:
        title: one line for people.
        modality: of the images that it is for.
        body_part: likewise.
        labels: whether the network segments, and so depends on the dataset's number of labels.
        values: of the configuration, but for dataset, device and what depends on them.
    """

    title: str
    modality: str
    body_part: str
    labels: bool
    values: Mapping[str, Any]


def _schedule(steps: int, pairs: str = "any") -> tuple[Stage, ...]:
    """Four fifths of the steps at the paper's learning rate, the rest at a fifth of it."""
    fast = max(1, steps * 4 // 5)
    return (
        Stage(steps=fast, pairs=pairs, learning_rate=1e-4),  # pyright: ignore[reportArgumentType]
        Stage(steps=max(1, steps - fast), pairs=pairs, learning_rate=2e-5),  # pyright: ignore[reportArgumentType]
    )


def _segmentation_first(steps: int) -> tuple[Stage, ...]:
    """A tenth of the steps teach the segmentation alone (decision 0134), at ten times the paper's learning rate."""
    first = Stage(steps=max(1, steps // 10), pairs="labelled", learning_rate=1e-3, learns="segmentation")
    return (first, *_schedule(steps - first.steps, "labelled"))


def _segmentation_alone(steps: int) -> tuple[Stage, ...]:
    """Of a model that lends labels (decision 0140): seven tenths of the steps at 1e-3, then two and one, slower."""
    rates = ((7, 1e-3), (2, 3e-4), (1, 1e-4))
    return tuple(
        Stage(steps=max(1, steps * tenths // 10), pairs="labelled", learning_rate=rate, learns="segmentation")
        for tenths, rate in rates
    )


RECIPES: Mapping[str, Recipe] = {
    "brain": Recipe(
        title="Brains, MR T1, unsupervised",
        modality="MR T1",
        body_part="brain",
        labels=False,
        values={
            "network": NetworkConfig(align_corners=False),
            "augmentation": BRAIN_CHANGES,
            "stages": _schedule(100_000),
        },
    ),
    "brain-semi": Recipe(
        title="Brains, MR T1, with segmentation",
        modality="MR T1",
        body_part="brain",
        labels=True,
        values={
            "network": NetworkConfig(align_corners=False, classes=2),
            "augmentation": BRAIN_CHANGES,
            "stages": _segmentation_first(60_000),
        },
    ),
    "brain-light": Recipe(
        title="Brains, MR T1, half the width",
        modality="MR T1",
        body_part="brain",
        labels=False,
        values={
            "network": NetworkConfig(align_corners=False, channels=8),
            "augmentation": BRAIN_CHANGES,
            "stages": _schedule(100_000),
        },
    ),
    "contrast": Recipe(
        title="Brains of any contrast",
        modality="any",
        body_part="brain",
        labels=False,
        values={
            "network": NetworkConfig(align_corners=False),
            "augmentation": BRAIN_CHANGES,
            "synthesis": SynthesisConfig(probability=0.9, shapes=0.2, mixed=0.3),
            "losses": LossConfig(label_overlap=1.0, labels_a_step=8),
            "stages": _schedule(100_000, "labelled"),
        },
    ),
    "contrast-labels": Recipe(
        title="Brains of any contrast, labels that guide",
        modality="any",
        body_part="brain",
        labels=True,
        values={
            "network": NetworkConfig(align_corners=False, channels=8, classes=2),
            "augmentation": BRAIN_CHANGES,
            "synthesis": SynthesisConfig(alike=0.6, remapped=0.4, mixed=0.2),
            "stages": _segmentation_alone(60_000),
        },
    ),
    "hippocampus": Recipe(
        title="Hippocampus, MR T1, with segmentation",
        modality="MR T1",
        body_part="hippocampus",
        labels=True,
        values={
            "network": NetworkConfig(align_corners=False, channels=8, classes=2),
            "losses": LossConfig(kl_smoothness=150),
            "augmentation": CROP_CHANGES,
            "stages": _segmentation_first(40_000),
        },
    ),
}


def recipe_config(name: str, dataset: str, labels: int, device: str) -> TrainingConfig:
    """The configuration of a model for one prepared dataset.

    Args:
        name: key of :data:`RECIPES`.
        dataset: folder of the prepared dataset.
        labels: number of its labels.
        device: ``cuda`` trains in bfloat16 with memory in the order of channels; others in float32.
    """
    recipe = RECIPES[name]
    values: dict[str, Any] = dict(recipe.values)
    if recipe.labels:
        values["network"] = NetworkConfig.from_dict(values["network"].to_dict() | {"classes": labels + 1})
    gpu = device.startswith("cuda")
    return TrainingConfig(
        dataset=dataset,
        device=device,
        precision="bfloat16" if gpu else "float32",
        channels_last=gpu,
        validation_every=5000,
        validation_pairs=12,
        validation_distances=False,
        checkpoint_minutes=5.0,
        **values,
    )
