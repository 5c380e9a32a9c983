"""Write files whole or not at all: under a temporary name first, then renamed."""

from __future__ import annotations

import errno
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autofuse_engine.errors import FileError

_ROOM_FOR_HEADERS = 65536
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def replacing(path: Path, needed_bytes: int = 0) -> Iterator[Path]:
    """Give a temporary path beside ``path``; it takes the place of ``path`` when the block ends well.

    When the block raises (also on Ctrl-C), the temporary file is removed and whatever stood under ``path`` stays.
    The temporary name ends like ``path``, since writers choose their format by it.

    Args:
        path: final name; its folder exists.
        needed_bytes: refuse at once where the disk has less room than this.

    Raises:
        FileError: ``output-not-writable`` or ``disk-full``; other errors of the block pass through unchanged.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileError(
            "output-not-writable",
            f"The folder of the output file {path} does not exist.",
            "Create the folder or choose another one.",
        )
    if path.is_dir():
        raise FileError("output-not-writable", f"The output {path} is a folder.", "Give the name of a file.")
    if needed_bytes:
        _require_room(path, needed_bytes)
    temporary = path.with_name(f".autofuse-{secrets.token_hex(6)}{_suffixes(path)}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_error(path: Path, cause: BaseException | None = None) -> FileError:
    """The error for a failed write to ``path``: ``disk-full`` where no room is left, else ``output-not-writable``."""
    no_space = isinstance(cause, OSError) and cause.errno in _NO_ROOM
    try:
        no_space = no_space or shutil.disk_usage(path.parent).free < _ROOM_FOR_HEADERS
    except OSError:
        no_space = False
    if no_space:
        return FileError(
            "disk-full",
            f"The disk ran full while {path} was written.",
            "Free some space or choose another disk; nothing was kept.",
        )
    return FileError(
        "output-not-writable",
        f"The file {path} cannot be written.",
        "Check that the folder allows writing and that no other program holds the file open.",
    )


def _require_room(path: Path, needed_bytes: int) -> None:
    """Raise ``disk-full`` where the disk of ``path`` has less room than ``needed_bytes`` and a small reserve."""
    free = shutil.disk_usage(path.parent).free
    if free < needed_bytes + _ROOM_FOR_HEADERS:
        raise FileError(
            "disk-full",
            f"The file {path} needs {needed_bytes / 2**20:.1f} MiB, but only {free / 2**20:.1f} MiB are free.",
            "Free some space or choose another disk; nothing was written.",
        )


def _suffixes(path: Path) -> str:
    suffix = path.suffix
    return Path(path.stem).suffix + suffix if suffix.lower() == ".gz" else suffix
