"""Options of ``autofuse train ...``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autofuse_engine.model_arguments import add_card_options
from autofuse_engine.training_presets import PRESETS

Add = Callable[..., argparse.ArgumentParser]
RUN = "run"
_COMMANDS = (RUN, "status", "stop", "export")


def with_run_command(given: list[str]) -> list[str]:
    """``train CONFIG ...`` means ``train run CONFIG ...``; everything else stays as it is."""
    if given[:1] != ["train"] or (len(given) > 1 and given[1] in (*_COMMANDS, "-h", "--help")):
        return given
    return ["train", RUN, *given[1:]]


def add_training_commands(commands: Any, add: Add) -> None:
    """Add ``train`` with its commands to the program's."""
    train = commands.add_parser("train", help="Train a network on a prepared dataset.", description="Training.")
    kinds = train.add_subparsers(title="commands", metavar="COMMAND", required=True)
    made = add(kinds, RUN, _run, "Train; 'autofuse train CONFIG ...' is the same. Under torchrun, on several GPUs.")
    made.add_argument("config", nargs="?", type=Path, metavar="CONFIG.json", help="see docs/training.md")
    made.add_argument("--run-dir", type=Path, required=True, metavar="RUN", help="folder of the run; made where absent")
    made.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    made.add_argument("--preset", choices=tuple(PRESETS), help="instead of CONFIG.json; needs --dataset")
    made.add_argument("--dataset", type=Path, metavar="PREPARED", help="what 'autofuse dataset prepare' made")
    made.add_argument("--start-from", metavar="MODEL",
                      help="begin with the weights of this model, name or file, and take its network")  # fmt: skip
    made.add_argument("--set", action="append", default=[], dest="changes", metavar="KEY=VALUE",
                      help="change a value, such as losses.kl=0.02 or stages.0.steps=500; may be repeated")  # fmt: skip
    made.add_argument("--every", type=int, default=50, metavar="N", help="without a terminal, a line each N steps")
    made = add(kinds, "status", _status, "Show how a run stands.")
    made.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    made = add(kinds, "stop", _stop, "Ask a run to write a checkpoint and stop.")
    made.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    made = add(kinds, "export", _export, "Make a model of a run's checkpoint.")
    made.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    made.add_argument("--name", required=True, help="of the new model")
    made.add_argument("--checkpoint", choices=("best", "last"), default="best", help="default: best")
    made.add_argument("--overwrite", action="store_true", help="replace a model of that name")
    made.add_argument("--title", default="", help="one line for people")
    made.add_argument("--licence", default="", help="of the weights (default: that of the dataset)")
    made.add_argument("--folder", type=Path, metavar="FOLDER", help="where the model goes (default: your models)")
    add_card_options(made)
    made.add_argument("--storage", choices=("float32", "float16"), default="float32", help="default: float32")
    made.add_argument("--no-label-trial", action="store_true",
                      help="do not try on validation pairs whether a model's labels help its refinement")  # fmt: skip


def _run(options: argparse.Namespace) -> int:
    from autofuse_engine.training_commands import run_command

    return run_command(options)


def _status(options: argparse.Namespace) -> int:
    from autofuse_engine.training_commands import status_command

    return status_command(options)


def _stop(options: argparse.Namespace) -> int:
    from autofuse_engine.training_commands import stop_command

    return stop_command(options)


def _export(options: argparse.Namespace) -> int:
    from autofuse_engine.training_commands import export_command

    return export_command(options)
