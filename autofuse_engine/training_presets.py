"""Training schedules by name: the paper's (section 4.3), for brains and hearts, and one for small budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autofuse_engine.configs import NetworkConfig
from autofuse_engine.training_configs import LossConfig, Stage, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A schedule, whether its network learns from labels, and the weights of the loss that go with it."""

    description: str
    stages: tuple[Stage, ...]
    semi_supervised: bool
    losses: LossConfig = field(default_factory=LossConfig)

    @property
    def learning_rate(self) -> float:
        """That of the first stage that learns everything; those of other stages are told as ratios to it."""
        return next(stage.learning_rate for stage in self.stages if stage.learns == "everything")


PRESETS: Mapping[str, Preset] = {
    "brain-unsupervised": Preset(
        description="images of different patients, no labels needed",
        stages=(Stage(steps=100_000, pairs="any"),),
        semi_supervised=False,
    ),
    "brain-semi": Preset(
        description="images of different patients, some with labels: first those alone, then all",
        stages=(Stage(steps=50_000, pairs="labelled"), Stage(steps=50_000, pairs="labelled+unlabelled")),
        semi_supervised=True,
    ),
    "cardiac-unsupervised": Preset(
        description="any two frames, then the two phases of one heart",
        stages=(Stage(steps=40_000, pairs="any"), Stage(steps=10_000, pairs="within-group")),
        semi_supervised=False,
    ),
    "cardiac-semi": Preset(
        description="any two frames, some with labels, then the two phases of one heart",
        stages=(Stage(steps=40_000, pairs="labelled+unlabelled"), Stage(steps=10_000, pairs="within-group")),
        semi_supervised=True,
    ),
    "short-semi": Preset(
        description="images of different patients with labels, for a small budget: first how to segment, then both",
        stages=(
            Stage(steps=1500, pairs="labelled", learning_rate=2e-3, learns="segmentation"),
            Stage(steps=800, pairs="labelled", learning_rate=4e-4, learns="segmentation"),
            Stage(steps=3000, pairs="labelled", learning_rate=4e-4),
            Stage(steps=1000, pairs="labelled", learning_rate=1e-4),
        ),
        semi_supervised=True,
        losses=LossConfig(kl_smoothness=150.0),  # with 50, short trainings sink below the alignment
    ),
}


def preset_config(name: str, dataset: str, labels: int = 0) -> TrainingConfig:
    """The configuration of a preset for one dataset.

    The geometry of the network's upsampling is the consistent one, see docs/decisions/0011.

    Args:
        name: key of :data:`PRESETS`.
        dataset: folder of the prepared dataset.
        labels: number of its labels, background left out; semi-supervised presets need at least one.

    Raises:
        ValueError: if the preset is unknown or lacks labels.
    """
    if name not in PRESETS:
        raise ValueError(f"a preset is one of {', '.join(PRESETS)}, received {name!r}")
    chosen = PRESETS[name]
    if chosen.semi_supervised and labels < 1:
        raise ValueError(f"the preset {name} needs a dataset with labels, received {labels} labels")
    classes = labels + 1 if chosen.semi_supervised else 0
    network = NetworkConfig(align_corners=False, classes=classes)
    return TrainingConfig(dataset=dataset, network=network, losses=chosen.losses, stages=chosen.stages)
