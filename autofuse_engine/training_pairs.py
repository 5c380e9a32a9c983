"""The pair of a training step as tensors: chosen, read one step ahead, augmented; a function of seed and step alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.data.augmentation import ImageChange, change_image, change_labels, draw_change
from autofuse_engine.training_configs import TrainingConfig


class Case(Protocol):
    """What a pair needs to know of a case."""

    @property
    def name(self) -> str: ...


class Cases(Protocol):
    """What training reads from a prepared dataset."""

    @property
    def cases(self) -> Sequence[Case]: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def spacing_mm(self) -> tuple[float, float, float]: ...

    def image(self, index: int) -> NDArray[np.float32]: ...

    def labelmap(self, index: int) -> NDArray | None: ...


class Sampler(Protocol):
    """What gives the pair of a step, see ``data.pairs.PairSampler``."""

    def pair(self, step: int) -> tuple[int, int]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingPair:
    """Two images ``(1, 1, D, H, W)`` in [0, 1], their classes (int64) where known, and the seed of the pair's noise."""

    fixed: Tensor
    moving: Tensor
    fixed_labels: Tensor | None
    moving_labels: Tensor | None
    noise_seed: int
    names: tuple[str, str]


def seed_of(*parts: int | str) -> int:
    """A seed of 62 bits from numbers and names; different ones are as good as independent."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode("ascii"), digest_size=8).digest(), "little") >> 2


class ClassTable:
    """From the values of labelmaps to classes 0..K-1, in the order of the values; 0 stays background."""

    def __init__(self, label_values: Sequence[int]) -> None:
        self.label_values = tuple(sorted(label_values))
        self._table = np.zeros(max((0, *self.label_values)) + 1, np.int64)
        self._table[list(self.label_values)] = np.arange(1, len(self.label_values) + 1)

    def classes(self, labelmap: NDArray) -> NDArray[np.int64]:
        """Same shape; values that are no labels become background."""
        return self._table[np.where(labelmap < len(self._table), labelmap, 0)]


class PairReader:
    """Pairs of one process; reads the next one while the current one is learned from. A context manager.

    Args:
        config: of the run.
        cases: the dataset.
        samplers: one for each stage.
        table: turns labelmaps into classes; None leaves labels out, as a network that does not segment needs none.
        device: where the pairs go.
    """

    def __init__(
        self,
        config: TrainingConfig,
        cases: Cases,
        samplers: Sequence[Sampler],
        table: ClassTable | None,
        device: torch.device,
    ) -> None:
        self._config, self._cases, self._samplers, self._table, self._device = config, cases, samplers, table, device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="autofuse-reader")
        self._next: tuple[tuple[int, int], Future[_Arrays]] | None = None

    def __enter__(self) -> PairReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def pair(self, step: int, number: int, then: tuple[int, int] | None) -> TrainingPair:
        """The pair ``number`` of a step's batch; ``then`` is the step and number that will be asked for next."""
        if self._next is not None and self._next[0] == (step, number):
            arrays = self._next[1].result()
        else:
            arrays = self._read(step, number)
        self._next = None if then is None else (then, self._thread.submit(self._read, *then))
        return self._as_pair(arrays, step, number)

    def _read(self, step: int, number: int) -> _Arrays:
        stage, step_of_stage = self._config.stage_at(step)
        indices = self._samplers[stage].pair(step_of_stage * self._config.batch + number)
        images = [np.ascontiguousarray(self._cases.image(index)) for index in indices]
        labels = [None if self._table is None else self._cases.labelmap(index) for index in indices]
        classes = [None if one is None or self._table is None else self._table.classes(one) for one in labels]
        names = [self._cases.cases[index].name for index in indices]
        return _Arrays((images[0], images[1]), (classes[0], classes[1]), (names[0], names[1]))

    def _as_pair(self, arrays: _Arrays, step: int, number: int) -> TrainingPair:
        images = [torch.from_numpy(image)[None, None].to(self._device) for image in arrays.images]
        labels = [None if one is None else torch.from_numpy(one)[None, None].to(self._device) for one in arrays.classes]
        width, height, depth = self._cases.spacing_mm
        seed = self._config.seed
        augmentation_seed = seed_of(seed, step, number, "augmentation")
        change = draw_change(self._config.augmentation, self._cases.shape, (depth, height, width), augmentation_seed)
        if change is not None:
            for side, one in enumerate((change.fixed, change.moving)):
                images[side], labels[side] = _changed(images[side], labels[side], one, change.flips)
        return TrainingPair(
            fixed=images[0],
            moving=images[1],
            fixed_labels=labels[0],
            moving_labels=labels[1],
            noise_seed=seed_of(seed, step, number, "velocity"),
            names=arrays.names,
        )


def _changed(
    image: Tensor, labels: Tensor | None, change: ImageChange, flips: tuple[int, ...]
) -> tuple[Tensor, Tensor | None]:
    return change_image(image, change, flips), None if labels is None else change_labels(labels, change, flips)


@dataclass(frozen=True, eq=False)
class _Arrays:
    images: tuple[NDArray[np.float32], NDArray[np.float32]]
    classes: tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]
    names: tuple[str, str]
