"""The models that are at hand: those shipped with the engine, and those in the user's folder.

Standard library only, so that 3D Slicer's own process can list models. A model is a pair of files, the weights
``NAME.safetensors`` and the card ``NAME.json``; nothing is downloaded, and nothing here opens weights.
"""

from __future__ import annotations

import difflib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autofuse_engine.errors import FileError, ModelError
from autofuse_engine.model_card import (
    CARD_SUFFIX,
    PICKLE_SUFFIXES,
    WEIGHTS_SUFFIX,
    ModelCard,
    card_text,
    check_identity,
    is_model_name,
    model_files,
    read_card,
    sha256_of,
)

SHIPPED_FOLDER = Path(__file__).resolve().parent / "models"
FOLDER_VARIABLE = "AUTOFUSE_MODELS"


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """One model on this computer.

    Attributes:
        name: how the user calls it.
        weights_path: its ``.safetensors`` file; ``checkpoint.load_checkpoint`` takes it.
        card_path: its ``.json`` file.
        shipped: True for models that came with the engine; those cannot be deleted.
        size_bytes: of both files.
        card: what it is, or None where the card or the weights cannot be used.
        problem: why not; empty for a usable model.
    """

    name: str
    weights_path: Path
    card_path: Path
    shipped: bool
    size_bytes: int
    card: ModelCard | None
    problem: str = ""


def user_folder() -> Path:
    """Where the user's models live; the environment variable ``AUTOFUSE_MODELS`` names another folder."""
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "AutoFuse" / "models"


def list_models() -> list[CatalogEntry]:
    """Every model, by name, shipped ones first; damaged ones too, with their problem."""
    entries: list[CatalogEntry] = []
    for folder in (SHIPPED_FOLDER, user_folder()):
        cards = sorted(folder.glob(f"*{CARD_SUFFIX}")) if folder.is_dir() else []
        entries += [_entry(card) for card in cards if not card.name.startswith(".")]
    return entries


def find(name_or_path: str | Path) -> CatalogEntry:
    """The model of that name, or at that path.

    Args:
        name_or_path: a name of :func:`list_models`; or a path, which is what has a folder or a file suffix.

    Raises:
        ModelError: ``model-not-found`` with the closest names, or the problem of a model that cannot be used:
            ``model-unsafe-format``, ``model-card-missing``, ``model-card-invalid``, ``model-card-too-new``.
    """
    if is_path(name_or_path):
        weights, card = model_files(Path(name_or_path).expanduser())
    else:
        entries = {entry.name: entry for entry in reversed(list_models())}
        if str(name_or_path) not in entries:
            raise _unknown(str(name_or_path), list(entries))
        weights, card = entries[str(name_or_path)].weights_path, entries[str(name_or_path)].card_path
    if not weights.is_file():
        raise ModelError(
            "model-not-found",
            f"The model file {weights} does not exist.",
            "Check the path, or list the models with 'autofuse models list'.",
        )
    read_card(card)
    return _entry(card)


def info(name_or_path: str | Path) -> dict[str, Any]:
    """The whole card of a model, and where and how large its files are, as JSON can hold it."""
    entry = find(name_or_path)
    card = entry.card.to_dict() if entry.card else {}
    return {**card, "path": str(entry.weights_path), "shipped": entry.shipped, "size_on_disk": entry.size_bytes}


def verify(name_or_path: str | Path) -> CatalogEntry:
    """Compare the weights file with the size and checksum of its card.

    Raises:
        ModelError: ``model-truncated`` or ``model-checksum``, or what :func:`find` raises.
    """
    entry = find(name_or_path)
    weights = entry.weights_path
    check_identity(weights.name, read_card(entry.card_path), weights.stat().st_size, sha256_of(weights))
    return entry


def import_model(path: str | Path, name: str | None = None, *, overwrite: bool = False) -> CatalogEntry:
    """Copy a model into the user's folder, after its checksum was verified.

    Args:
        path: its weights file or card; the other one lies beside it.
        name: new name; None keeps the one of the card.
        overwrite: whether a user's model of that name may be replaced.

    Raises:
        ModelError: ``model-name``, ``model-exists``, or what :func:`verify` raises.
        FileError: ``output-not-writable`` if the folder cannot be written.
    """
    source_weights, source_card = model_files(Path(path).expanduser())
    verify(source_weights)
    card = read_card(source_card)
    weights, card_path = files_for(card.name if name is None else name, overwrite=overwrite)
    with _replacing(weights) as temporary:
        shutil.copyfile(source_weights, temporary)
        check_identity(weights.name, card, temporary.stat().st_size, sha256_of(temporary))
    with _replacing(card_path) as temporary:
        temporary.write_text(card_text(replace(card, name=weights.stem)), encoding="utf-8")
    return _entry(card_path)


def delete_model(name: str) -> CatalogEntry:
    """Remove one of the user's models from disk; returns what it was.

    Raises:
        ModelError: ``model-not-found``, or ``model-shipped`` for a model that came with the engine.
        FileError: ``model-in-use`` if its files cannot be removed.
    """
    entries = {entry.name: entry for entry in reversed(list_models())}
    entry = entries.get(name)
    if entry is None:
        raise _unknown(name, list(entries))
    if entry.shipped:
        raise ModelError(
            "model-shipped", f"The model {name} came with AutoFuse.", "Only models that you imported can be deleted."
        )
    try:
        entry.card_path.unlink(missing_ok=True)
        entry.weights_path.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(
            "model-in-use",
            f"The files of the model {name} cannot be removed.",
            "Close programs that use the model, and check that the folder allows writing.",
        ) from error
    return entry


def size_on_disk() -> int:
    """Bytes that the user's models take."""
    return sum(entry.size_bytes for entry in list_models() if not entry.shipped)


def files_for(name: str, folder: str | Path | None = None, *, overwrite: bool = False) -> tuple[Path, Path]:
    """Paths of the weights and card that a new model of that name would have.

    Args:
        name: of the model.
        folder: None means the user's folder, where the name of a shipped model cannot be taken.
        overwrite: whether a model that stands there may be replaced.

    Raises:
        ModelError: ``model-name`` or ``model-exists``.
    """
    if not is_model_name(name):
        raise ModelError(
            "model-name",
            f"{name!r} cannot name a model.",
            "Use letters, digits, '.', '_' and '-', at most 64 of them, and begin with a letter or digit.",
        )
    place = user_folder() if folder is None else Path(folder)
    weights, card = (place / f"{name}{suffix}" for suffix in (WEIGHTS_SUFFIX, CARD_SUFFIX))
    shipped = folder is None and (SHIPPED_FOLDER / card.name).exists()
    if shipped or (not overwrite and (weights.exists() or card.exists())):
        cure = "Choose another name." if shipped else "Choose another name, or allow overwriting."
        raise ModelError("model-exists", f"A model named {name} exists already.", cure)
    return weights, card


def is_path(name_or_path: str | Path) -> bool:
    """Whether :func:`find` takes this for a path, not for a name."""
    text = str(name_or_path)
    suffixes = (WEIGHTS_SUFFIX, CARD_SUFFIX, *PICKLE_SUFFIXES)
    return "/" in text or "\\" in text or Path(text).suffix.lower() in suffixes


def _entry(card_path: Path) -> CatalogEntry:
    weights = card_path.with_suffix(WEIGHTS_SUFFIX)
    size = sum(path.stat().st_size for path in (weights, card_path) if path.is_file())
    card, problem = None, ""
    try:
        card = read_card(card_path)
        if not weights.is_file():
            card, problem = None, f"The weights file {weights.name} is missing."
    except ModelError as error:
        problem = error.text
    return CatalogEntry(
        name=card_path.stem,
        weights_path=weights,
        card_path=card_path,
        shipped=card_path.resolve().parent == SHIPPED_FOLDER,
        size_bytes=size,
        card=card,
        problem=problem,
    )


def _unknown(name: str, names: list[str]) -> ModelError:
    by_lower = {known.lower(): known for known in names}
    close = [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)]
    if close:
        hint = f"Did you mean {' or '.join(close)}?"
    elif names:
        hint = f"The models at hand are {', '.join(sorted(names))}."
    else:
        hint = "No model is installed: import one with 'autofuse models import', or register with the model 'none'."
    return ModelError("model-not-found", f"There is no model named {name!r}.", hint)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well; removed when it does not."""
    temporary = path.with_name(f".autofuse-{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise FileError(
            "output-not-writable",
            f"The file {path} cannot be written.",
            "Check that the folder allows writing and that the disk has room.",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
