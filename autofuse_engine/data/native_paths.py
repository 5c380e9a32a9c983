"""Paths that ITK can open: on Windows its file functions know ASCII names only, unless the process speaks UTF-8."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autofuse_engine.errors import FileError

_DETACHED = (".mhd", ".nhdr", ".hdr", ".img")  # their data lie in a second file, which a copy would leave behind


def opens_any_name() -> bool:
    """False where ITK fails on names such as ``Müller``: on Windows with another code page than UTF-8."""
    if sys.platform != "win32":
        return True
    import ctypes

    return ctypes.windll.kernel32.GetACP() == 65001


@contextmanager
def native_input(path: Path) -> Iterator[Path]:
    """Give a path under which ITK can read the file or folder: itself, or a link or copy in an ASCII folder."""
    if str(path).isascii() or opens_any_name():
        yield path
        return
    with _ascii_folder(path) as folder:
        stand_in = folder / f"input{''.join(part for part in path.suffixes[-2:] if part.isascii())}"
        if path.is_dir():
            stand_in.mkdir()
            for number, item in enumerate(sorted(item for item in path.iterdir() if item.is_file())):
                _link_or_copy(item, stand_in / f"{number:06d}{item.suffix if item.suffix.isascii() else ''}")
        else:
            _link_or_copy(path, stand_in)
        yield stand_in


@contextmanager
def native_output(path: Path) -> Iterator[Path]:
    """Give a path under which ITK can write; what it wrote is at ``path`` when the block ends well."""
    if str(path).isascii() or opens_any_name():
        yield path
        return
    with _ascii_folder(path) as folder:
        stand_in = folder / f"output{''.join(part for part in path.suffixes[-2:] if part.isascii())}"
        yield stand_in
        shutil.copyfile(stand_in, path)


@contextmanager
def _ascii_folder(path: Path) -> Iterator[Path]:
    places = [tempfile.gettempdir(), os.environ.get("PUBLIC", ""), os.environ.get("PROGRAMDATA", "")]
    place = next((place for place in places if place and place.isascii() and os.access(place, os.W_OK)), None)
    if place is None or path.suffix.lower() in _DETACHED:
        raise FileError(
            "path-not-ascii",
            f"The path {path} holds letters that cannot be opened on this Windows.",
            "Move the file to a folder whose path holds the letters A-Z, digits, spaces, - and _ only.",
        )
    with tempfile.TemporaryDirectory(prefix="autofuse-", dir=place) as folder:
        yield Path(folder)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
