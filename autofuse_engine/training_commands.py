"""The commands ``autofuse train ...``: from options to a configuration, the use case, and what is printed."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from autofuse_engine import catalog
from autofuse_engine.errors import FileError, InputError
from autofuse_engine.interruption import Interruption
from autofuse_engine.run_folder import RunFolder, read_status, request_stop
from autofuse_engine.terminal import ProgressDisplay, print_json, require_packages
from autofuse_engine.training_configs import TrainingConfig
from autofuse_engine.training_presets import preset_config
from autofuse_engine.training_terminal import TrainingDisplay, print_status


def run_command(options: argparse.Namespace) -> int:
    """``autofuse train CONFIG.json`` or ``--preset``; the first Ctrl-C writes a checkpoint and stops."""
    from autofuse_engine.training import train

    first = os.environ.get("RANK", "0") == "0"
    require_packages(*([] if options.quiet else ["rich"]))
    config = config_of(options)
    with Interruption() as asked, TrainingDisplay(quiet=options.quiet or not first, every=options.every) as display:
        result = train(config, options.run_dir, resume=options.resume, report=display, stop=asked)
    if options.json and first:
        print_json({"status": "ok", "finished": result.finished, "step": result.step, "best": result.best})
    elif first and not options.quiet:
        ended = "finished" if result.finished else "stopped; go on with --resume"
        print(f"Training {ended} after step {result.step}. Run folder: {options.run_dir}")
    return 0


def status_command(options: argparse.Namespace) -> int:
    """``autofuse train status RUN``."""
    status = read_status(options.run)
    if options.json:
        print_json(status.to_dict())
    elif options.quiet:
        print(status.state)
    else:
        require_packages("rich")
        print_status(status, str(options.run))
    return 0


def stop_command(options: argparse.Namespace) -> int:
    """``autofuse train stop RUN``."""
    request_stop(options.run)
    if options.json:
        print_json({"status": "ok"})
    elif not options.quiet:
        print(f"Asked the training in {options.run} to stop after the current step.")
    return 0


def export_command(options: argparse.Namespace) -> int:
    """``autofuse train export RUN --name NAME``."""
    from autofuse_engine.model_card_commands import card_values
    from autofuse_engine.training_export import export_model

    require_packages(*([] if options.quiet else ["rich"]))
    with Interruption() as cancelled, ProgressDisplay(quiet=options.quiet) as display:
        path = export_model(
            options.run,
            options.name,
            **{name: getattr(options, name) for name in ("checkpoint", "folder", "overwrite", "storage", "images")},
            changes=lambda card: card_values(options, card),
            tries_labels=not options.no_label_trial,
            report=display,
            cancelled=cancelled,
        )
    if options.json:
        print_json({"status": "ok", "files": {"weights": str(path), "card": str(path.with_suffix(".json"))}})
    elif not options.quiet:
        print(f"Exported {options.name} to {path}. Use it with 'autofuse register ... --model {options.name}'.")
    return 0


def config_of(options: argparse.Namespace) -> TrainingConfig | None:
    """The configuration that the options ask for; None to resume with that of the run folder.

    Raises:
        InputError: ``options-invalid``, ``training-config-invalid``, ``training-config-missing``.
        FileError: ``file-not-found``, or what reading the dataset or the run folder raises.
    """
    if options.preset and options.config:
        raise _options("Give either CONFIG.json or --preset, not both.")
    if options.dataset and not options.preset and not options.config:
        raise _options("--dataset goes with --preset or CONFIG.json.")
    if options.start_from and not options.preset and not options.config:
        raise _options("--start-from goes with --preset or CONFIG.json.")
    if options.preset:
        content = _preset(options.preset, options.dataset)
    elif options.config:
        content = _read(options.config)
        if options.dataset:
            content["dataset"] = str(options.dataset)
    elif not options.resume:
        raise InputError(
            "training-config-missing",
            "Nothing says what to train.",
            "Give CONFIG.json, or --preset with --dataset, or --resume a run.",
        )
    elif not options.changes:
        return None
    else:
        content = RunFolder(options.run_dir).read_config().to_dict()
    if options.start_from:
        _start_from(content, options.start_from, given=() if options.preset else content.get("network", ()))
    for change in options.changes:
        _apply(content, change)
    try:
        return TrainingConfig.from_dict(content)
    except (ValueError, TypeError) as error:
        raise InputError(
            "training-config-invalid",
            f"The training configuration is invalid: {error}.",
            "Correct it; docs/training.md lists the fields.",
        ) from error


def _preset(name: str, dataset: Path | None) -> dict[str, Any]:
    from autofuse_engine.data.prepared import PreparedDataset

    if dataset is None:
        raise _options("--preset needs --dataset.")
    labels = len(PreparedDataset.open(dataset).labels)
    try:
        return preset_config(name, str(dataset), labels).to_dict()
    except ValueError as error:
        raise _options(f"{error}.") from error


def _start_from(content: dict[str, Any], model: str, given: Iterable[str]) -> None:
    """Name the model, and give the training its network, except for what the configuration file itself says.

    Classes stay: they are those of the schedule and of the dataset.
    """
    from autofuse_engine.training_start import start_name

    content["start_from"] = start_name(model)
    card = catalog.find(model).card
    own = content.get("network") or {}
    kept = {name: own[name] for name in {*given, "classes"} if name in own}
    if card is not None:
        content["network"] = card.network.to_dict() | {"classes": 0} | kept


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise FileError("file-not-found", f"The file {path} cannot be read.", "Check the path.") from error
    except ValueError as error:
        raise InputError("training-config-invalid", f"{path} is not JSON: {error}.", "Correct the file.") from error
    if not isinstance(content, dict):
        raise InputError("training-config-invalid", f"{path} is not a JSON object.", "See docs/training.md.")
    return content


def _apply(content: dict[str, Any], change: str) -> None:
    """Set one value, whose key names fields and places in lists from the outside in."""
    key, separator, text = change.partition("=")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    *path, last = key.split(".")
    place: Any = content
    try:
        if not separator:
            raise KeyError(key)
        for name in path:
            if isinstance(place, dict) and place.get(name) is None:
                place[name] = {}  # absent, or null as synthesis is
            place = place[int(name)] if isinstance(place, (list, tuple)) else place[name]
        if isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise _options(f"--set {change} names no value; an example is losses.kl=0.02.") from error


def _options(text: str) -> InputError:
    return InputError("options-invalid", text, "See 'autofuse train --help' for the options.")
