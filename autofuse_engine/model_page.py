"""A model's card as a page for people, in Markdown; and the index of the pages. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from autofuse_engine.image_facts import TrainingRange
from autofuse_engine.model_card import ModelCard
from autofuse_engine.model_fit import spacing_range_mm
from autofuse_engine.model_validation import MethodFigures, ModelValidation

INDEX = "README.md"
_PROVENANCE = "Written by `autofuse models pages` from the card; change the card, not this page."


def page_name(name: str) -> str:
    """File name of a model's page."""
    return f"{name}.md"


def page_text(card: ModelCard) -> str:
    """The page of one model: what it is for, data and licence, training, validation, limits."""
    parts = [
        f"# {card.title or card.name}",
        f"`{card.name}`: {_about(card)}. **Not for clinical use.**",
        _use(card),
        _range(card.training_range),
        _data(card),
        _training(card),
        _validation(card.validation),
        _limits(card),
        _files(card),
        _PROVENANCE,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def index_text(cards: Iterable[ModelCard]) -> str:
    """The list of the shipped models, with a link to the page of each."""
    listed = sorted(cards, key=lambda card: card.name)
    lines = [
        "# Models that come with AutoFuse",
        "Every model has a page, written from its card. **None of them is for clinical use.** Which one a registration "
        "takes by itself, and when it warns, is told in [model-format.md](../model-format.md).",
    ]
    if not listed:
        lines.append("No model is shipped yet: registrations run without one, by refinement alone.")
        return "\n\n".join(lines) + "\n"
    rows = [
        (
            f"[{card.name}]({page_name(card.name)})",
            card.intended_use.modality or "-",
            card.intended_use.body_part or "-",
            _spacings(card) or "-",
            _megabytes(card),
            _short_licence(card.licence),
        )
        for card in listed
    ]
    lines.append(_table(("model", "modality", "body part", "voxels of images", "size", "licence"), rows))
    return "\n\n".join(lines) + "\n"


def _about(card: ModelCard) -> str:
    use = card.intended_use
    words = " of the ".join(word for word in (use.modality, use.body_part) if word)
    sides = " x ".join(f"{side:g}" for side in card.preprocessing.spacing_mm)
    network = f"network `{card.network.kind}` with {card.network.channels} channels in its first stage"
    classes = f", segments {card.network.classes} classes" if card.network.classes else ""
    lends = "" if card.predicts_field else ". It predicts no field: its labels of both images guide the refinement"
    return f"{words + ', ' if words else ''}works at {sides} mm, {network}{classes}{lends}"


def _use(card: ModelCard) -> str:
    use = card.intended_use
    rows = [("modality", use.modality), ("body part", use.body_part), ("voxels of images", _spacings(card))]
    lines = [f"- {name}: {value}" for name, value in rows if value]
    lines += [f"- not for: {text}" for text in card.not_for]
    return "\n".join(["## Intended use", "", *lines]) if lines else ""


def _range(known: TrainingRange | None) -> str:
    if known is None:
        return ""
    facts: list[tuple[str, Sequence[float], int]] = [
        ("voxel side, mm", known.spacing_mm, 2),
        ("field of view, mm", known.field_of_view_mm, 0),
        ("foreground, ml", known.foreground_ml, 0),
        ("foreground, share of the image", known.foreground_share, 2),
    ]
    facts += [(f"intensity, {_WORDS.get(name, name)}", known.intensities[name], 2) for name in known.intensities]
    rows = [(name, *(f"{value:.{digits}f}" for value in values)) for name, values, digits in facts]
    cases = ", ".join(f"{count} {split}" for split, count in known.cases.items())
    intro = (
        f"Measured on the images of the training cases ({cases}); intensities are those of the foreground, mapped to "
        "0..1. Images outside of this range make the program warn."
    )
    return "\n\n".join(
        [
            "## What the training images look like",
            intro,
            _table(("", "lowest", "5 %", "median", "95 %", "highest"), rows),
        ]
    )


_WORDS = {"sd": "standard deviation"} | {f"p{percent}": f"{percent}th percentile" for percent in (10, 25, 50, 75, 90)}


def _data(card: ModelCard) -> str:
    data = _mapping(card.training.get("dataset"))
    lines = [
        f"- data: {data['name']}" if data.get("name") else "",
        f"- what they show: {data['description']}" if data.get("description") else "",
        f"- split: {_split(data)}" if data.get("cases") else "",
        f"- licence: {card.licence}" if card.licence else "",
        f"- attribution: {card.attribution}" if card.attribution else "",
        f"- cite: {card.citation}" if card.citation else "",
    ]
    return "\n".join(["## Data and licence", "", *filter(None, lines)]) if any(lines) else ""


def _split(data: Mapping[str, Any]) -> str:
    cases = ", ".join(f"{count} {split}" for split, count in _mapping(data["cases"]).items())
    labelled = data.get("labelled_training_cases")
    return cases if labelled is None else f"{cases}; labels of {labelled} training cases were at hand"


def _training(card: ModelCard) -> str:
    facts, config = card.training, _mapping(card.training.get("config"))
    stages = [stage for stage in config.get("stages") or () if isinstance(stage, Mapping)]
    schedule = "; ".join(
        f"{stage.get('steps')} steps on {stage.get('pairs', 'any')} pairs at {stage.get('learning_rate', '?')}"
        for stage in stages
    )
    best = _mapping(facts.get("validation"))
    chosen = ", ".join(f"{key} {value:.4g}" for key, value in best.items() if isinstance(value, (int, float)))
    lines = [
        f"- steps: {facts['step']}, checkpoint: {facts.get('checkpoint', '?')}" if facts.get("step") else "",
        f"- schedule: {schedule}" if schedule else "",
        f"- losses: {_pairs_of(config.get('losses'))}" if config.get("losses") else "",
        f"- seed: {config['seed']}" if config.get("seed") is not None else "",
        f"- made with: AutoFuse {facts['engine']}, PyTorch {facts.get('torch', '?')}" if facts.get("engine") else "",
        f"- commit: {facts['commit']}" if facts.get("commit") else "",
        f"- note: {facts['note']}" if facts.get("note") else "",
        f"- validation while it was trained: {chosen}" if chosen else "",
    ]
    return "\n".join(["## Training", "", *filter(None, lines)]) if any(lines) else ""


def _validation(table: ModelValidation | None) -> str:
    if table is None or not table.rows:
        return ""
    labels = list(dict.fromkeys(label for row in table.rows for label in row.dice_per_label))
    few = labels if len(labels) <= 8 else []
    header = ("method", "pairs", "Dice", *(f"Dice of {label}" for label in few), "HD95, mm", "folding, %", "seconds")
    rows = [_validation_row(row, few) for row in table.rows]
    where = f" Seconds on {table.device}, of the method alone." if table.device else ""
    return "\n\n".join(["## Validation", f"{table.data}.{where}".replace("..", "."), _table(header, rows)])


def _validation_row(row: MethodFigures, labels: Iterable[str]) -> tuple[str, ...]:
    dice = _number(row.dice, 3)
    if row.dice is not None and row.dice_sd is not None:
        dice += f" +- {row.dice_sd:.3f}"
    per_label = (_number(row.dice_per_label.get(label), 3) for label in labels)
    return (
        row.method, str(row.pairs), dice, *per_label, _number(row.hd95_mm, 2), _number(row.folding_percent, 4),
        _number(row.seconds, 2),
    )  # fmt: skip


def _limits(card: ModelCard) -> str:
    texts = [f"- {text}" for text in card.known_failures]
    shown = [f"![{name}]({name})" for name in pictures(card)]
    return "\n\n".join(["## Known failures", "\n".join(texts), *shown]) if texts else ""


def pictures(card: ModelCard) -> list[str]:
    """File names of the pictures that the known failures name; they lie beside the page."""
    return [word for text in card.known_failures for word in re.findall(r"[\w.-]+\.png", text)]


def _files(card: ModelCard) -> str:
    if card.weights is None:
        return ""
    weights = card.weights
    return (
        "## Files\n\n"
        f"`{card.name}.safetensors`, {_megabytes(card)}, {weights.storage}, SHA-256 `{weights.sha256}`; "
        f"`{card.name}.json` is the card."
    )


def _spacings(card: ModelCard) -> str:
    limits = spacing_range_mm(card)
    return "" if limits is None else f"{limits[0]:.2g} to {limits[1]:.2g} mm"


def _megabytes(card: ModelCard) -> str:
    return "-" if card.weights is None else f"{card.weights.size_bytes / 1e6:.1f} MB"


def _short_licence(licence: str) -> str:
    return licence.split(";")[0].split("\n")[0] or "-"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _pairs_of(content: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in _mapping(content).items())


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)
