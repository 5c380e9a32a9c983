"""What ships as a model is small, whole, licensed and described; everything holds for no shipped model, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from autofuse_engine import catalog
from autofuse_engine.model_page import INDEX, index_text, page_name, page_text, pictures

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "autofuse_engine" / "models"
PAGES = ROOT / "docs" / "models"
LARGEST_BYTES, MOST_BYTES = 20_000_000, 60_000_000

FILES = sorted(MODELS.iterdir()) if MODELS.is_dir() else []
ENTRIES = [entry for entry in catalog.list_models() if entry.shipped]
CURE = "run 'autofuse models pages docs/models'"

each_model = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def test_the_files_are_weights_and_cards_of_a_size_that_everybody_can_download() -> None:
    assert {path.suffix for path in FILES} <= {".safetensors", ".json"}
    assert all(path.stat().st_size <= LARGEST_BYTES for path in FILES)
    assert sum(path.stat().st_size for path in FILES) <= MOST_BYTES
    stems = {suffix: {path.stem for path in FILES if path.suffix == suffix} for suffix in (".safetensors", ".json")}
    assert stems[".safetensors"] == stems[".json"] == {entry.name for entry in ENTRIES}


@each_model
def test_the_card_fits_the_weights(entry: catalog.CatalogEntry) -> None:
    assert entry.problem == ""
    card = catalog.verify(entry.name).card
    assert card is not None
    assert card.name == entry.name
    assert card.weights is not None
    assert card.weights.storage == "float16"


@each_model
def test_the_card_says_whose_data_it_was_trained_on_and_what_it_is_for(entry: catalog.CatalogEntry) -> None:
    card = entry.card
    assert card is not None
    for text in (card.title, card.licence, card.attribution, card.citation):
        assert text.strip()
    assert card.intended_use.modality
    assert card.intended_use.body_part
    assert card.not_for
    assert card.training_range is not None, "without it, the model is never chosen and never warned of"
    assert card.training["dataset"]["cases"]["train"] == card.training_range.cases["train"]


@each_model
def test_the_page_is_that_of_the_card_and_its_pictures_are_there(entry: catalog.CatalogEntry) -> None:
    assert entry.card is not None
    page = PAGES / page_name(entry.name)
    assert page.is_file(), CURE
    assert page.read_text(encoding="utf-8") == page_text(entry.card), CURE
    assert [name for name in pictures(entry.card) if not (PAGES / name).is_file()] == []


def test_the_index_lists_the_shipped_models_and_no_page_is_left_over() -> None:
    cards = [entry.card for entry in ENTRIES if entry.card is not None]
    assert (PAGES / INDEX).read_text(encoding="utf-8") == index_text(cards), CURE
    assert {path.name for path in PAGES.glob("*.md")} == {INDEX, *(page_name(entry.name) for entry in ENTRIES)}
