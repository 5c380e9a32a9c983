"""The list of a prepared dataset's cases and files, ``manifest.json``: plain records, JSON in and out, checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from autofuse_engine.data.atomic import replacing
from autofuse_engine.dataset_configs import SIDE_MULTIPLE, SPLITS, PreparationConfig, Split
from autofuse_engine.errors import FileError
from autofuse_engine.model_card import Preprocessing

FORMAT = "autofuse-prepared-dataset"
VERSION = 1
MANIFEST = "manifest.json"
_FRAMES = (None, "ed", "es")


@dataclass(frozen=True, kw_only=True)
class StoredArray:
    """One ``.npy`` file; ``file`` is relative to the folder, with forward slashes."""

    file: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class LabelName:
    """A label of the prepared labelmaps and what it is called; ``sources`` are its values in the original files."""

    value: int
    name: str
    sources: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PreparedCase:
    """One image on the common grid.

    ``group`` is the patient (cases of one patient share it), ``frame`` ``ed`` or ``es`` for the heart's two phases.
    ``case_from_grid_ras`` (4x4, RAS, mm) takes points of the common grid to points of the original image.
    """

    name: str
    split: Split
    image: StoredArray
    labelmap: StoredArray | None = None
    group: str = ""
    frame: str | None = None
    case_from_grid_ras: tuple[tuple[float, ...], ...] | None = None
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_labels(self) -> bool:
        """Whether there is a labelmap."""
        return self.labelmap is not None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything about a prepared dataset except its arrays.

    ``shape`` is ``(D, H, W)``; ``grid_ras_from_ijk`` 4x4, RAS, mm. ``pairs`` lists the pairs that the dataset itself
    names, by split, as (fixed, moving) case names. ``dataset`` holds name, description, licence and reference.
    """

    shape: tuple[int, int, int]
    grid_ras_from_ijk: tuple[tuple[float, ...], ...]
    preprocessing: Preprocessing
    config: PreparationConfig
    cases: tuple[PreparedCase, ...]
    labels: tuple[LabelName, ...] = ()
    pairs: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    reference: str = ""
    dataset: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON, with format, version and the checksum of the configuration."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "config_sha256": self.config.checksum(),
            **asdict(self),
            "preprocessing": self.preprocessing.to_dict(),
            "config": self.config.to_dict(),
        }


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write ``manifest.json`` whole or not at all; the arrays that it names stand already.

    Raises:
        FileError: ``output-not-writable`` or ``disk-full``.
    """
    path = folder / MANIFEST
    text = json.dumps(manifest.to_dict(), indent=1, ensure_ascii=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def read_manifest(folder: Path) -> Manifest:
    """Read and check a manifest; the files that it names are not looked at.

    Raises:
        FileError: ``prepared-not-found``, ``prepared-invalid`` or ``prepared-too-new``.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(
            "prepared-not-found",
            f"The folder {folder} holds no prepared dataset: {MANIFEST} cannot be read.",
            "Prepare the dataset first, or let an interrupted 'autofuse dataset prepare' finish.",
        ) from error
    except ValueError as error:
        raise invalid(path, "it is not JSON") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise invalid(path, "it is the file of another program")
    version = content.get("version")
    if type(version) is int and version > VERSION:
        raise FileError(
            "prepared-too-new",
            f"The prepared dataset {folder} has format {version}, this program reads up to {VERSION}.",
            "Update AutoFuse, or prepare the dataset again.",
        )
    if version != VERSION:
        raise invalid(path, f"its version is {version!r}")
    try:
        manifest = _parsed(content)
    except (KeyError, TypeError, ValueError) as error:
        raise invalid(path, f"{type(error).__name__}: {error}") from error
    if manifest.config.checksum() != content.get("config_sha256"):
        raise invalid(path, "its configuration does not have the checksum written beside it")
    return manifest


def invalid(path: Path, reason: str) -> FileError:
    """The error for a manifest, or an array that it names, which cannot be used."""
    return FileError(
        "prepared-invalid",
        f"The prepared dataset's file {path} cannot be used: {reason}.",
        "Run 'autofuse dataset prepare' again with the same options; what is good stays.",
    )


def _parsed(content: Mapping[str, Any]) -> Manifest:
    depth, height, width = (int(side) for side in content["shape"])
    if min(depth, height, width) < 1 or any(side % SIDE_MULTIPLE for side in (depth, height, width)):
        raise ValueError(f"sides are multiples of {SIDE_MULTIPLE}, received {content['shape']}")
    cases = tuple(_case(item) for item in content["cases"])
    names = [case.name for case in cases]
    if len(set(names)) != len(names):
        raise ValueError("case names are unique")
    pairs = {split: tuple((str(a), str(b)) for a, b in listed) for split, listed in content["pairs"].items()}
    strangers = {name for listed in pairs.values() for pair in listed for name in pair} - set(names)
    if strangers or set(pairs) - set(SPLITS):
        raise ValueError(f"pairs name cases and splits of the dataset, received {sorted(strangers) or sorted(pairs)}")
    return Manifest(
        shape=(depth, height, width),
        grid_ras_from_ijk=_matrix(content["grid_ras_from_ijk"]),
        preprocessing=Preprocessing.from_dict(content["preprocessing"]),
        config=PreparationConfig.from_dict(content["config"]),
        cases=cases,
        labels=tuple(LabelName(**{**item, "sources": tuple(item["sources"])}) for item in content["labels"]),
        pairs=pairs,
        reference=str(content["reference"]),
        dataset=dict(content["dataset"]),
    )


def _case(content: Mapping[str, Any]) -> PreparedCase:
    labelmap = content["labelmap"]
    matrix = content["case_from_grid_ras"]
    values = {
        **content,
        "image": _array(content["image"]),
        "labelmap": None if labelmap is None else _array(labelmap),
        "case_from_grid_ras": None if matrix is None else _matrix(matrix),
    }
    case = PreparedCase(**values)
    if case.split not in SPLITS or case.frame not in _FRAMES:
        raise ValueError(f"case {case.name} has the split {case.split!r} and the frame {case.frame!r}")
    return case


def _array(content: Mapping[str, Any]) -> StoredArray:
    array = StoredArray(**content)
    path = PurePosixPath(array.file)
    if path.is_absolute() or ".." in path.parts or "\\" in array.file or ":" in array.file:
        raise ValueError(f"files lie inside of the folder, received {array.file!r}")
    return array


def _matrix(rows: Any) -> tuple[tuple[float, ...], ...]:
    matrix = tuple(tuple(float(value) for value in row) for row in rows)
    if [len(row) for row in matrix] != [4, 4, 4, 4]:
        raise ValueError("matrices are 4x4")
    return matrix
