"""The paper's training schedules by name (AutoFuse paper, section 4.3), for brains and hearts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autofuse_engine.configs import NetworkConfig
from autofuse_engine.training_configs import Stage, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A schedule, and whether its network learns from labels."""

    description: str
    stages: tuple[Stage, ...]
    semi_supervised: bool


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
    return TrainingConfig(dataset=dataset, network=network, stages=chosen.stages)
