"""Who trains or prepares in a folder: a lock that the system takes back when its process dies, however it dies.

Standard library only. The file stays when nobody holds the lock; its text names the process that held it last.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from autofuse_engine.errors import FileError

_PATIENCE_S = 2.0
_LOCKED_BYTE = 1 << 30
"""Windows locks a range of bytes and forbids reading it, so the range lies far behind the text."""


class RunLock:
    """Holds the lock of a folder while the context is open; one holder on all computers that share the folder.

    Args:
        path: of the file that is locked.
        held: makes the error for a folder that another process (named in the second argument) holds.

    Raises:
        FileError: on entering: what ``held`` makes, by default ``run-locked``; ``run-lock-unsupported`` where the disk
            knows no locks.
    """

    def __init__(self, path: Path, held: Callable[[Path, str], FileError] | None = None) -> None:
        self.path = path
        self._held = held or _training_holds
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> RunLock:
        # Whoever asks for the state of the run holds the lock for an instant: so try for a while.
        deadline = time.monotonic() + _PATIENCE_S
        stream = _opened(self.path)
        try:
            while not _try_lock(stream, self.path):
                if time.monotonic() > deadline:
                    raise self._held(self.path.parent, _holder_in_words(self.path))
                time.sleep(0.05)
            stream.truncate(0)
            stream.write(json.dumps({"process": os.getpid(), "computer": socket.gethostname()}).encode("ascii"))
            stream.flush()
        except BaseException:
            stream.close()
            raise
        self._stream = stream
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            _unlock(self._stream)
            self._stream.close()
            self._stream = None


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock; the lock of a dead one counts as free.

    Raises:
        FileError: ``run-lock-unsupported``, ``output-not-writable``.
    """
    if not path.exists():
        return False
    with _opened(path) as stream:
        if not _try_lock(stream, path):
            return True
        _unlock(stream)
    return False


def holder(path: Path) -> Mapping[str, Any]:
    """``process`` and ``computer`` that held the lock last; empty where nothing is written."""
    try:
        content = json.loads(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("a+b")
    except OSError as error:
        raise FileError(
            "output-not-writable",
            f"The file {path} cannot be written.",
            "Check that the folder allows writing.",
        ) from error


def _holder_in_words(path: Path) -> str:
    last = holder(path)
    return f"process {last['process']} on {last['computer']}" if {"process", "computer"} <= last.keys() else "a process"


def _training_holds(folder: Path, who: str) -> FileError:
    return FileError(
        "run-locked",
        f"Another training runs in {folder} ({who}).",
        "Watch it with 'autofuse train status', stop it with 'autofuse train stop', or choose another folder.",
    )


def _unsupported(path: Path, error: OSError) -> FileError:
    return FileError(
        "run-lock-unsupported",
        f"The disk of {path} knows no file locks ({error.strerror}).",
        "Choose a folder on another disk.",
    )


if sys.platform == "win32":
    import msvcrt

    def _try_lock(stream: IO[bytes], path: Path) -> bool:
        stream.seek(_LOCKED_BYTE)
        try:
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        except OSError as error:
            raise _unsupported(path, error) from error
        return True

    def _unlock(stream: IO[bytes]) -> None:
        stream.seek(_LOCKED_BYTE)
        msvcrt.locking(stream.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(stream: IO[bytes], path: Path) -> bool:
        try:
            # Of the open file, not of the process as lockf: closing another handle of it does not give it up.
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise _unsupported(path, error) from error
        return True

    def _unlock(stream: IO[bytes]) -> None:
        fcntl.flock(stream, fcntl.LOCK_UN)
