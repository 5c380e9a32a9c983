"""The command ``autofuse reproduce``: from options to a configuration, the reproduction, and what is printed."""

from __future__ import annotations

import argparse

from autofuse_engine.errors import InputError
from autofuse_engine.interruption import Interruption
from autofuse_engine.reproduction import reproduce
from autofuse_engine.reproduction_estimate import Estimate, estimate
from autofuse_engine.reproduction_plan import ReproductionConfig
from autofuse_engine.terminal import ProgressDisplay, print_json, print_table, require_packages
from autofuse_engine.training_terminal import duration


def reproduce_command(options: argparse.Namespace) -> int:
    """``autofuse reproduce``; with ``--dry-run`` the plan and its hours alone."""
    config = config_of(options)
    require_packages(
        *([] if options.dry_run else ["scipy", "matplotlib"]), *([] if options.quiet or options.json else ["rich"])
    )
    if options.dry_run:
        with Interruption() as cancelled, ProgressDisplay(quiet=options.quiet or options.json) as display:
            found = estimate(config, options.out, report=display, cancelled=cancelled)
        if options.json:
            print_json({"status": "ok", "report": found.to_dict()})
        elif not options.quiet:
            _print_plan(found)
        return 0
    with Interruption() as cancelled, ProgressDisplay(quiet=options.quiet) as display:
        result = reproduce(config, options.out, report=display, cancelled=cancelled)
    if options.json:
        print_json({"status": "ok", "files": result.files, "report": {"failed": result.failed}})
    elif not options.quiet:
        print(f"Tables: {result.files['tables']}. Report and pictures: {options.out / 'evaluation'}.")
    return 0


def config_of(options: argparse.Namespace) -> ReproductionConfig:
    """The configuration that the options ask for.

    Raises:
        InputError: ``options-invalid``.
    """
    try:
        return ReproductionConfig(
            target=options.target,
            budget=options.budget,
            data=str(options.data.resolve()),
            steps=options.steps,
            channels=options.channels,
            spacing_mm=options.spacing,
            methods=None if options.methods is None else tuple(options.methods),
            label_rules=None if options.labels is None else str(options.labels.resolve()),
            pairs=options.pairs,
            device=options.device,
            seed=options.seed,
        )
    except ValueError as error:
        raise InputError("options-invalid", f"An option is invalid: {error}.", "Correct it and run again.") from error


def _print_plan(found: Estimate) -> None:
    rows = [
        (
            run.name,
            run.channels,
            run.parameters,
            run.steps,
            "does not fit" if run.seconds_per_step is None else f"{run.seconds_per_step:.3g}",
            "-" if run.memory_gib is None else f"{run.memory_gib:.2f}",
            "-" if run.hours is None else duration(3600 * run.hours) if run.hours else "done",
        )
        for run in found.runs
    ]
    size = " x ".join(map(str, found.shape))
    about = "as such data usually have" if found.assumed else "of the prepared dataset"
    title = f"Trainings, {size} voxels and {found.labels} labels ({about})"
    print_table(("network", "channels", "parameters", "steps", "s a step", "GiB", "time"), rows, title)
    total = duration(3600 * found.hours)
    print(f"Trainings in all: {total}. Preparing the data and {found.registrations} registrations come on top.")
