"""The commands ``autofuse models describe``, ``page`` and ``pages``: a model's card, completed and shown to people."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from autofuse_engine import catalog
from autofuse_engine.data.atomic import replacing
from autofuse_engine.errors import InputError
from autofuse_engine.model_card import ModelCard, read_card
from autofuse_engine.model_description import (
    describe_model,
    label_names_of,
    range_of_dataset,
    validation_of_evaluation,
)
from autofuse_engine.model_page import INDEX, index_text, page_name, page_text
from autofuse_engine.terminal import ProgressDisplay, print_json, require_packages


def describe_command(options: argparse.Namespace) -> int:
    """Write a card again with what the options say."""
    require_packages(*([] if options.quiet else ["rich"]))
    with ProgressDisplay(quiet=options.quiet) as display:

        def changes(card: ModelCard) -> Mapping[str, Any]:
            values = card_values(options, card)
            if options.images is not None:
                measured = range_of_dataset(options.images, card.preprocessing, report=display)
                shares = {} if card.training_range is None else card.training_range.label_shares
                values["training_range"] = replace(measured, label_shares=shares)
            if options.evaluation is not None:
                values["validation"] = validation_of_evaluation(
                    options.evaluation,
                    options.evaluated_on or "Validation cases",
                    device=options.evaluated_with,
                    label_names=label_names_of(card),
                )
            return values

        entry = describe_model(options.name, changes)
    if options.json:
        print_json({"status": "ok", "files": {"card": str(entry.card_path)}})
    elif not options.quiet:
        print(f"Wrote {entry.card_path}.")
    return 0


def card_values(options: argparse.Namespace, card: ModelCard) -> dict[str, Any]:
    """The card's fields that the options give, the others empty."""
    use = {"modality": options.modality, "body_part": options.body_part, "spacing_range_mm": options.spacing_range}
    given = {name: value for name, value in use.items() if value not in ("", None)}
    try:
        intended_use = replace(card.intended_use, **given) if given else None
    except ValueError as error:
        raise InputError("options-invalid", f"An option is invalid: {error}.", "Correct it and run again.") from error
    told = {"commit": options.commit, "note": options.note}
    provenance = {name: value for name, value in told.items() if value}
    return {
        "title": options.title,
        "licence": options.licence,
        "attribution": options.attribution,
        "citation": options.citation,
        "not_for": tuple(options.not_for),
        "known_failures": tuple(options.known_failure),
        "intended_use": intended_use,
        "refinement_steps": options.refinement_steps,
        "label_weight": options.label_weight,
        "training": {**card.training, **provenance} if provenance else None,
    }


def page_command(options: argparse.Namespace) -> int:
    """The page of one model, to a file or to the terminal."""
    text = page_text(read_card(catalog.find(options.name).card_path))
    if options.output is None and not options.json:
        print(text, end="")
        return 0
    if options.output is not None:
        _write(options.output, text)
    if options.json:
        files = {} if options.output is None else {"page": str(options.output)}
        print_json({"status": "ok", "files": files, "text": text})
    elif not options.quiet:
        print(f"Wrote {options.output}.")
    return 0


def pages_command(options: argparse.Namespace) -> int:
    """The pages of all shipped models, and the index."""
    cards = [entry.card for entry in catalog.list_models() if entry.shipped and entry.card is not None]
    files = {page_name(card.name): page_text(card) for card in cards} | {INDEX: index_text(cards)}
    for name, text in files.items():
        _write(options.folder / name, text)
    if options.json:
        print_json({"status": "ok", "files": {name: str(options.folder / name) for name in files}})
    elif not options.quiet:
        print(f"Wrote {len(cards)} pages and the index to {options.folder}.")
    return 0


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
