"""The pair of a training step as tensors: chosen, and read one step ahead or kept on the device."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.data.prepared import WHITE
from autofuse_engine.memory import free_memory_bytes
from autofuse_engine.training_configs import TrainingConfig
from autofuse_engine.training_pair_images import PairMaker, TrainingPair

_RESIDENT_SHARE = 0.25


class Case(Protocol):
    """What a pair needs to know of a case."""

    @property
    def name(self) -> str: ...

    @property
    def split(self) -> str: ...


class Cases(Protocol):
    """What training reads from a prepared dataset."""

    @property
    def cases(self) -> Sequence[Case]: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def spacing_mm(self) -> tuple[float, float, float]: ...

    def image(self, index: int) -> NDArray[np.float32]: ...

    def stored_image(self, index: int) -> NDArray[np.uint8]: ...

    def labelmap(self, index: int) -> NDArray | None: ...


class Sampler(Protocol):
    """What gives the pair of a step, see ``data.pairs.PairSampler``."""

    def pair(self, step: int) -> tuple[int, int]: ...


class ClassTable:
    """From the values of labelmaps to classes 0..K-1, in the order of the values; 0 stays background."""

    def __init__(self, label_values: Sequence[int]) -> None:
        self.label_values = tuple(sorted(label_values))
        self._table = np.zeros(max((0, *self.label_values)) + 1, np.int64)
        self._table[list(self.label_values)] = np.arange(1, len(self.label_values) + 1)

    def classes(self, labelmap: NDArray) -> NDArray[np.int64]:
        """Same shape; values that are no labels become background."""
        return self._table[np.where(labelmap < len(self._table), labelmap, 0)]


class ResidentCases:
    """All cases of one split in the memory of a device: a pair costs no copy from the computer to it.

    Args:
        cases: the dataset.
        indices: of the cases to keep.
        table: turns labelmaps into classes; None leaves labels out.
        device: where they are kept: an image as uint8, its classes as uint8 (int32 above 255).
    """

    def __init__(self, cases: Cases, indices: Sequence[int], table: ClassTable | None, device: torch.device) -> None:
        self._images: dict[int, Tensor] = {}
        self._labels: dict[int, Tensor] = {}
        for index in indices:
            self._images[index] = torch.from_numpy(np.array(cases.stored_image(index))).to(device)
            labels = None if table is None else cases.labelmap(index)
            if labels is not None and table is not None:
                kind = np.uint8 if len(table.label_values) < 256 else np.int32
                self._labels[index] = torch.from_numpy(table.classes(labels).astype(kind)).to(device)

    def image(self, index: int) -> Tensor:
        """``(1, 1, D, H, W)``, float32 in [0, 1]."""
        return (self._images[index].float() / WHITE)[None, None]

    def classes(self, index: int) -> Tensor | None:
        """``(1, 1, D, H, W)``, int64, or None."""
        labels = self._labels.get(index)
        return None if labels is None else labels.long()[None, None]


def fits_resident(cases: Cases, count: int, with_labels: bool, device: torch.device) -> bool:
    """Whether so many cases take no more than a quarter of a GPU's free memory; never so on the CPU."""
    if device.type != "cuda":
        return False
    free = free_memory_bytes(device)
    needed = count * int(np.prod(cases.shape)) * (2 if with_labels else 1)
    return free is not None and needed <= free * _RESIDENT_SHARE


class PairReader:
    """Pairs of one process; reads the next one while the current one is learned from. A context manager.

    Args:
        config: of the run.
        cases: the dataset.
        samplers: one for each stage.
        table: turns labelmaps into classes; None leaves labels out, as a network that needs none wants it.
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
        self._resident: ResidentCases | None = None
        train = [index for index, case in enumerate(cases.cases) if case.split == "train"]
        wanted = config.resident
        if wanted or (wanted is None and fits_resident(cases, len(train), table is not None, device)):
            self._resident = ResidentCases(cases, train, table, device)

    def __enter__(self) -> PairReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def pair(self, step: int, number: int, then: tuple[int, int] | None) -> TrainingPair:
        """The pair ``number`` of a step's batch; ``then`` is the step and number that will be asked for next."""
        indices = self._indices(step, number)
        if self._resident is not None:
            images = [self._resident.image(index) for index in indices]
            labels = [self._resident.classes(index) for index in indices]
        else:
            arrays = self._arrays(step, number, then)
            images = [torch.from_numpy(image)[None, None].to(self._device) for image in arrays.images]
            labels = [
                None if one is None else torch.from_numpy(one)[None, None].to(self._device) for one in arrays.classes
            ]
        width, height, depth = self._cases.spacing_mm
        maker = PairMaker(
            config=self._config,
            spacing_mm=(depth, height, width),
            labels=0 if self._table is None else len(self._table.label_values),
        )
        names = [self._cases.cases[index].name for index in indices]
        return maker.make((images[0], images[1]), (labels[0], labels[1]), (names[0], names[1]), step, number)

    def _indices(self, step: int, number: int) -> tuple[int, int]:
        stage, step_of_stage = self._config.stage_at(step)
        return self._samplers[stage].pair(step_of_stage * self._config.batch + number)

    def _arrays(self, step: int, number: int, then: tuple[int, int] | None) -> _Arrays:
        if self._next is not None and self._next[0] == (step, number):
            arrays = self._next[1].result()
        else:
            arrays = self._read(step, number)
        self._next = None if then is None else (then, self._thread.submit(self._read, *then))
        return arrays

    def _read(self, step: int, number: int) -> _Arrays:
        indices = self._indices(step, number)
        images = [np.ascontiguousarray(self._cases.image(index)) for index in indices]
        labels = [None if self._table is None else self._cases.labelmap(index) for index in indices]
        classes = [None if one is None or self._table is None else self._table.classes(one) for one in labels]
        return _Arrays((images[0], images[1]), (classes[0], classes[1]))


@dataclass(frozen=True, eq=False)
class _Arrays:
    images: tuple[NDArray[np.float32], NDArray[np.float32]]
    classes: tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]
