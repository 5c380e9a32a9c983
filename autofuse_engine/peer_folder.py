"""A temporary folder whose path the command lines inside of other packages can hold."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autofuse_engine.data.native_paths import opens_any_name
from autofuse_engine.errors import FileError

_BREAKS_COMMANDS = re.compile(r"[\[\],;'\"*?]")


@contextmanager
def plain_temporary_folder() -> Iterator[Path]:
    """A folder of this name's own, removed with all that it holds when the block ends, however it ends.

    ANTs splits its options at commas and brackets, so their folder must have none; spaces and letters of all
    languages are fine, but on Windows only ASCII names open.

    Raises:
        FileError: ``peer-folder`` where no temporary folder of this computer has such a path.
    """
    place = next((place for place in _places() if _fits(place)), None)
    if place is None:
        raise FileError(
            "peer-folder",
            f"The temporary folder {tempfile.gettempdir()} has a name that other packages cannot work with.",
            "Set the environment variable TMPDIR (on Windows TEMP) to a folder without commas, brackets and quotes.",
        )
    with tempfile.TemporaryDirectory(prefix="autofuse-peer-", dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _places() -> list[str]:
    shared = [os.environ.get(name, "") for name in ("PUBLIC", "PROGRAMDATA")] if sys.platform == "win32" else []
    return [tempfile.gettempdir(), *shared, str(Path.cwd())]


def _fits(place: str) -> bool:
    readable = opens_any_name() or place.isascii()
    return bool(place) and readable and not _BREAKS_COMMANDS.search(place) and os.access(place, os.W_OK)
