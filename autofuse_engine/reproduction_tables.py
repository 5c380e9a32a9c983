"""The tables of a reproduction: our figures beside those that the paper reports, ready for docs/experiments.md."""

from __future__ import annotations

import datetime
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from autofuse_engine import __version__
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.devices import resolve_device
from autofuse_engine.evaluation_statistics import EvaluationSummary
from autofuse_engine.evaluation_tables import notes, p_text
from autofuse_engine.reproduction_figures import CITATION, COLUMNS, OTHERS_DICE_PERCENT, REPORTED_DICE_PERCENT
from autofuse_engine.reproduction_plan import GROUPS, UNSUPERVISED, PlannedRun, ReproductionConfig

_FIGURES = (
    ("HD95 (mm)", "hd95_mm", 2),
    ("folding (%)", "folding_percent", 4),
    ("folding (cells)", "folding_count", 1),
    ("SDlogJ", "sd_log_jacobian", 3),
)
_NONE = "-"


def reproduction_markdown(
    config: ReproductionConfig,
    dataset: PreparedDataset,
    runs: Sequence[PlannedRun],
    summary: EvaluationSummary,
    failed: Mapping[str, str],
    refined: str = " + refinement",
) -> str:
    """An entry for docs/experiments.md: set-up, command, a table for each of the paper's, and what they say.

    Args:
        config: of the reproduction.
        dataset: that it trained on.
        runs: networks that were trained.
        summary: of the evaluation; methods that end with ``refined`` are the same networks with refinement.
        failed: by name of the network why it was not trained.
        refined: see ``summary``.
    """
    of_runs = {planned.name for planned in runs}
    others = [method.name for method in summary.methods if method.name.removesuffix(refined) not in of_runs]
    lines = [
        f"## {datetime.date.today().isoformat()}  How do the networks compare on the {config.target} at equal steps?",
        f"Set-up: {_set_up(config, dataset, summary)}",
        f"Command: `{_command(config)}`.",
        "Result: mean and standard deviation over the pairs; Dice in percent. The columns on the right are what the "
        f"paper reports for its own data ({CITATION}).",
        "",
    ]
    for group in GROUPS:
        names = [planned.name for planned in runs if planned.group == group]
        if group == UNSUPERVISED:
            names = [*others, *names]
        if names:
            lines += [f"### {group}", *_table(summary, names, refined), ""]
    lines += ["### Reported by the paper, not run here", *_others_table(), ""]
    lines += [f"{note}  " for note in notes(summary)[1:]]  # the first one explains columns of another table
    lines += [f"{name} was not trained: {text}  " for name, text in failed.items()]
    return "\n".join([*lines, _answer(summary, refined), ""])


def _table(summary: EvaluationSummary, names: Sequence[str], refined: str) -> list[str]:
    known = {method.name: method for method in summary.methods}
    names = [name for name in names if name in known]
    columns = [column for column in COLUMNS if any(column in REPORTED_DICE_PERCENT.get(name, {}) for name in names)]
    with_refinement = any(name + refined in known for name in names)
    header = ["method", "Dice (%)", "p", *(["with refinement"] if with_refinement else [])]
    header += [*(title for title, _, _ in _FIGURES), "seconds, median"] + [f"paper: {column}" for column in columns]
    best = max((_dice(summary, name) for name in names), default=0.0)
    lines = [f"| {' | '.join(header)} |", f"| --- |{' ---: |' * (len(header) - 1)}"]
    for name in names:
        shown = _dice_text(summary, name)
        cells = [name, f"**{shown}**" if _dice(summary, name) == best > 0 else shown, p_text(summary, name)]
        if with_refinement:
            cells.append(_dice_text(summary, name + refined))
        for _, figure, decimals in _FIGURES:
            mean = known[name].mean(figure)
            cells.append(_NONE if mean is None else f"{mean:.{decimals}f}")
        seconds = known[name].figures.get("seconds")
        cells.append(_NONE if seconds is None else f"{seconds.median:.2f}")
        reported = REPORTED_DICE_PERCENT.get(name, {})
        cells += [f"{reported[column]:.1f}" if column in reported else _NONE for column in columns]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _others_table() -> list[str]:
    columns = COLUMNS[:4]
    lines = [f"| method | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    for name, reported in OTHERS_DICE_PERCENT.items():
        cells = [f"{reported[column]:.1f}" if column in reported else _NONE for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _dice(summary: EvaluationSummary, name: str) -> float:
    method = next((method for method in summary.methods if method.name == name), None)
    return 0.0 if method is None else method.mean("dice") or 0.0


def _dice_text(summary: EvaluationSummary, name: str) -> str:
    method = next((method for method in summary.methods if method.name == name), None)
    found = None if method is None else method.figures.get("dice")
    if found is None:
        return _NONE
    return f"{100 * found.mean:.1f}" + ("" if found.sd is None else f" ± {100 * found.sd:.1f}")


def _set_up(config: ReproductionConfig, dataset: PreparedDataset, summary: EvaluationSummary) -> str:
    size = config.size
    splits = ", ".join(f"{count} {split}" for split, count in Counter(case.split for case in dataset.cases).items())
    grid = " x ".join(map(str, dataset.shape))
    spacing = " x ".join(f"{side:g}" for side in dataset.spacing_mm)
    name = dataset.manifest.dataset.get("name") or config.target
    device = resolve_device(config.device)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return (
        f"{name} ({splits} cases, {len(dataset.labels)} labels), aligned once by an affine transform, grid {grid} "
        f"voxels of {spacing} mm; {summary.pairs} pairs of the validation split; {size.steps} steps of one pair "
        f"each, learning rate {size.learning_rate:g}, AutoFuse of width {size.channels} and all others in their "
        f"ratio to it, last checkpoint; seed {config.seed}; {machine}; engine {__version__}{_commit()}, "
        f"torch {torch.__version__}."
    )


def _command(config: ReproductionConfig) -> str:
    parts = [f"autofuse reproduce {config.target} --budget {config.budget} --data DATASET --out DIR"]
    for option, value in (("steps", config.steps), ("channels", config.channels), ("spacing", config.spacing_mm)):
        if value is not None:
            parts.append(f"--{option} {value:g}")
    if config.label_rules is not None:
        parts.append(f"--labels {Path(config.label_rules).name}")
    if config.methods is not None:
        parts.append(f"--methods {' '.join(config.methods)}")
    return " ".join([*parts, f"--pairs {config.pairs} --seed {config.seed}"])


def _commit() -> str:
    """The commit of a source checkout, empty for an installed package."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short", "HEAD"],
            capture_output=True, encoding="utf-8", timeout=20, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return f" (commit {done.stdout.strip()})" if done.returncode == 0 else ""


def _answer(summary: EvaluationSummary, refined: str) -> str:
    """The best method with and without refinement, as the figures say."""
    if summary.compared != "dice":
        return ""
    scored = [method for method in summary.methods if "dice" in method.figures]
    parts = []
    for about, chosen in (
        ("without refinement", [method for method in scored if not method.name.endswith(refined)]),
        ("with it", [method for method in scored if method.name.endswith(refined)]),
    ):
        if chosen:
            best = max(chosen, key=lambda method: method.figures["dice"].mean)
            parts.append(f"{about} {best.name.removesuffix(refined)} ({100 * best.figures['dice'].mean:.1f} %)")
    return f"Answer: the highest mean Dice has {', and '.join(parts)}."
