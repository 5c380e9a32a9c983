"""Files of one JSON object a line, written by processes that may be killed at any time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def append_line(path: Path, content: Mapping[str, Any]) -> None:
    """Add one object at the end and see it through to the disk; an unfinished last line is removed first.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if a number is not finite, which JSON cannot hold.
    """
    line = json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    with path.open("a+b") as stream:
        stream.seek(0)
        stream.truncate(stream.read().rfind(b"\n") + 1)
        stream.write(line)
        stream.flush()
        os.fsync(stream.fileno())


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every finished line with its number, from 1; nothing where there is no file.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if a line is not a JSON object, with its number.
    """
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            content = json.loads(line.decode("utf-8"))
        except ValueError as error:
            raise ValueError(f"line {number} is not JSON") from error
        if not isinstance(content, dict):
            raise ValueError(f"line {number} is not an object")
        yield number, content
