"""A short trial before a training: seconds and memory of a step, and what would fit where the memory is too small.

Images of noise take the place of the dataset's: neither time nor memory depends on what they show.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.devices import resolve_device
from autofuse_engine.distributed import Processes
from autofuse_engine.errors import CancelledError
from autofuse_engine.events import Progress, Report, silent
from autofuse_engine.memory import free_memory_bytes, is_out_of_memory, peak_memory_bytes, reset_peak
from autofuse_engine.training_configs import TrainingConfig
from autofuse_engine.training_pair_images import TrainingPair
from autofuse_engine.training_step import Stepper, network_for_training

STAGE = "trial"
Shape = tuple[int, int, int]
_SMALL_VOXELS = 300_000
"""Larger images are tried on a part first, so that a step that cannot fit is foretold instead of attempted."""
_LEAST_SIDE = 32
_SHARE = 0.95
"""Of the free memory that a training may need."""
_ENOUGH_S = 20.0
_GIB = 2.0**30
_BYTES_A_PARAMETER = 16
"""Weight, gradient, and the two moments of Adam, float32."""


@dataclass(frozen=True, kw_only=True)
class TrainingTrial:
    """What a trial found.

    Attributes:
        device: where it ran.
        parameters: weights of the network.
        seconds_per_step: of a whole batch, in a stage that learns everything if there is one; None where a step does
            not fit.
        seconds_in_all: of all steps, those that learn the segmentation alone by what they take themselves; None
            likewise. Validations and checkpoints are left out.
        memory_gib: most that a step needs; None where the system does not tell.
        free_gib: what was free before; None likewise.
        measured: False where the memory was foretold from a part of the image.
        fits: whether the training can run as it is configured.
        remedy: fields of the configuration, as ``--set`` names them, with which it fits; empty where it fits already
            or where nothing of what was tried helps.
    """

    device: str
    parameters: int
    seconds_per_step: float | None
    seconds_in_all: float | None
    memory_gib: float | None
    free_gib: float | None
    measured: bool
    fits: bool
    remedy: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return asdict(self)


def try_training(
    config: TrainingConfig,
    *,
    shape: Shape | None = None,
    steps: int = 2,
    report: Report = silent,
    cancelled: Callable[[], bool] = lambda: False,
) -> TrainingTrial:
    """Take a few steps of a training, after one to warm up, and write nothing.

    Whether it fits is judged by a step that learns everything, where the schedule has any: those need most.

    Args:
        config: of the training.
        shape: of the images, (D, H, W); None opens the dataset for it.
        steps: at most so many are timed; a slow machine takes fewer.
        report: receives progress.
        cancelled: asked between steps.

    Raises:
        CancelledError: once ``cancelled()`` is true.
        AutoFuseError: if the dataset or the device cannot be used.
    """
    shape = PreparedDataset.open(config.dataset).shape if shape is None else shape
    device = resolve_device(config.device)
    free = free_memory_bytes(device)
    schedule, config = config, _heaviest(config)
    trial = _Trial(config, device, report, cancelled)
    small = _part_of(shape)
    foretold = trial.foretold(config, small, shape) if small != shape else None
    too_large = foretold is not None and free is not None and foretold > _SHARE * free
    measured = None if too_large else trial.measure(config, shape, steps)
    if measured is None:
        return trial.result(None, None, foretold, free, remedy=trial.remedy(small, shape, free), fits=False)
    fits = measured.memory is None or free is None or measured.memory <= _SHARE * free
    remedy = {} if fits else trial.remedy(small, shape, free)
    whole = trial.seconds_of(schedule, shape, steps, measured.seconds)
    return trial.result(measured.seconds * config.batch, whole, measured.memory, free, remedy=remedy, fits=fits)


@dataclass(frozen=True, kw_only=True)
class _Measured:
    seconds: float
    memory: int | None


class _Trial:
    def __init__(
        self, config: TrainingConfig, device: torch.device, report: Report, cancelled: Callable[[], bool]
    ) -> None:
        self._config, self._device, self._report, self._cancelled = config, device, report, cancelled
        self._done = 0
        self._parameters = 0

    def measure(self, config: TrainingConfig, shape: Shape, steps: int) -> _Measured | None:
        """Seconds and bytes of a step on one pair; None where it runs out of memory."""
        device = self._device
        reset_peak(device)
        before = 0 if device.type == "cuda" else peak_memory_bytes(device)
        try:
            network = network_for_training(config, device)
            self._parameters = sum(parameter.numel() for parameter in network.parameters())
            stepper = Stepper(replace(config, batch=1), network, Processes(rank=0, count=1, device=device))
            pair = _noise(config, shape, device)
            seconds: list[float] = []
            for number in range(steps + 1):
                if self._cancelled():
                    raise CancelledError("The trial was cancelled.")
                started = time.monotonic()
                stepper.step(0, [lambda: pair])
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                seconds.append(time.monotonic() - started)
                self._done += 1
                self._report(Progress(stage=STAGE, fraction=1 - 0.7**self._done, text=f"step {number + 1}"))
                if sum(seconds) > _ENOUGH_S:
                    break
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        finally:
            if device.type == "cuda":
                torch.cuda.empty_cache()
        after = peak_memory_bytes(device)
        grown = None if after is None or before is None or after <= before else after - before
        return _Measured(seconds=min(seconds[1:] or seconds), memory=grown)

    def seconds_of(self, schedule: TrainingConfig, shape: Shape, steps: int, seconds: float) -> float:
        """Seconds of all steps of a schedule, given those of a pair in this trial's stage; others are tried too."""
        costs = {self._config.stages[0].learns: seconds}
        for stage in schedule.stages:
            if stage.learns not in costs:
                measured = self.measure(replace(self._config, stages=(stage,)), shape, steps)
                costs[stage.learns] = seconds if measured is None else measured.seconds
        return schedule.batch * sum(stage.steps * costs[stage.learns] for stage in schedule.stages)

    def foretold(self, config: TrainingConfig, small: Shape, shape: Shape) -> float | None:
        """Bytes of a step on the whole image: what a part needs beyond the weights grows with the voxels."""
        measured = self.measure(config, small, 1)
        if measured is None or measured.memory is None:
            return None
        weights = min(measured.memory, self._parameters * _BYTES_A_PARAMETER)
        return weights + (measured.memory - weights) * _voxels(shape) / _voxels(small)

    def remedy(self, small: Shape, shape: Shape, free: int | None) -> dict[str, Any]:
        """The first of several cheaper configurations that fits."""
        for changes in _remedies(self._config, self._device):
            need = self.foretold(_changed(self._config, changes), small, shape)
            if need is not None and free is not None and need <= _SHARE * free:
                return changes
        return {}

    def result(
        self,
        seconds: float | None,
        seconds_in_all: float | None,
        memory: float | None,
        free: int | None,
        *,
        remedy: dict[str, Any],
        fits: bool,
    ) -> TrainingTrial:
        return TrainingTrial(
            device=str(self._device),
            parameters=self._parameters,
            seconds_per_step=seconds,
            seconds_in_all=seconds_in_all,
            memory_gib=None if memory is None else memory / _GIB,
            free_gib=None if free is None else free / _GIB,
            measured=seconds is not None,
            fits=fits,
            remedy=remedy,
        )


def _remedies(config: TrainingConfig, device: torch.device) -> Iterator[dict[str, Any]]:
    """Cheaper configurations, those first that change least about the result."""
    changes: dict[str, Any] = {}
    if not config.recompute:
        changes["recompute"] = True
        yield dict(changes)
    if config.precision == "float32" and device.type == "cuda":
        changes["precision"] = "bfloat16"
        yield dict(changes)
    channels = config.network.channels // 2 // 4 * 4
    if channels >= 4:
        yield {**changes, "network.channels": channels}


def _changed(config: TrainingConfig, changes: dict[str, Any]) -> TrainingConfig:
    plain = {name: value for name, value in changes.items() if "." not in name}
    if channels := changes.get("network.channels"):
        plain["network"] = replace(config.network, channels=channels)
    return replace(config, **plain)


def _heaviest(config: TrainingConfig) -> TrainingConfig:
    """The same training with one stage alone, the first that learns everything, or the first."""
    stage = next((stage for stage in config.stages if stage.learns == "everything"), config.stages[0])
    return replace(config, stages=(stage,))


def _part_of(shape: Shape) -> Shape:
    """The same shape, or one with halved sides (multiples of 16) until few voxels are left."""
    while _voxels(shape) > _SMALL_VOXELS:
        depth, height, width = (max(min(side, _LEAST_SIDE), side // 32 * 16) for side in shape)
        if (depth, height, width) == shape:
            break
        shape = (depth, height, width)
    return shape


def _voxels(shape: Shape) -> int:
    return shape[0] * shape[1] * shape[2]


def _noise(config: TrainingConfig, shape: Shape, device: torch.device) -> TrainingPair:
    generator = torch.Generator().manual_seed(0)
    classes = config.network.classes

    def image() -> torch.Tensor:
        return torch.rand((1, 1, *shape), generator=generator).to(device)

    def labels() -> torch.Tensor | None:
        return torch.randint(classes, (1, *shape), generator=generator).to(device) if classes else None

    return TrainingPair(
        fixed=image(),
        moving=image(),
        fixed_labels=labels(),
        moving_labels=labels(),
        noise_seed=0,
        names=("noise", "noise"),
    )
