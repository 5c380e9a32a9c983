"""What an interrupted preparation has done already: one small file for each step of each case, valid for one key.

The key is a checksum of everything that the outcome of the step depends on, so a changed option or a changed image
makes exactly those steps run again that it concerns.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from autofuse_engine.data.atomic import replacing
from autofuse_engine.data.cases import CaseSource


def key_of(*parts: Any) -> str:
    """Checksum of plain values."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def source_key(source: CaseSource) -> dict[str, Any]:
    """Identity of a case's files: name, size and time of last change, and the frames that are read."""
    files = {
        role: None if path is None else [path.name, path.stat().st_size, path.stat().st_mtime_ns]
        for role, path in (("image", source.image), ("label", source.label))
    }
    return {**files, "frame": source.frame, "label_frame": source.label_frame, "name": source.name}


def recall(path: Path, key: str) -> Any:
    """The outcome that was kept under this key, or None."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("outcome") if isinstance(content, dict) and content.get("key") == key else None


def keep(path: Path, key: str, outcome: Any) -> None:
    """Write an outcome, which JSON can hold, whole or not at all.

    Raises:
        FileError: ``output-not-writable`` or ``disk-full``.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"key": key, "outcome": outcome}, ensure_ascii=False), encoding="utf-8")
