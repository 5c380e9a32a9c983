"""The words of the panel for what the engine reports: datasets, states of runs, trials, times."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

from slicer.i18n import tr as _

from autofuse_engine.errors import AutoFuseError
from autofuse_engine.model_card import ModelCard
from AutoFuseLib.PreparedFolder import PreparedFolder
from AutoFuseLib.RunWatcher import RunView

COLORS = {"error": "#d64541", "warning": "#d98e04", "info": "#3a86c8", "good": "#2e9e4f"}
"""Legible on the light and on the dark theme."""

_GIB_TO_GB = 1.073741824
_LABELS_SHOWN, _PROBLEMS_SHOWN, _NAMES_SHOWN = 12, 12, 6
_MINUTE_S, _HOUR_S = 60, 3600


def dot(level: str) -> str:
    """A coloured dot."""
    return f'<span style="color:{COLORS[level]}">&#9679;</span>'


def errorText(error: AutoFuseError) -> str:
    """An error as rich text."""
    return f"{dot('error')} <b>{html.escape(error.text)}</b><br>{html.escape(error.hint)}"


def datasetText(report: Mapping[str, Any]) -> str:
    """What a dataset is, in some lines of rich text."""
    counts = report["counts"]
    splits = ", ".join(f"{count} {splitName(split)}" for split, count in report["splits"].items())
    name = (report.get("about") or {}).get("name") or report["layout"]
    level = "error" if counts["error"] else "warning" if counts["warning"] else "good"
    verdict = _("It cannot be used as it is.") if counts["error"] else _("It can be used.")
    lines = [
        f"{dot(level)} <b>{html.escape(str(name))}</b>: {html.escape(splits)}; "
        + html.escape(_("{count} with labels").format(count=report["labelled_cases"]))
        + f". {html.escape(verdict)}"
    ]
    labels = report["labels"]
    if labels:
        shown = [f"{label['name'] or label['value']} ({label['cases']})" for label in labels[:_LABELS_SHOWN]]
        more = _(" and {count} more").format(count=len(labels) - len(shown)) if len(labels) > len(shown) else ""
        lines.append(html.escape(_("Labels (cases): {labels}").format(labels=", ".join(shown) + more + ".")))
    return "<br>".join(lines)


def problemsText(report: Mapping[str, Any]) -> str:
    """Every problem in words with its cure; errors first, as the report has them."""
    problems = report["problems"]
    lines = []
    for problem in problems[:_PROBLEMS_SHOWN]:
        line = f"{dot(problem['severity'])} {html.escape(problem['text'])}"
        names = [name for name in problem["cases"] if name not in problem["text"]][:_NAMES_SHOWN]
        if names:
            line += " " + html.escape(f"[{', '.join(names)}]")
        if problem["hint"]:
            line += f"<br>&nbsp;&nbsp;&nbsp;<i>{html.escape(problem['hint'])}</i>"
        lines.append(line)
    if len(problems) > len(lines):
        lines.append(_("... and {count} more.").format(count=len(problems) - len(lines)))
    return "<br>".join(lines)


def splitName(split: str) -> str:
    """A split in the user's words."""
    return {
        "train": _("for training"),
        "validation": _("for validation"),
        "test": _("for testing"),
    }.get(split, split)


def caseRow(case: Mapping[str, Any]) -> tuple[str, ...]:
    """One case: name, split, size, spacing, labels, problems."""
    labels = case.get("label_voxels")
    return (
        case["name"],
        case["split"],
        " x ".join(str(side) for side in case.get("size") or ()),
        " x ".join(f"{side:g}" for side in case.get("spacing_mm") or ()),
        "" if labels is None else str(len(labels)),
        ", ".join(problem["code"] for problem in case.get("problems") or ()),
    )


def caseTitles() -> tuple[str, ...]:
    """Headers of the columns of :func:`caseRow`."""
    return _("Case"), _("Split"), _("Size"), _("Spacing, mm"), _("Labels"), _("Problems")


def preparedText(prepared: PreparedFolder) -> str:
    """A prepared dataset in a sentence."""
    return _("{name}: {cases}; {size} voxels of {spacing} mm; {labels} labels.").format(
        name=prepared.name,
        cases=", ".join(f"{count} {splitName(split)}" for split, count in prepared.splits.items()),
        size=" x ".join(map(str, prepared.size)),
        spacing=" x ".join(f"{side:g}" for side in prepared.spacingMm),
        labels=len(prepared.labels),
    )


def startText(card: ModelCard, prepared: PreparedFolder | None) -> str:
    """What a training begins with, and whether the prepared images are like those that the model knows."""
    known = card.preprocessing.spacing_mm
    text = _("Begins with {title}: {kind}, {channels} channels, trained at {spacing} mm.").format(
        title=card.title or card.name,
        kind=card.network.kind,
        channels=card.network.channels,
        spacing=" x ".join(f"{side:g}" for side in known),
    )
    if prepared is not None and any(abs(a / b - 1) > 0.05 for a, b in zip(known, prepared.spacingMm, strict=True)):
        text += " " + _("A dataset that is prepared at that spacing gains more from it.")
    return text


def stageName(stage: str) -> str:
    """A stage of a job in the user's words."""
    return {
        "": _("Starting the worker process; the first time takes some seconds..."),
        "check": _("Reading the images..."),
        "initial alignment": _("Aligning..."),
        "outputs": _("Writing the prepared images..."),
        "trial": _("Trying some steps..."),
        "label trial": _("Trying on validation pairs whether the model's labels help its refinement..."),
    }.get(stage, stage)


def stateName(state: str) -> str:
    """The state of a run in the user's words."""
    return {
        "starting": _("starting"),
        "running": _("running"),
        "stopping": _("stopping"),
        "finished": _("finished"),
        "stopped": _("paused"),
        "failed": _("failed"),
        "interrupted": _("interrupted"),
        "new": _("not begun"),
        "unreadable": _("not readable"),
    }.get(state, state)


def stateLevel(state: str) -> str:
    """The colour of a state."""
    if state in ("failed", "interrupted", "unreadable"):
        return "error"
    return "good" if state in ("running", "finished") else "info" if state != "stopped" else "warning"


def runText(view: RunView) -> str:
    """How a run stands: step, loss, Dice, time per step, remaining time; or what went wrong."""
    lines = [
        f"{dot(stateLevel(view.state))} <b>{html.escape(view.folder.name)}</b>: {html.escape(stateName(view.state))}."
    ]
    status = view.status
    if view.state == "starting":
        lines.append(html.escape(_("Loading; the first step takes some seconds to a minute.")))
    if status is not None and status.step:
        segmented = status.validation.get("segmentation_dice")
        figures = [_("Step {step} of {steps}").format(step=status.step, steps=status.steps)]
        figures += _figure(_("loss {value:.4f}"), status.metrics.get("loss"))
        figures += _figure(_("Dice {value:.3f}"), status.validation.get("dice"))
        if status.validation.get("dice") is None:
            figures += _figure(_("similarity {value:.3f}"), status.validation.get("similarity"))
        figures += _figure(_("{value:.2f} s a step"), status.metrics.get("seconds"))
        if view.state == "running" and status.seconds_left is not None:
            figures.append(_("about {time} left").format(time=durationText(status.seconds_left)))
        lines.append(html.escape(", ".join(figures) + "."))
        if status.learns == "segmentation":
            text = _("It learns to segment so far, not to register: Dice stays that of the alignment.")
            lines.append(html.escape(" ".join([text, *_figure(_("Dice of its segmentation {value:.3f}."), segmented)])))
        elif status.best is not None:
            text = _("Best validation score {score:.3f} at step {step}.")
            lines.append(html.escape(text.format(score=status.best["score"], step=status.best["step"])))
    if view.error is not None:
        lines.append(f"<b>{html.escape(view.error.text)}</b><br>{html.escape(view.error.hint)}")
    return "<br>".join(lines)


def trialText(report: Mapping[str, Any], mixed: bool = False) -> str:
    """What a trial found, and what would fit where it does not; ``mixed`` where not all steps take the same time."""
    seconds, need, free = report["seconds_per_step"], report["memory_gib"], report["free_gib"]
    memory = "" if need is None else _("{need:.1f} GB").format(need=need * _GIB_TO_GB)
    if memory and free is not None:
        memory += _(" of {free:.1f} GB that are free").format(free=free * _GIB_TO_GB)
    if report["fits"]:
        text = (
            _("at most {seconds:.2f} s a step, {time} in all") if mixed else _("{seconds:.2f} s a step, {time} in all")
        )
        parts = [text.format(seconds=seconds, time=durationText(report["seconds_in_all"]))]
        parts += [_("a step needs {memory}").format(memory=memory)] if memory else []
        return f"{dot('good')} " + html.escape(
            _("On {device}: ").format(device=report["device"]) + "; ".join(parts) + "."
        )
    text = _("The memory of {device} does not suffice").format(device=report["device"])
    text += _(": a step needs {memory}.").format(memory=memory) if memory else "."
    remedy = report["remedy"]
    cure = (
        _("It would fit with: {changes}.").format(changes=", ".join(remedyTexts(remedy)))
        if remedy
        else _("Prepare the dataset at a coarser spacing, or choose another device.")
    )
    return f"{dot('error')} <b>{html.escape(text)}</b><br>{html.escape(cure)}"


def remedyTexts(remedy: Mapping[str, Any]) -> list[str]:
    """Changes of a configuration in the words of the panel."""
    known = {
        "recompute": _("compute activations twice (Advanced)"),
        "precision": _("precision {value}"),
        "network.channels": _("{value} channels"),
    }
    return [known.get(name, name + " {value}").format(value=value) for name, value in remedy.items()]


def durationText(seconds: float) -> str:
    """A duration in one unit, or two."""
    if seconds < _MINUTE_S:
        return _("{count:.0f} s").format(count=max(1.0, seconds))
    if seconds < _HOUR_S:
        return _("{count:.0f} min").format(count=seconds / _MINUTE_S)
    hours = math.floor(seconds / _HOUR_S)
    if hours < 48:
        return _("{hours} h {minutes:.0f} min").format(hours=hours, minutes=(seconds - hours * _HOUR_S) / _MINUTE_S)
    return _("{count:.1f} days").format(count=hours / 24)


def _figure(text: str, value: Any) -> list[str]:
    return [text.format(value=value)] if isinstance(value, (int, float)) else []
