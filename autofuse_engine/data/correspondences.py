"""Where each voxel of the prepared training cases lies in one reference case: files beside the prepared arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.data.atomic import replacing, write_error
from autofuse_engine.data.manifest import PreparedCase, StoredArray
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.errors import FileError
from autofuse_engine.model_card import sha256_of

FOLDER = "correspondences"
INDEX = "correspondences.json"
FORMAT = "autofuse-correspondences"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class FoundCase:
    """One case. ``key`` is a checksum of all that it depends on; ``dice`` before and after, None without labels."""

    displacement: StoredArray
    key: str
    dice: tuple[float, float] | None = None

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> FoundCase:
        """What ``dataclasses.asdict`` made.

        Raises:
            KeyError, TypeError, ValueError: if it is something else.
        """
        dice = content["dice"]
        return cls(
            displacement=StoredArray(**content["displacement"]),
            key=str(content["key"]),
            dice=None if dice is None else (float(dice[0]), float(dice[1])),
        )


class Correspondences:
    """What ``autofuse dataset correspond`` found; holds no open file.

    Args:
        folder: of the prepared dataset.
        shape: ``(D, H, W)`` of its arrays.
        reference: name of the case in which the voxels of all others are found.
        cases: by name.
    """

    def __init__(
        self, folder: Path, shape: tuple[int, int, int], reference: str, cases: Mapping[str, FoundCase]
    ) -> None:
        self.folder, self.shape, self.reference, self.cases = folder, shape, reference, dict(cases)

    @classmethod
    def open(cls, dataset: PreparedDataset) -> Correspondences:
        """Those of all training cases of a prepared dataset.

        Raises:
            FileError: ``correspondences-missing`` where there are none, or not of every training case as it is now;
                ``prepared-invalid`` where a file is damaged.
        """
        path = dataset.folder / INDEX
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise _missing(dataset, "none were found yet") from error
        except ValueError as error:
            raise _damaged(path, "it is not JSON") from error
        try:
            if content["format"] != FORMAT or content["version"] != VERSION:
                raise ValueError(f"its format is {content['format']!r}, version {content['version']!r}")
            found = cls(
                dataset.folder,
                dataset.shape,
                str(content["reference"]),
                {str(name): FoundCase.from_dict(item) for name, item in content["cases"].items()},
            )
            stated = dict(content["images"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _damaged(path, f"{type(error).__name__}: {error}") from error
        for case in dataset.cases:
            if case.split == "train" and (case.name not in found.cases or stated.get(case.name) != case.image.sha256):
                raise _missing(dataset, f"that of {case.name} is not among them, or of another image")
        return found

    def displacement(self, name: str) -> NDArray[np.float16]:
        """``(3, D, H, W)``, voxels of the common grid: voxel x of this case lies at ``x + displacement`` in the
        reference; read-only and memory-mapped.

        Raises:
            FileError: ``prepared-invalid``.
        """
        path = self.folder / self.cases[name].displacement.file
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise _damaged(path, str(error)) from error
        if array.shape != (3, *self.shape) or array.dtype != np.float16:
            raise _damaged(path, f"it holds {array.dtype} of the shape {array.shape}")
        return array


def make_folder(folder: Path) -> Path:
    """The folder of the arrays, below that of the prepared dataset; made where absent.

    Raises:
        FileError: ``output-not-writable``.
    """
    path = folder / FOLDER
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
    return path


def write_displacement(folder: Path, case: PreparedCase, displacement_vox: NDArray[np.floating]) -> StoredArray:
    """Store one case's ``(3, D, H, W)`` as float16, whole or not at all; :func:`make_folder` made the folder.

    Raises:
        FileError: ``output-not-writable`` or ``disk-full``.
    """
    array = displacement_vox.astype(np.float16)
    path = folder / FOLDER / Path(case.image.file).name
    with replacing(path, array.nbytes) as temporary:
        np.save(temporary, array, allow_pickle=False)
        return StoredArray(
            file=f"{FOLDER}/{path.name}", size_bytes=temporary.stat().st_size, sha256=sha256_of(temporary)
        )


def write_index(dataset: PreparedDataset, reference: str, cases: Mapping[str, FoundCase]) -> Path:
    """Write the list of all of them; the arrays that it names stand already.

    Raises:
        FileError: ``output-not-writable`` or ``disk-full``.
    """
    images = {case.name: case.image.sha256 for case in dataset.cases if case.name in cases}
    content = {
        "format": FORMAT,
        "version": VERSION,
        "reference": reference,
        "images": images,
        "cases": {name: asdict(case) for name, case in cases.items()},
    }
    path = dataset.folder / INDEX
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _missing(dataset: PreparedDataset, reason: str) -> FileError:
    return FileError(
        "correspondences-missing",
        f"The prepared dataset {dataset.folder} lacks the correspondences that this training learns from: {reason}.",
        "Run 'autofuse dataset correspond' with this folder first, or set losses.correspondence to 0.",
    )


def _damaged(path: Path, reason: str) -> FileError:
    return FileError(
        "prepared-invalid",
        f"The prepared dataset's file {path} cannot be used: {reason}.",
        "Run 'autofuse dataset correspond' again; what is good stays.",
    )
