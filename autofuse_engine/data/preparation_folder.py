"""The folder in which a dataset is prepared: what may lie there, names of files, records of steps, and room on disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from autofuse_engine.data.atomic import write_error
from autofuse_engine.data.manifest import MANIFEST
from autofuse_engine.errors import FileError
from autofuse_engine.model_card import sha256_of

_FOLDERS = ("images", "labels", "steps")
_STEPS = ("look", "align", "store")
_ROOM = 64 * 2**20


class PreparationFolder:
    """``images`` and ``labels`` with arrays, ``steps`` with records, ``manifest.json`` once everything is there.

    Args:
        path: the folder.
        cases: names of the cases.
    """

    def __init__(self, path: Path, cases: Sequence[str]) -> None:
        self.path = path
        self.names = distinct_names(cases)

    def make(self, source: Path) -> None:
        """Make the folder where it is absent.

        Raises:
            FileError: ``output-not-empty`` where something else lies there, or it is the ``source`` itself;
                ``output-not-writable``, ``disk-full``.
        """
        held = {path.name for path in self.path.iterdir()} if self.path.is_dir() else set()
        strange = sorted(name for name in held - {*_FOLDERS, MANIFEST} if not name.startswith("."))
        same = self.path.exists() and self.path.samefile(source)
        if same or strange or (held and "steps" not in held) or (self.path.exists() and not self.path.is_dir()):
            raise FileError(
                "output-not-empty",
                f"The folder {self.path} holds something else than a prepared dataset"
                + (f", for instance {strange[0]}." if strange else "."),
                "Choose a new folder with -o.",
            )
        try:
            for name in reversed(_FOLDERS):
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self.path, error) from error

    def remove_halves(self) -> None:
        """Remove what a killed run left half-written.

        Raises:
            FileError: ``output-not-writable``.
        """
        try:
            for name in ("", *_FOLDERS):
                for left in (self.path / name).glob(".autofuse-*"):
                    left.unlink(missing_ok=True)
        except OSError as error:
            raise write_error(self.path, error) from error

    def record(self, case: str, step: str) -> Path:
        """Where the outcome of a step (``look``, ``align``, ``store``) of a case is kept."""
        return self.path / "steps" / f"{self.names[case]}.{step}.json"

    def invalidate(self) -> None:
        """Take the manifest away: from here on the folder is not whole."""
        with suppress(FileNotFoundError):
            (self.path / MANIFEST).unlink()

    def holds(self, stored: Any) -> bool:
        """Whether the file of a :class:`StoredArray` dictionary is there, byte for byte; True for None."""
        if stored is None:
            return True
        path = self.path / stored["file"]
        if not path.is_file() or path.stat().st_size != stored["size_bytes"]:
            return False
        return sha256_of(path) == stored["sha256"]

    def require_room(self, needed_bytes: int) -> None:
        """Refuse to begin what the disk cannot hold; arrays that are there count as room.

        Raises:
            FileError: ``disk-full``.
        """
        held = sum(path.stat().st_size for kind in ("images", "labels") for path in (self.path / kind).iterdir())
        free = shutil.disk_usage(self.path).free
        if needed_bytes - held > free - _ROOM:
            raise FileError(
                "disk-full",
                f"The prepared dataset needs {needed_bytes / 2**30:.2f} GiB, but only {free / 2**30:.2f} GiB are free.",
                "Free some space, choose another disk with -o, or a coarser --spacing.",
            )

    def remove_others(self, files: Iterable[str]) -> None:
        """Remove arrays that are not among ``files`` (``images/NAME.npy`` ...) and records of unknown cases."""
        wanted = {*files, *(f"steps/{self.record(case, step).name}" for case in self.names for step in _STEPS)}
        for kind in _FOLDERS:
            for path in (self.path / kind).iterdir():
                if path.suffix in (".npy", ".json") and f"{kind}/{path.name}" not in wanted:
                    path.unlink(missing_ok=True)


def distinct_names(cases: Sequence[str]) -> dict[str, str]:
    """A file name for each case that differs from all others also where upper and lower case are one."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for case in cases:
        name, number = case, 2
        while name.casefold() in taken:
            name, number = f"{case}~{number}", number + 1
        taken.add(name.casefold())
        names[case] = name
    return names
