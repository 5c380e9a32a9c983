"""Tables of points: .csv with or without header, and the .fcsv lists of older versions of 3D Slicer."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.errors import InputError

_POSITION_NAMES = {("x", "y", "z"): None, ("r", "a", "s"): "RAS", ("l", "p", "s"): "LPS"}
_LABEL_NAMES = ("label", "name", "id")
_FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
_FCSV_SPACES = {"0": "RAS", "1": "LPS", "RAS": "RAS", "LPS": "LPS"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """What a table held.

    Attributes:
        ending: ``.csv`` or ``.fcsv``.
        space: ``RAS`` or ``LPS`` where the file says so, else None.
        comments: leading lines with ``#``, without the one that states the space.
        header: names of the columns of a ``.csv``, or None.
        rows: cells of every point.
        columns: places of the three coordinates.
        label_column: place of the label, or None.
        delimiter: between cells.
    """

    ending: str
    space: str | None
    comments: tuple[str, ...]
    header: tuple[str, ...] | None
    rows: tuple[tuple[str, ...], ...]
    columns: tuple[int, int, int]
    label_column: int | None
    delimiter: str

    @property
    def positions(self) -> NDArray[np.float64]:
        """``(N, 3)``, mm, in the space of the file."""
        return np.array([[float(row[column]) for column in self.columns] for row in self.rows]).reshape(-1, 3)

    @property
    def labels(self) -> list[str]:
        """One per row; empty where the table has none."""
        column = self.label_column
        return ["" if column is None or column >= len(row) else row[column].strip() for row in self.rows]

    def text(self, positions: NDArray[np.float64], space: str | None) -> str:
        """The file with other positions ``(N, 3)``, given in ``space``; every other cell as it was."""
        stream = io.StringIO()
        header = self.header
        if self.ending == ".fcsv":
            lines = [line for line in self.comments if not line.lower().startswith("# columns")]
            columns = [line for line in self.comments if line.lower().startswith("# columns")]
            stream.writelines(f"{line}\n" for line in (*lines, f"# CoordinateSystem = {space or 'RAS'}", *columns))
        else:
            named = _space_of_header(header)
            if named is not None and space not in (None, named) and header is not None:
                renamed = dict(zip(self.columns, "lps" if space == "LPS" else "ras", strict=True))
                header = tuple(renamed.get(place, cell) for place, cell in enumerate(header))
            elif named is None and space is not None:
                stream.write(f"# space: {space}\n")
            stream.writelines(f"{line}\n" for line in self.comments)
        writer = csv.writer(stream, delimiter=self.delimiter, lineterminator="\n")
        if header is not None:
            writer.writerow(header)
        for row, position in zip(self.rows, positions.tolist(), strict=True):
            cells = list(row)
            for column, value in zip(self.columns, position, strict=True):
                cells[column] = repr(value)
            writer.writerow(cells)
        return stream.getvalue()


def parse(text: str, path: Path) -> Table:
    """Read the text of a ``.csv`` or ``.fcsv`` file; ``path`` gives the format and is what errors name.

    Raises:
        InputError: ``points-invalid`` or ``points-space-unknown``.
    """
    ending = ".fcsv" if path.name.lower().endswith(".fcsv") else ".csv"
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    comments = tuple(line.strip() for _, line in lines if line.lstrip().startswith("#"))
    body = [(number, line) for number, line in lines if not line.lstrip().startswith("#")]
    space, comments = _stated_space(comments, path)
    first = body[0][1] if body else ""
    delimiter = next((mark for mark in ",;\t" if mark in first), ",")
    rows = [(number, tuple(next(csv.reader([line], delimiter=delimiter)))) for number, line in body]
    header: tuple[str, ...] | None = None
    if ending == ".fcsv":
        named = next((line.split("=", 1)[1] for line in comments if line.lower().startswith("# columns")), "")
        names = tuple(cell.strip().lower() for cell in (named or _FCSV_COLUMNS).split(","))
        space = space or "RAS"
    elif rows and not any(_is_number(cell) for cell in rows[0][1]):
        header = rows.pop(0)[1]
        names = tuple(cell.strip().lower() for cell in header)
        space = _agreeing(space, _space_of_header(header), path)
    else:
        names = _names_of_cells(rows[0][1]) if rows else ("x", "y", "z")
    triple = next((triple for triple in _POSITION_NAMES if set(triple) <= set(names)), None)
    if triple is None:
        raise InputError(
            "points-invalid",
            f"The columns of the point list {path} cannot be told apart: {', '.join(names) or 'there are none'}.",
            "Give it a header line with the columns x, y, z and perhaps label.",
        )
    columns = (names.index(triple[0]), names.index(triple[1]), names.index(triple[2]))
    for number, row in rows:
        if len(row) <= max(columns) or not all(_is_number(row[column]) for column in columns):
            raise InputError(
                "points-invalid",
                f"Line {number} of the point list {path} does not hold three coordinates.",
                "Write each point as three numbers with a decimal point, in mm.",
            )
    return Table(
        ending=ending,
        space=space,
        comments=comments,
        header=header,
        rows=tuple(row for _, row in rows),
        columns=columns,
        label_column=next((names.index(name) for name in _LABEL_NAMES if name in names), None),
        delimiter=delimiter,
    )


def new(labels: Sequence[str], space: str, ending: str) -> Table:
    """A table for points without a file; its positions are to be given to :meth:`Table.text`."""
    if ending == ".fcsv":
        rows = [
            (str(n), "0", "0", "0", "0", "0", "0", "1", "1", "1", "0", label, "", "") for n, label in enumerate(labels)
        ]
        comments = ("# Markups fiducial file version = 4.11", f"# columns = {_FCSV_COLUMNS}")
        header, columns, label_column = None, (1, 2, 3), 11
    else:
        rows = [("0", "0", "0", label) for label in labels]
        comments, header, columns, label_column = (), ("x", "y", "z", "label"), (0, 1, 2), 3
    return Table(
        ending=ending,
        space=space,
        comments=comments,
        header=header,
        rows=tuple(rows),
        columns=columns,
        label_column=label_column,
        delimiter=",",
    )


def _stated_space(comments: tuple[str, ...], path: Path) -> tuple[str | None, tuple[str, ...]]:
    """The space that a comment states, and the other comments."""
    for line in comments:
        key, mark, value = line.lstrip("# ").partition("=" if "=" in line else ":")
        if not mark or key.strip().lower() not in ("space", "coordinatesystem"):
            continue
        space = _FCSV_SPACES.get(value.strip(" ,").upper())
        if space is None:
            raise InputError(
                "points-space-unknown",
                f"The points {path} state the space {value.strip()!r}.",
                "Only RAS and LPS in mm are known.",
            )
        return space, tuple(other for other in comments if other != line)
    return None, comments


def _space_of_header(header: tuple[str, ...] | None) -> str | None:
    names = {cell.strip().lower() for cell in header or ()}
    return next((space for triple, space in _POSITION_NAMES.items() if set(triple) <= names), None)


def _agreeing(stated: str | None, named: str | None, path: Path) -> str | None:
    if stated is not None and named is not None and stated != named:
        raise InputError(
            "points-space-differs",
            f"The points {path} state the space {stated}, but their columns are those of {named}.",
            "Correct the comment or the header.",
        )
    return stated or named


def _names_of_cells(cells: tuple[str, ...]) -> tuple[str, ...]:
    """Names for the columns of a table without header: three numbers, and perhaps one text."""
    numbers = [_is_number(cell) for cell in cells]
    if sum(numbers) != 3 or len(cells) > 4:
        return tuple("number" if number else "text" for number in numbers)
    letters = iter("xyz")
    return tuple(next(letters) if number else "label" for number in numbers)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
