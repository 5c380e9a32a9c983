"""Folders as one file or as a few small ones: what travels to a rented machine and back."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path

PART_BYTES = 15 * 2**20


def pack(folder: Path, parcel: Path, *, leave_out: Sequence[str] = ()) -> int:
    """Put a folder's content into ``parcel``, compressed as its ending says (``.tar.xz``, ``.tar.gz``); its size.

    Args:
        folder: what to pack.
        parcel: the file; replaced where it exists.
        leave_out: names directly below the folder.
    """
    kind = "w:xz" if parcel.suffix == ".xz" else "w:gz"
    with tarfile.open(parcel, kind) as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for path in sorted(folder.iterdir()):
            if path.name not in leave_out:
                archive.add(path, arcname=path.name)
    return parcel.stat().st_size


def unpack(parcel: Path, folder: Path) -> None:
    """Put the content of a parcel into a folder; only plain files below it are accepted."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(parcel) as archive:
        archive.extractall(folder, filter="data")


def split(file: Path, folder: Path, name: str, part_bytes: int = PART_BYTES) -> list[Path]:
    """Cut a file into ``folder/NAME.00``, ``NAME.01`` ..., and remove parts of an earlier, longer one."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{name}.*"):
        old.unlink()
    parts = []
    with file.open("rb") as stream:
        while data := stream.read(part_bytes):
            parts.append(folder / f"{name}.{len(parts):02d}")
            parts[-1].write_bytes(data)
    return parts


def join(folder: Path, name: str, file: Path) -> bool:
    """Put the parts of :func:`split` together again; False where the folder has none."""
    parts = sorted(folder.glob(f"{name}.[0-9][0-9]")) if folder.is_dir() else []
    if not parts:
        return False
    if [part.suffix for part in parts] != [f".{number:02d}" for number in range(len(parts))]:
        raise ValueError(f"parts are numbered from 00 without a gap, received {[part.name for part in parts]}")
    with file.open("wb") as stream:
        for part in parts:
            stream.write(part.read_bytes())
    return True
