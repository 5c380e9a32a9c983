"""A list of pairs as CSV: images, and where there are any labelmaps, landmarks and masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autofuse_engine.data.cases import stem_of
from autofuse_engine.data.files import read_labelmap, read_volume
from autofuse_engine.data.points import read_points
from autofuse_engine.data.tables import read_table, table_invalid
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import FileError
from autofuse_engine.evaluation_methods import EvaluationPair

_OPTIONAL = ("fixed_labels", "moving_labels", "fixed_points", "moving_points", "fixed_mask", "moving_mask")


@dataclass(frozen=True, kw_only=True)
class ListedPair:
    """One line of the list: names of the two cases, and their files."""

    fixed: str
    moving: str
    fixed_image: Path
    moving_image: Path
    more: Mapping[str, Path]

    def read(self) -> EvaluationPair:
        """Read every file; errors as :func:`read_volume`, :func:`read_labelmap` and :func:`read_points` raise them."""
        more: dict[str, Any] = {
            key: _named(read_labelmap(path), self.fixed if key.startswith("fixed") else self.moving)
            for key, path in self.more.items()
            if not key.endswith("points")
        }
        more |= {f"{key}_ras": read_points(path).points_ras for key, path in self.more.items() if "points" in key}
        return EvaluationPair(
            fixed=_named(read_volume(self.fixed_image), self.fixed),
            moving=_named(read_volume(self.moving_image), self.moving),
            initial_ras=np.eye(4),
            **more,
        )


def read_pair_list(path: Path) -> list[ListedPair]:
    """Read the list and look whether every file is there.

    Args:
        path: CSV with the columns fixed and moving, and perhaps fixed_labels, moving_labels, fixed_points,
            moving_points, fixed_mask and moving_mask; paths are relative to the folder of the CSV. A case is called by
            the name of its file without ending, or as the list writes it where two files share that name.

    Raises:
        FileError: ``file-not-found`` or ``table-invalid``.
    """
    rows = read_table(path, (("fixed",), ("moving",), *((name, "") for name in _OPTIONAL)))
    if not rows:
        raise table_invalid(path, "it lists no pair")
    for number, row in enumerate(rows, start=1):
        _check(row, path, number)
    names = _names([row[key] for row in rows for key in ("fixed", "moving")], path.parent)
    pairs: dict[tuple[str, str], ListedPair] = {}
    for number, row in enumerate(rows, start=1):
        key = (names[row["fixed"]], names[row["moving"]])
        if key in pairs:
            raise table_invalid(path, f"entry {number} repeats an earlier pair")
        pairs[key] = ListedPair(
            fixed=key[0],
            moving=key[1],
            fixed_image=path.parent / row["fixed"],
            moving_image=path.parent / row["moving"],
            more={name: path.parent / row[name] for name in _OPTIONAL if row[name]},
        )
    return list(pairs.values())


def _check(row: Mapping[str, str], path: Path, number: int) -> None:
    if not row["fixed"] or not row["moving"]:
        raise table_invalid(path, f"entry {number} does not name two images")
    for name in ("fixed", "moving", *_OPTIONAL):
        if row[name] and not (path.parent / row[name]).exists():
            raise FileError(
                "file-not-found",
                f"Entry {number} of {path} names the {name.replace('_', ' ')} {path.parent / row[name]}, which is not "
                "there.",
                "Correct the list; its paths are relative to the folder that it lies in.",
            )
    if bool(row["fixed_points"]) != bool(row["moving_points"]):
        raise table_invalid(path, f"entry {number} has landmarks of one image only")


def _names(texts: Sequence[str], folder: Path) -> dict[str, str]:
    """By what the list writes: the stem of the file, or the text itself where files of different folders share it."""
    files: dict[str, set[Path]] = {}
    for text in texts:
        files.setdefault(stem_of(text), set()).add((folder / text).resolve())
    return {text: stem_of(text) if len(files[stem_of(text)]) == 1 else text for text in texts}


def _named(volume: Volume, name: str) -> Volume:
    return volume.with_array(volume.array, name=name)
