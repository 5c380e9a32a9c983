"""Options of ``autofuse reproduce``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

Add = Callable[..., argparse.ArgumentParser]
_TARGETS = ("hippocampus", "brain")
_BUDGETS = ("small", "full")


def add_reproduction_command(commands: Any, add: Add) -> None:
    """Add ``reproduce`` to the program's commands."""
    made = add(
        commands,
        "reproduce",
        _reproduce,
        "Train the networks of the AutoFuse paper's tables at equal steps, and compare them. Stopped or killed, the "
        "same command goes on.",
    )
    made.add_argument("target", choices=_TARGETS, help="which data it is made for")
    made.add_argument("--budget", choices=_BUDGETS, required=True,
                      help="small: a night on two CPU cores; full: a day on one GPU")  # fmt: skip
    made.add_argument("--data", type=Path, required=True, metavar="DATASET",
                      help="folder of a dataset, or one that 'autofuse dataset prepare' made")  # fmt: skip
    made.add_argument("--out", "-o", type=Path, required=True, metavar="DIR", help="folder for everything")
    made.add_argument("--dry-run", action="store_true", help="print plan and estimated hours, write nothing")
    group = made.add_argument_group("size (default: that of the budget)")
    group.add_argument("--steps", type=int, metavar="N", help="of each training")
    group.add_argument("--channels", type=int, metavar="N", help="width of AutoFuse; the others keep their ratio to it")
    group.add_argument("--spacing", type=float, metavar="MM", help="of the common grid")
    group = made.add_argument_group("what is compared")
    group.add_argument("--methods", nargs="+", metavar="NAME",
                       help="networks of the plan, affine, refinement, syn, elastix, voxelmorph "
                            "(default: all)")  # fmt: skip
    group.add_argument("--labels", type=Path, metavar="FILE", help="table (old,new,name) that merges labels")
    group.add_argument("--pairs", type=int, default=20, metavar="N", help="of the validation split (default: 20)")
    group = made.add_argument_group("machine")
    group.add_argument("--device", default="auto", metavar="auto|cpu|cuda:N", help="default: auto")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")


def _reproduce(options: argparse.Namespace) -> int:
    from autofuse_engine.reproduction_commands import reproduce_command

    return reproduce_command(options)
