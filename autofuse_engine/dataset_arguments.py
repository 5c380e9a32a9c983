"""Options of ``autofuse dataset check`` and ``autofuse dataset prepare``; what they do stands in dataset_commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autofuse_engine.dataset_configs import DATASET_ALIGNMENTS, SIDE_MULTIPLE, PreparationConfig

_DEFAULTS = PreparationConfig()
Add = Callable[[Any, str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_dataset_commands(commands: Any, add: Add) -> None:
    """Add ``dataset`` with its commands; ``add(owner, name, command, about)`` makes a parser with common options."""
    dataset = commands.add_parser("dataset", help="Check and prepare datasets for training.", description="Datasets.")
    kinds = dataset.add_subparsers(title="commands", metavar="COMMAND", required=True)
    made = add(kinds, "check", _check, "Read every image of a dataset and list all that is wrong with it.")
    _add_folder(made)
    made = add(kinds, "prepare", _prepare, "Bring every image onto one grid, ready for training.")
    _add_folder(made)
    made.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER",
                      help="made where absent; a run that was stopped goes on with what is there")  # fmt: skip
    group = made.add_argument_group("place")
    group.add_argument("--alignment", choices=DATASET_ALIGNMENTS, default=_DEFAULTS.alignment,
                       help=f"of every case to the reference (default: {_DEFAULTS.alignment})")  # fmt: skip
    group.add_argument("--reference", default=_DEFAULTS.reference, metavar="CASE",
                       help="name of a case; auto takes the one of the most usual size (default: auto)")  # fmt: skip
    group.add_argument("--orientation", default=_DEFAULTS.orientation, metavar="RAS",
                       help=f"sides towards which i, j, k grow (default: {_DEFAULTS.orientation})")  # fmt: skip
    group.add_argument("--spacing", type=float, nargs="+", metavar="MM",
                       help="one for all axes, or one each along i, j, k (default: median of the cases)")  # fmt: skip
    group.add_argument("--size", type=int, nargs=3, metavar=("I", "J", "K"),
                       help=f"voxels, multiples of {SIDE_MULTIPLE} (default: holds what all cases show)")  # fmt: skip
    group.add_argument("--margin", type=int, default=_DEFAULTS.margin_vox, metavar="VOXELS",
                       help=f"around what the cases show (default: {_DEFAULTS.margin_vox})")  # fmt: skip
    group = made.add_argument_group("values")
    low, high = _DEFAULTS.intensity_percentiles
    group.add_argument("--percentiles", type=float, nargs=2, default=(low, high), metavar=("LOW", "HIGH"),
                       help=f"of each image's foreground; they become 0 and 1 (default: {low:g} {high:g})")  # fmt: skip
    group.add_argument("--window", type=float, nargs=2, metavar=("LOW", "HIGH"),
                       help="fixed limits instead, in the images' own units, as for CT")  # fmt: skip
    group.add_argument("--labels", type=Path, metavar="FILE",
                       help="table (old,new,name) that merges labels, and drops them where new is 0")  # fmt: skip
    group = made.add_argument_group("validation, where the dataset names no such cases")
    group.add_argument("--validation", type=float, default=_DEFAULTS.validation_percent, metavar="PERCENT",
                       help=f"of the cases, by patient (default: {_DEFAULTS.validation_percent:g})")  # fmt: skip
    group.add_argument("--seed", type=int, default=_DEFAULTS.seed, metavar="N", help=f"default: {_DEFAULTS.seed}")


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DATASET", help="folder with dataset.json or with images/")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes at once (default: as many as cores)")


def _check(options: argparse.Namespace) -> int:
    from autofuse_engine.dataset_commands import check_command

    return check_command(options)


def _prepare(options: argparse.Namespace) -> int:
    from autofuse_engine.dataset_commands import prepare_command

    return prepare_command(options)
