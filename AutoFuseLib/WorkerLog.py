"""Log files of worker processes: one for each child, the last ten are kept, none grows without end."""

from __future__ import annotations

import codecs
import contextlib
import itertools
import logging
import os
import time
from pathlib import Path

KEPT = 10
LIMIT_BYTES = 4 * 1024 * 1024
_numbers = itertools.count(1)


class WorkerLog:
    """What a child wrote beside its events, as UTF-8; beyond the limit the beginning and the end stay.

    A full disk ends the log, with a warning in Slicer's own, and never the work.
    """

    def __init__(self, folder: Path, limitBytes: int = LIMIT_BYTES) -> None:
        """Open a new file and delete the oldest ones.

        Raises:
            OSError: if the folder or file cannot be made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        self.path = folder / f"worker-{stamp}-{os.getpid()}-{next(_numbers):03d}.log"
        self._limit = limitBytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._file = self.path.open("w+b")
        _prune(folder)

    def write(self, data: bytes) -> None:
        """Append bytes as they came from a pipe; characters may be split between two calls."""
        self.writeText(self._decoder.decode(data))

    def writeText(self, text: str) -> None:
        """Append text."""
        if self._file.closed:
            return
        try:
            self._file.write(text.encode("utf-8", errors="replace"))
            self._file.flush()
            if self._file.tell() > self._limit:
                self._shorten()
        except OSError as error:
            logging.warning("AutoFuse cannot write the worker's log %s: %s", self.path, error)
            self.close()

    def close(self) -> None:
        """Nothing follows."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _shorten(self) -> None:
        """Keep the first and the last quarter."""
        part = self._limit // 4
        self._file.seek(0)
        head = self._file.read(part)
        self._file.seek(-part, os.SEEK_END)
        tail = self._file.read(part)
        whole = head.decode("utf-8", errors="ignore") + "\n[... left out: the log was too long ...]\n"
        self._file.seek(0)
        self._file.truncate()
        self._file.write(whole.encode("utf-8") + tail.decode("utf-8", errors="ignore").encode("utf-8"))
        self._file.flush()


def _prune(folder: Path) -> None:
    """Delete all but the newest files; one that another Slicer has open on Windows stays."""
    ages = {}
    for path in folder.glob("worker-*.log"):
        with contextlib.suppress(OSError):
            ages[path] = (path.stat().st_mtime, path.name)
    for path in sorted(ages, key=ages.__getitem__)[:-KEPT]:
        with contextlib.suppress(OSError):
            path.unlink()
