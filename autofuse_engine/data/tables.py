"""Small tables with a header line, as people write them: CSV with commas or semicolons, UTF-8 with or without mark."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from autofuse_engine.errors import FileError

Row = Mapping[str, str]


def read_table(path: str | Path, columns: Sequence[Sequence[str]]) -> list[Row]:
    """Read a table whose header has the wished columns; further columns are left aside.

    Args:
        path: the file; empty lines and lines that begin with # do not count.
        columns: for each column its names, the first one being that of the result; case does not matter. A column is
            optional where ``""`` is among its names; its texts are then empty.

    Returns:
        For each line the stripped text by column.

    Raises:
        FileError: ``file-not-found`` or ``table-invalid``.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise FileError("file-not-found", f"There is no file {path}.", "Check the path and the spelling.") from error
    except (OSError, ValueError) as error:
        raise table_invalid(path, "it cannot be read as UTF-8 text") from error
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise table_invalid(path, "it is empty")
    delimiter = next((mark for mark in (",", ";", "\t") if mark in lines[0]), ",")
    rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
    header = [name.strip().lower() for name in rows[0]]
    places: dict[str, int | None] = {}
    for names in columns:
        found = next((header.index(name) for name in names if name and name in header), None)
        if found is None and "" not in names:
            raise table_invalid(path, f"its header ({', '.join(header)}) has no column {names[0]!r}")
        places[names[0]] = found
    return [
        {name: row[place].strip() if place is not None and place < len(row) else "" for name, place in places.items()}
        for row in rows[1:]
    ]


def whole_number(text: str, path: Path, line: int, *, lowest: int = 0) -> int:
    """The whole number that a cell holds.

    Raises:
        FileError: ``table-invalid``.
    """
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or value < lowest:
        raise table_invalid(path, f"entry {line} holds {text!r} where a whole number of at least {lowest} belongs")
    return value


def table_invalid(path: Path, reason: str) -> FileError:
    """The error for a table that cannot be used."""
    return FileError(
        "table-invalid",
        f"The table {path} cannot be used: {reason}.",
        "Write a CSV file whose first line names the columns; docs/datasets.md shows one of each kind.",
    )
