"""Point lists between disk and RAS: plain tables (.csv), Slicer's old list (.fcsv) and its markups (.mrk.json).

Writing in the format that was read keeps every other column and field as it was; only positions change. For markups
such as lines and curves that means their control points; lengths stored under ``measurements`` are computed anew by
3D Slicer when it opens the file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.data import markups, point_tables
from autofuse_engine.data.atomic import replacing
from autofuse_engine.data.files import LPS_FROM_RAS
from autofuse_engine.errors import FileError, InputError

Space = Literal["RAS", "LPS"]
POINT_ENDINGS = (".mrk.json", ".fcsv", ".csv")
"""Endings that :func:`read_points` and :func:`write_points` know."""

_FORMATS: dict[str, Any] = {".mrk.json": markups, ".fcsv": point_tables, ".csv": point_tables}


@dataclass(frozen=True, kw_only=True, eq=False)
class PointList:
    """Points in the patient.

    Attributes:
        points_ras: ``(N, 3)``, mm, float64.
        labels: N names; empty strings where the file has none.
        name: what messages call the list.
        document: what the file held, for writing in the same format; None for points of another origin.
    """

    points_ras: NDArray[np.float64]
    labels: tuple[str, ...] = ()
    name: str = "points"
    document: point_tables.Table | markups.Markups | None = None

    def __post_init__(self) -> None:
        points = np.array(self.points_ras, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"points have the shape (N, 3), received {points.shape}")
        object.__setattr__(self, "points_ras", points)
        object.__setattr__(self, "labels", tuple(self.labels) or ("",) * len(points))
        if len(self.labels) != len(points):
            raise ValueError(f"{len(points)} points have {len(points)} labels, received {len(self.labels)}")

    def with_points(self, points_ras: NDArray) -> PointList:
        """The same list with other positions, ``(N, 3)``."""
        if np.shape(points_ras) != self.points_ras.shape:
            raise ValueError(f"points have the shape {self.points_ras.shape}, received {np.shape(points_ras)}")
        return replace(self, points_ras=points_ras)


def is_point_file(path: str | Path) -> bool:
    """True where the name ends like a point list."""
    return Path(path).name.lower().endswith(POINT_ENDINGS)


def read_points(path: str | Path, *, space: Space | None = None) -> PointList:
    """Read a point list.

    Args:
        path: ``.mrk.json``; ``.fcsv``; or ``.csv`` with a header (x, y, z or r, a, s or l, p, s, and perhaps label or
            name) or without one (three numbers, and perhaps a label).
        space: the space of a ``.csv`` that does not say so itself by a header r, a, s or l, p, s or by a first line
            ``# space: LPS``; None means RAS.

    Raises:
        FileError: ``file-not-found``, ``file-not-readable``, ``points-format-unknown``.
        InputError: ``points-invalid``, ``points-empty``, ``points-space-unknown``, ``points-space-differs``,
            ``markups-not-points``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError("file-not-found", f"There is no file {path}.", "Check the path and the spelling.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            "points-invalid", f"The file {path} is not text in UTF-8.", "Save the point list as UTF-8 text."
        ) from error
    except OSError as error:
        raise FileError(
            "file-not-readable", f"The file {path} cannot be opened.", "Check that you may read it."
        ) from error
    document = _FORMATS[_ending(path)].parse(text, path)
    if space is not None and document.space is not None and document.space != space:
        raise InputError(
            "points-space-differs",
            f"The points {path} are in {document.space} by their own account, but {space} was asked for.",
            "Leave the choice of the space out.",
        )
    if not len(document.positions):
        raise InputError("points-empty", f"The point list {path} holds no points.", "Place at least one point.")
    if not np.isfinite(document.positions).all():
        raise InputError(
            "points-invalid", f"The point list {path} holds positions that are not finite.", "Correct them."
        )
    name = path.name[: -len(_ending(path))]
    if document.space is None and space is not None:
        document = replace(document, space=space)
    points_ras = _to_or_from_ras(document.positions, document.space or "RAS")
    return PointList(points_ras=points_ras, labels=tuple(document.labels), name=name, document=document)


def write_points(path: str | Path, points: PointList, *, space: str | None = None) -> None:
    """Write a point list whole or not at all.

    Args:
        path: ends with one of :data:`POINT_ENDINGS`; in another format than the list was read from, positions and
            labels are kept and the rest is not.
        points: the list.
        space: the space of a ``.csv`` or ``.fcsv``; None keeps the space that was read, and is RAS for a new ``.csv``
            and LPS for a new ``.fcsv``. Markups keep their own, new ones are in LPS as 3D Slicer writes them.

    Raises:
        FileError: ``points-format-unknown``, ``output-not-writable`` or ``disk-full``.
    """
    path = Path(path)
    ending = _ending(path)
    document = points.document
    if document is None or document.ending != ending:
        document = _FORMATS[ending].new(points.labels, "RAS" if ending == ".csv" else "LPS", ending)
    space = document.space if ending == ".mrk.json" or space is None else space
    text = document.text(_to_or_from_ras(points.points_ras, space or "RAS"), space)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _to_or_from_ras(positions: NDArray[np.float64], space: str) -> NDArray[np.float64]:
    signs = LPS_FROM_RAS.diagonal()[:3] if space == "LPS" else np.ones(3)
    return positions * signs + 0.0  # no negative zeros


def _ending(path: Path) -> str:
    for ending in POINT_ENDINGS:
        if path.name.lower().endswith(ending):
            return ending
    raise FileError(
        "points-format-unknown",
        f"The name of the point list {path} has an unknown ending.",
        f"Choose one of {', '.join(POINT_ENDINGS)}.",
    )
