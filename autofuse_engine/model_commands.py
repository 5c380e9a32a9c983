"""The commands ``autofuse models ...`` and ``autofuse networks``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from autofuse_engine import catalog
from autofuse_engine.catalog import CatalogEntry
from autofuse_engine.model_card import PICKLE_SUFFIXES
from autofuse_engine.terminal import print_json, print_table, require_packages


def list_command(options: argparse.Namespace) -> int:
    """Every model at hand; with ``--quiet`` one name a line."""
    entries = catalog.list_models()
    if options.json:
        print_json({"models": [_summary(entry) for entry in entries], "user_folder": str(catalog.user_folder())})
    elif options.quiet:
        print("\n".join(entry.name for entry in entries))
    elif not entries:
        print(f"No model is installed. Your folder of models is {catalog.user_folder()}.")
        print("Register with '--model none', or add a model with 'autofuse models import FILE'.")
    else:
        require_packages("rich")
        rows = [
            (
                entry.name,
                "shipped" if entry.shipped else "yours",
                f"{entry.size_bytes / 1e6:.1f} MB",
                entry.problem or (entry.card.title if entry.card else ""),
            )
            for entry in entries
        ]
        print_table(("name", "origin", "size", "what it is"), rows)
        print(f"Your folder of models: {catalog.user_folder()} ({catalog.size_on_disk() / 1e6:.1f} MB)")
    return 0


def info_command(options: argparse.Namespace) -> int:
    """The whole card of one model."""
    card = catalog.info(options.name)
    if options.json:
        print_json(card)
    elif not options.quiet:
        require_packages("rich")
        print_table(("field", "value"), list(_flat(card)))
    return 0


def import_command(options: argparse.Namespace) -> int:
    """Copy a model, or convert official weights, into the user's folder."""
    file: Path = options.file
    if file.suffix.lower() in PICKLE_SUFFIXES:
        from autofuse_engine.official_import import import_official

        weights = import_official(file, options.name or file.stem, overwrite=options.overwrite)
        entry = catalog.find(weights)
    else:
        entry = catalog.import_model(file, options.name, overwrite=options.overwrite)
    if options.json:
        print_json(_summary(entry))
    elif not options.quiet:
        print(f"Imported {entry.name} to {entry.weights_path}.")
    return 0


def delete_command(options: argparse.Namespace) -> int:
    """Delete one of the user's models."""
    entry = catalog.delete_model(options.name)
    if options.json:
        print_json(_summary(entry))
    elif not options.quiet:
        print(f"Deleted {entry.name} ({entry.size_bytes / 1e6:.1f} MB).")
    return 0


def networks_command(options: argparse.Namespace) -> int:
    """Every architecture with its number of parameters; with ``--quiet`` one name a line."""
    from autofuse_engine.networks.build import describe_networks

    networks = describe_networks()
    if options.json:
        print_json({"networks": networks})
    elif options.quiet:
        print("\n".join(network["name"] for network in networks))
    else:
        require_packages("rich")
        keys = ("name", "parameters", "float32_mb", "levels", "description")
        print_table(
            ("name", "parameters", "MB", "levels", "description"), [[net[key] for key in keys] for net in networks]
        )
    return 0


def _summary(entry: CatalogEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.card.title if entry.card else "",
        "shipped": entry.shipped,
        "usable": entry.card is not None,
        "problem": entry.problem,
        "size_bytes": entry.size_bytes,
        "path": str(entry.weights_path),
    }


def _flat(content: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in content.items():
        if isinstance(value, dict) and value:
            rows += _flat(value, f"{prefix}{key}.")
        elif value not in (None, "", {}, [], ()):
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            rows.append((f"{prefix}{key}", text))
    return rows
