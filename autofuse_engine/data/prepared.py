"""A prepared dataset as training sees it: images in [0, 1] and labelmaps on one grid, from memory-mapped arrays."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.data.manifest import (
    MANIFEST,
    LabelName,
    Manifest,
    PreparedCase,
    StoredArray,
    invalid,
    read_manifest,
)
from autofuse_engine.errors import FileError
from autofuse_engine.model_card import Preprocessing, sha256_of

WHITE = 255
"""The stored value of intensity 1; images are stored as uint8."""


class PreparedDataset:
    """What ``autofuse dataset prepare`` made; holds no open file, so it may be pickled and shared by processes.

    Arrays are mapped when they are asked for, and the operating system keeps what is used often in memory.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._index = {case.name: number for number, case in enumerate(manifest.cases)}

    @classmethod
    def open(cls, folder: str | Path) -> PreparedDataset:
        """Open a folder after a look at the manifest and at the size of every file.

        Raises:
            FileError: ``prepared-not-found``, ``prepared-invalid``, ``prepared-too-new`` or ``prepared-incomplete``.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if not manifest.cases:
            raise invalid(folder / MANIFEST, "it lists no case")
        for case in manifest.cases:
            for stored in (case.image, case.labelmap):
                if stored is not None:
                    _check_size(folder, stored)
        return cls(folder, manifest)

    @property
    def cases(self) -> tuple[PreparedCase, ...]:
        """Every case, in the order of the indices."""
        return self.manifest.cases

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(D, H, W)`` of every array; multiples of 16."""
        return self.manifest.shape

    @property
    def labels(self) -> tuple[LabelName, ...]:
        """The label values, usually 1 to K, with their names; background (0) is not among them."""
        return self.manifest.labels

    @property
    def listed_pairs(self) -> Mapping[str, tuple[tuple[str, str], ...]]:
        """(fixed, moving) case names that the dataset itself lists, by split."""
        return self.manifest.pairs

    @property
    def preprocessing(self) -> Preprocessing:
        """What was done to the images, as the card of a model that is trained on them has to state it."""
        return self.manifest.preprocessing

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Along i, j, k, which are the tensor axes W, H, D."""
        return self.preprocessing.spacing_mm

    @property
    def orientation(self) -> str:
        """The sides of the patient towards which i, j, k grow, such as ``RAS``."""
        return self.preprocessing.orientation

    def index_of(self, name: str) -> int:
        """The index of the case with this name.

        Raises:
            KeyError: if there is none.
        """
        return self._index[name]

    def with_labels_of(self, percent: float, seed: int) -> PreparedDataset:
        """The same cases, but labels of no more than a share of the labelled training cases; the other splits keep all.

        Seed and names decide which, so that a smaller share is part of a larger one.

        Args:
            percent: of the training cases that have labels, above 0 to 100; at least one keeps its labels.
            seed: of the draw.
        """
        if not 0 < percent <= 100:
            raise ValueError(f"percent is above 0 and at most 100, received {percent}")
        names = [case.name for case in self.cases if case.split == "train" and case.has_labels]
        names.sort(key=lambda name: hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest())
        dropped = set(names[math.ceil(len(names) * percent / 100) :])
        cases = tuple(replace(case, labelmap=None) if case.name in dropped else case for case in self.cases)
        return PreparedDataset(self.folder, replace(self.manifest, cases=cases))

    def image(self, index: int) -> NDArray[np.float32]:
        """``(D, H, W)``, float32 in [0, 1]; a new array at every call."""
        return np.divide(self.stored_image(index), WHITE, dtype=np.float32)

    def stored_image(self, index: int) -> NDArray[np.uint8]:
        """``(D, H, W)``, uint8, read-only and memory-mapped: :meth:`image` times 255.

        Raises:
            FileError: ``prepared-invalid``, ``prepared-incomplete``.
        """
        return self._mapped(self.cases[index].image, (np.dtype(np.uint8),))

    def labelmap(self, index: int) -> NDArray | None:
        """``(D, H, W)``, uint8 or uint16, read-only and memory-mapped; None where the case has no labels."""
        stored = self.cases[index].labelmap
        return None if stored is None else self._mapped(stored, (np.dtype(np.uint8), np.dtype(np.uint16)))

    def verify(self) -> None:
        """Read every file and compare its checksum.

        Raises:
            FileError: ``prepared-invalid`` at the first that differs.
        """
        for case in self.cases:
            for stored in (case.image, case.labelmap):
                if stored is not None and sha256_of(self.folder / stored.file) != stored.sha256:
                    raise invalid(self.folder / stored.file, "it does not have the checksum of the manifest")

    def _mapped(self, stored: StoredArray, kinds: tuple[np.dtype, ...]) -> NDArray:
        path = self.folder / stored.file
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise _incomplete(self.folder, stored, "it is missing") from None
        except (OSError, ValueError) as error:
            raise invalid(path, str(error)) from error
        if array.shape != self.shape or array.dtype not in kinds:
            raise invalid(path, f"it holds {array.dtype} of the shape {array.shape}")
        return array


def _check_size(folder: Path, stored: StoredArray) -> None:
    try:
        size = (folder / stored.file).stat().st_size
    except OSError:
        raise _incomplete(folder, stored, "it is missing") from None
    if size != stored.size_bytes:
        raise _incomplete(folder, stored, f"it has {size} of {stored.size_bytes} bytes")


def _incomplete(folder: Path, stored: StoredArray, reason: str) -> FileError:
    return FileError(
        "prepared-incomplete",
        f"The prepared dataset {folder} is incomplete: {stored.file}: {reason}.",
        "Copy it again, or run 'autofuse dataset prepare' again with the same options; what is good stays.",
    )
