"""Reads a CSV file that another process extends, a piece at a time, from where it stopped the last time."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path

PIECE_BYTES = 1 << 19
"""Parsing so much takes some dozens of milliseconds."""


class GrowingTable:
    """Columns of numbers of a table whose first column is ``step``.

    Attributes:
        columns: values by name, one a row; NaN for an empty cell.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        """Nothing is read yet.

        Args:
            path: the file; it may not exist yet.
            names: of the columns that are wanted; one that the file lacks stays empty.
        """
        self._path, self._names = path, tuple(names)
        self._forget()

    def read(self) -> bool:
        """Take in the next piece; whether the columns changed.

        A file that was replaced, or that became shorter, as when a run is resumed, is read from its beginning.
        """
        try:
            with self._path.open("rb") as stream:
                found = os.fstat(stream.fileno())
                changed = (found.st_ino, found.st_dev) != self._identity or found.st_size < self._offset
                if changed:
                    self._forget()
                    self._identity = (found.st_ino, found.st_dev)
                stream.seek(self._offset)
                piece = stream.read(PIECE_BYTES)
        except OSError:
            return False
        whole = piece[: piece.rfind(b"\n") + 1]
        self._offset += len(whole)
        rows = list(csv.reader(whole.decode("utf-8", errors="replace").splitlines()))
        if not self._header and rows:
            self._header = rows.pop(0)
        for row in rows:
            if len(row) == len(self._header):
                self._add(dict(zip(self._header, row, strict=True)))
        return changed or bool(rows)

    def _forget(self) -> None:
        self.columns: dict[str, list[float]] = {name: [] for name in self._names}
        self._offset = 0
        self._header: list[str] = []
        self._identity: tuple[int, int] = (-1, -1)

    def _add(self, row: dict[str, str]) -> None:
        for name in self._names:
            try:
                value = float(row.get(name) or "nan")
            except ValueError:
                value = math.nan
            self.columns[name].append(value)
