"""How long a reproduction will take: a short trial of each network, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autofuse_engine.data.label_groups import read_label_rules
from autofuse_engine.data.manifest import MANIFEST
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.errors import CancelledError
from autofuse_engine.events import Progress, Report, silent
from autofuse_engine.reproduction import dataset_folder, is_trained
from autofuse_engine.reproduction_folder import ReproductionFolder
from autofuse_engine.reproduction_plan import OTHER_METHODS, ReproductionConfig, Target, plan_runs, wanted_methods
from autofuse_engine.training_trial import Shape, try_training

USUAL_SIDES_MM: dict[Target, tuple[int, int, int]] = {"hippocampus": (48, 64, 48), "brain": (160, 192, 160)}
"""Axes D, H, W of the common grid, before a dataset is prepared and its own grid is known."""
_USUAL_SPACING_MM: dict[Target, float] = {"hippocampus": 1.0, "brain": 2.0}
_USUAL_LABELS: dict[Target, int] = {"hippocampus": 2, "brain": 36}
_MULTIPLE = 16
_BESIDE_STEPS = 1.15
"""Reading, validations and checkpoints, measured as a share of the steps."""


@dataclass(frozen=True, kw_only=True)
class RunEstimate:
    """One planned training.

    ``seconds_per_step`` and ``hours`` are None where a step does not fit into the memory; ``hours`` 0 where it is done.
    """

    name: str
    group: str
    channels: int
    parameters: int
    steps: int
    seconds_per_step: float | None
    hours: float | None
    memory_gib: float | None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The plan of a reproduction.

    ``shape`` in voxels is ``assumed`` where the dataset is not prepared yet; ``registrations`` are judged afterwards:
    each network alone and refined, and the other methods that were asked for, on every pair.
    """

    shape: Shape
    labels: int
    assumed: bool
    registrations: int
    runs: tuple[RunEstimate, ...]

    @property
    def hours(self) -> float:
        """Of all trainings that fit."""
        return sum(run.hours or 0.0 for run in self.runs)

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return {**asdict(self), "hours": self.hours}


def estimate(
    config: ReproductionConfig,
    out: str | Path,
    *,
    report: Report = silent,
    cancelled: Callable[[], bool] = lambda: False,
) -> Estimate:
    """Try each network for a few steps on noise of the size of the images; writes nothing.

    Args:
        config: of the reproduction.
        out: its folder, which need not exist; trainings that are finished there take no time.
        report: receives progress.
        cancelled: asked between steps.

    Raises:
        AutoFuseError: what :func:`plan_runs` and :func:`try_training` raise.
    """
    folder = ReproductionFolder(out)
    prepared = dataset_folder(config, folder)
    if (prepared / MANIFEST).is_file():
        dataset = PreparedDataset.open(prepared)
        shape, labels, assumed = dataset.shape, len(dataset.labels), False
    else:
        shape, labels, assumed = usual_shape(config), _usual_labels(config), True
    runs = plan_runs(config, str(prepared), labels)
    found = []
    for number, planned in enumerate(runs):
        if cancelled():
            raise CancelledError
        report(Progress(stage=f"trying {planned.name}", fraction=number / len(runs)))
        trial = try_training(planned.training, shape=shape, steps=1, cancelled=cancelled)
        steps, seconds = planned.training.steps, trial.seconds_per_step
        hours = None if seconds is None else steps * seconds * _BESIDE_STEPS / 3600
        found.append(
            RunEstimate(
                name=planned.name,
                group=planned.group,
                channels=planned.training.network.channels,
                parameters=trial.parameters,
                steps=steps,
                seconds_per_step=seconds,
                hours=0.0 if is_trained(planned, folder.run(planned.name)) else hours,
                memory_gib=trial.memory_gib,
            )
        )
    others = sum(name in OTHER_METHODS for name in wanted_methods(config))
    count = (2 * len(runs) + others) * config.pairs
    return Estimate(shape=shape, labels=labels, assumed=assumed, registrations=count, runs=tuple(found))


def usual_shape(config: ReproductionConfig) -> Shape:
    """Voxels (D, H, W) that the common grid of such a dataset usually has, multiples of 16."""
    spacing = config.size.spacing_mm or _USUAL_SPACING_MM[config.target]
    depth, height, width = (-(-side // (spacing * _MULTIPLE)) * _MULTIPLE for side in USUAL_SIDES_MM[config.target])
    return int(depth), int(height), int(width)


def _usual_labels(config: ReproductionConfig) -> int:
    if config.label_rules is None:
        return _USUAL_LABELS[config.target]
    return len({rule.new for rule in read_label_rules(config.label_rules)} - {0})
