"""The commands ``autofuse dataset check`` and ``autofuse dataset prepare``."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any

from autofuse_engine.data.case_facts import CaseFacts
from autofuse_engine.data.cases import Problem
from autofuse_engine.data.label_groups import read_label_rules
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.dataset_check import DatasetReport, check_dataset
from autofuse_engine.dataset_configs import PreparationConfig
from autofuse_engine.dataset_preparation import prepare_dataset
from autofuse_engine.errors import InputError
from autofuse_engine.interruption import Interruption
from autofuse_engine.terminal import ProgressDisplay, print_json, print_table, require_packages

_ROWS_SHOWN = 40
_NAMES_SHOWN = 12
_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def check_command(options: argparse.Namespace) -> int:
    """Everything about a dataset; exit code 2 where it has errors. ``--quiet`` shows errors and warnings only."""
    require_packages(*([] if options.quiet else ["rich"]))
    with Interruption() as cancelled, ProgressDisplay(quiet=options.quiet or options.json) as display:
        found = check_dataset(options.folder, display, jobs=_jobs(options), cancelled=cancelled)
    if options.json:
        print_json({"status": "error" if found.has_errors else "ok", "report": found.to_dict()})
    elif options.quiet:
        for problem in found.problems:
            if problem.severity != "info":
                print(f"{problem.severity} ({problem.code}): {problem.text} {problem.hint}".rstrip())
    else:
        _print_report(found)
    return InputError.exit_code if found.has_errors else 0


def prepare_command(options: argparse.Namespace) -> int:
    """Prepare a dataset, or go on with it."""
    require_packages(*([] if options.quiet else ["rich"]))
    config = config_of(options)
    with Interruption() as cancelled, ProgressDisplay(quiet=options.quiet) as display:
        dataset = prepare_dataset(
            options.folder, options.output, config, report=display, jobs=_jobs(options), cancelled=cancelled
        )
    summary = _summary(dataset)
    if options.json:
        print_json({"status": "ok", "files": {"manifest": str(dataset.folder / "manifest.json")}, "report": summary})
    elif not options.quiet:
        print_table(("prepared", "value"), [(name.replace("_", " "), _shown(value)) for name, value in summary.items()])
    return 0


def config_of(options: argparse.Namespace) -> PreparationConfig:
    """The configuration that the options ask for.

    Raises:
        InputError: ``options-invalid``.
        FileError: as :func:`read_label_rules` raises it.
    """
    spacing = options.spacing
    if spacing is not None and len(spacing) not in (1, 3):
        raise InputError(
            "options-invalid", f"--spacing takes one or three numbers, received {len(spacing)}.", "Correct it."
        )
    try:
        return PreparationConfig(
            alignment=options.alignment,
            reference=options.reference,
            orientation=options.orientation.upper(),
            spacing_mm=None if spacing is None else tuple(spacing) * (3 // len(spacing)),
            size=None if options.size is None else tuple(options.size),
            margin_vox=options.margin,
            intensity_percentiles=tuple(options.percentiles),
            intensity_window=None if options.window is None else tuple(options.window),
            label_rules=None if options.labels is None else read_label_rules(options.labels),
            validation_percent=options.validation,
            seed=options.seed,
        )
    except ValueError as error:
        raise InputError("options-invalid", f"An option is invalid: {error}.", "Correct it and run again.") from error


def _jobs(options: argparse.Namespace) -> int | None:
    if options.jobs is not None and options.jobs < 1:
        raise InputError("options-invalid", f"--jobs is at least 1, received {options.jobs}.", "Correct it.")
    return options.jobs


def _print_report(found: DatasetReport) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    about = found.about.get("name", "dataset")
    splits = ", ".join(f"{count} {split}" for split, count in found.splits.items())
    labelled = sum(case.label_voxels is not None for case in found.cases)
    console.print(f"{about} ({found.layout}): {splits}; {labelled} with labels", markup=False, highlight=False)
    if found.cases:
        print_table(("figure", "lowest", "median", "highest"), _ranges(found.cases), "What the images are")
        shown = _few_rows(found.cases)
        title = (
            "Cases" if len(shown) == len(found.cases) else f"Cases ({len(shown)} of {len(found.cases)}; all: --json)"
        )
        print_table(
            ("case", "split", "size", "spacing (mm)", "axes", "type", "intensities", "labels", "problems"),
            [_row(case) for case in shown],
            title,
        )
    if found.labels:
        rows = [(label.value, label.name, label.cases, f"{label.mean_ml:.2f}") for label in found.labels[:_ROWS_SHOWN]]
        more = len(found.labels) - len(rows)
        print_table(("label", "name", "cases", "mean (ml)"), rows, f"Labels{f' ({more} more: --json)' if more else ''}")
    for problem in found.problems:
        text = Text(f"{problem.severity.capitalize()}: ", style=_STYLES[problem.severity])
        text.append(problem.text, style="default")
        text.append(_named(problem), style="dim")
        if problem.hint:
            text.append(f"\n  -> {problem.hint}", style="dim")
        console.print(text, highlight=False)
    counts = Counter(problem.severity for problem in found.problems)
    verdict = "The dataset cannot be used as it is." if found.has_errors else "The dataset can be used."
    console.print(
        f"{verdict} Kinds of errors: {counts['error']}, of warnings: {counts['warning']}.",
        style="bold red" if found.has_errors else "bold green",
        highlight=False,
    )


def _named(problem: Problem) -> str:
    unnamed = [name for name in problem.cases if name not in problem.text]
    if not unnamed or "more." in problem.text:
        return ""
    more = f" and {len(unnamed) - _NAMES_SHOWN} more" if len(unnamed) > _NAMES_SHOWN else ""
    return f" [{', '.join(unnamed[:_NAMES_SHOWN])}{more}]"


def _few_rows(cases: Sequence[CaseFacts]) -> list[CaseFacts]:
    """All cases where they are few, else those with problems first, then as many others as there is room for."""
    if len(cases) <= _ROWS_SHOWN:
        return list(cases)
    order = sorted(range(len(cases)), key=lambda number: (not cases[number].problems, number))
    return [cases[number] for number in sorted(order[: _ROWS_SHOWN // 2])]


def _row(case: CaseFacts) -> tuple[object, ...]:
    labels = "-" if case.label_voxels is None else f"{len(case.label_voxels)}"
    intensities = "-" if case.lowest is None or case.highest is None else f"{case.lowest:g} to {case.highest:g}"
    return (
        case.name,
        case.split,
        "-" if case.size is None else " x ".join(map(str, case.size)),
        "-" if case.spacing_mm is None else " x ".join(f"{side:g}" for side in case.spacing_mm),
        case.orientation or "-",
        case.data_type or "-",
        intensities,
        labels,
        ", ".join(problem.code for problem in case.problems),
    )


def _ranges(cases: Sequence[CaseFacts]) -> list[tuple[str, str, str, str]]:
    rows = []
    for name, values in (
        ("size (voxels)", [case.size for case in cases if case.size is not None]),
        ("spacing (mm)", [case.spacing_mm for case in cases if case.spacing_mm is not None]),
        ("foreground, R A S (mm)", [case.extent_mm for case in cases if case.extent_mm is not None]),
        ("intensities, 1 %", [(case.low,) for case in cases if case.low is not None]),
        ("intensities, 99 %", [(case.high,) for case in cases if case.high is not None]),
        ("labels", [(len(case.label_voxels),) for case in cases if case.label_voxels is not None]),
    ):
        if values:
            columns = [sorted(column) for column in zip(*values, strict=True)]
            rows.append(
                (name, *(_triple([column[place] for column in columns]) for place in (0, len(values) // 2, -1)))
            )
    return rows


def _triple(values: Sequence[Any]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def _summary(dataset: PreparedDataset) -> dict[str, Any]:
    arrays = [array for case in dataset.cases for array in (case.image, case.labelmap) if array is not None]
    return {
        "folder": str(dataset.folder),
        "size": list(dataset.shape[::-1]),
        "spacing_mm": list(dataset.spacing_mm),
        "orientation": dataset.orientation,
        "reference": dataset.manifest.reference,
        "splits": dict(Counter(case.split for case in dataset.cases)),
        "labelled_cases": sum(case.has_labels for case in dataset.cases),
        "labels": len(dataset.labels),
        "megabytes": round(sum(array.size_bytes for array in arrays) / 1e6, 1),
    }


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " x ".join(f"{item:g}" for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{count} {name}" for name, count in value.items())
    return str(value)
