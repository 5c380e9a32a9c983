"""Cards are completed and shown: measured ranges, tables of evaluations, pages; and what old cards mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autofuse_engine import catalog
from autofuse_engine.cli import main
from autofuse_engine.configs import NetworkConfig
from autofuse_engine.data.files import write_volume
from autofuse_engine.data.manifest import read_manifest
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.data.volume import Volume
from autofuse_engine.dataset_configs import PreparationConfig
from autofuse_engine.dataset_preparation import prepare_dataset
from autofuse_engine.errors import AutoFuseError
from autofuse_engine.evaluation_rows import PairRow, append_row
from autofuse_engine.image_facts import TrainingRange
from autofuse_engine.model_card import IntendedUse, ModelCard, Preprocessing, read_card
from autofuse_engine.model_description import (
    label_names_of,
    label_shares,
    range_of_dataset,
    range_of_manifest,
    validation_of_evaluation,
)
from autofuse_engine.model_page import index_text, page_text
from Testing.engine.test_catalog import write_model
from Testing.engine.training_runs import tiny_dataset

PREPROCESSING = Preprocessing(spacing_mm=(2.0, 2.0, 2.0), intensity_percentiles=(0.0, 99.5))


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the user's models, and no shipped one."""
    folder = tmp_path / "Modelle äöü"
    monkeypatch.setenv("AUTOFUSE_MODELS", str(folder))
    monkeypatch.setattr(catalog, "SHIPPED_FOLDER", tmp_path / "shipped")
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three training cases and one for validation, flipped and anisotropic, of growing size."""
    root = tmp_path_factory.mktemp("Bilder für alle") / "raw"
    random = np.random.default_rng(5)
    for number, (split, side) in enumerate((("Tr", 6), ("Tr", 7), ("Tr", 8), ("Val", 9))):
        array = np.zeros((16, 18, 20), np.float32)
        array[4 : 4 + side, 5 : 5 + side, 4:16] = random.uniform(50, 200, (side, side, 12))
        matrix = np.diag([-2.0, 1.5, 2.5, 1.0])
        matrix[:3, 3] = 30.0, -20.0, 5.0
        for kind, values in (("images", array), ("labels", (array > 0).astype(np.uint8))):
            folder = root / f"{kind}{split}"
            folder.mkdir(parents=True, exist_ok=True)
            write_volume(folder / f"case{number}.nii.gz", Volume(array=values, ras_from_ijk=matrix))
    return root


def test_the_range_is_measured_on_the_training_cases_alone(dataset: Path) -> None:
    known = range_of_dataset(dataset, PREPROCESSING)
    assert known.cases == {"train": 3, "validation": 1}
    voxel_ml = 2.0 * 1.5 * 2.5 / 1000
    assert known.foreground_ml[0] == pytest.approx(6 * 6 * 12 * voxel_ml, abs=1e-3)
    assert known.foreground_ml[-1] == pytest.approx(8 * 8 * 12 * voxel_ml, abs=1e-3)
    assert (known.spacing_mm[0], known.spacing_mm[-1]) == (1.5, 2.5)
    assert (known.field_of_view_mm[0], known.field_of_view_mm[-1]) == (27.0, 40.0)


def test_splits_of_the_preparation_count_more_than_those_of_the_dataset(dataset: Path) -> None:
    known = range_of_dataset(dataset, PREPROCESSING, splits={"case0": "validation", "case3": "train"})
    assert known.cases == {"validation": 1, "train": 1}
    assert known.foreground_ml[0] == known.foreground_ml[-1]
    with pytest.raises(AutoFuseError) as caught:
        range_of_dataset(dataset, PREPROCESSING, splits={"case0": "test"})
    assert caught.value.code == "pairs-too-few"


def test_a_preparation_leaves_the_same_measures(dataset: Path, tmp_path: Path) -> None:
    config = PreparationConfig(alignment="centers", spacing_mm=(2.0, 2.0, 2.0))
    prepare_dataset(dataset, tmp_path / "prepared", config)
    manifest = read_manifest(tmp_path / "prepared")
    assert range_of_manifest(manifest) == range_of_dataset(dataset, manifest.preprocessing)


def test_shares_of_the_labelled_volume_are_those_of_the_training_cases(tmp_path: Path) -> None:
    prepared = PreparedDataset.open(tiny_dataset(tmp_path / "vorbereitet"))
    values = sorted(label.value for label in prepared.labels)
    counts = np.array(
        [
            [int((np.asarray(prepared.labelmap(number)) == value).sum()) for value in values]
            for number, case in enumerate(prepared.cases)
            if case.split == "train" and case.has_labels
        ]
    )
    assert len(counts) > 1
    found = counts / counts.sum(axis=1, keepdims=True)
    shares = label_shares(prepared.folder)
    assert list(shares) == [str(number + 1) for number in range(len(values))]
    for number in range(len(values)):
        expected = np.percentile(found[:, number], (0, 5, 50, 95, 100))
        assert shares[str(number + 1)] == pytest.approx(expected, abs=1e-6)


def test_measuring_the_images_again_keeps_the_shares_of_the_labels(dataset: Path, user: Path) -> None:
    path = write_model(user, "a").with_suffix(".json")
    content = json.loads(path.read_text(encoding="utf-8"))
    content["training_range"] = replace(range_of_dataset(dataset, PREPROCESSING), label_shares=SHARES).to_dict()
    content["training_range"]["spacing_mm"] = [9, 9, 9, 9, 9]
    content["network"]["classes"] = 2
    path.write_text(json.dumps(content), encoding="utf-8")
    assert main(["models", "describe", "a", "--images", str(dataset), "--quiet"]) == 0
    known = read_card(path).training_range
    assert known is not None
    assert known.spacing_mm[0] == 1.5
    assert known.label_shares == SHARES


SHARES = {"1": (0.1, 0.2, 0.3, 0.4, 0.5)}


@pytest.mark.parametrize("shares", [{"one": (0, 0, 0, 0, 0)}, {"1": (0, 1)}, {"1": (0.5, 0.4, 0.4, 0.4, 0.4)}, [1]])
def test_shares_that_are_none_are_refused(dataset: Path, shares: Any) -> None:
    known = range_of_dataset(dataset, PREPROCESSING)
    assert TrainingRange(**known.to_dict()) == known
    with pytest.raises(ValueError, match=r"label|five numbers"):
        replace(known, label_shares=shares)


def rows(folder: Path) -> Path:
    for number, (fixed, moving) in enumerate((("a", "b"), ("b", "c"))):
        for method, dice, seconds in (("refinement", 0.7, 4.0), ("net", 0.8, 0.5)):
            append_row(
                folder,
                PairRow(
                    method=method, fixed=fixed, moving=moving, dice=dice + number / 10, dice_before=0.5,
                    folding_percent=0.0, seconds=seconds, dice_per_label={"7": dice, "9": dice + number / 5},
                ),
            )  # fmt: skip
    append_row(folder, PairRow(method="net", fixed="x", moving="y", seconds=0.1, error="It failed."))
    return folder


def test_the_table_of_an_evaluation_has_means_of_the_pairs_that_succeeded(tmp_path: Path) -> None:
    table = validation_of_evaluation(rows(tmp_path / "out"), "Two pairs", label_names={"7": "anterior"})
    affine, refinement, net = table.rows
    assert (affine.method, affine.dice, affine.pairs) == ("affine", 0.5, 2)
    assert (refinement.method, refinement.seconds) == ("refinement", 4.0)
    assert (net.dice, net.pairs) == (0.85, 2)
    assert net.dice_sd == pytest.approx(np.std([0.8, 0.9], ddof=1), abs=1e-4)
    assert net.dice_per_label == {"anterior": 0.8, "9": 0.9}


def test_a_folder_without_figures_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(AutoFuseError) as caught:
        validation_of_evaluation(tmp_path, "Nothing")
    assert caught.value.code == "evaluation-invalid"


def test_describe_changes_the_card_and_leaves_the_weights(
    user: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = write_model(user, "kidney")
    before = weights.read_bytes()
    arguments = ["models", "describe", "kidney", "--modality", "CT", "--body-part", "abdomen", "--licence", "CC0",
                 "--attribution", "A. Müller", "--not-for", "children", "--known-failure", "turned by 90 degrees",
                 "--spacing-range", "0.5", "3", "--images", str(dataset), "--evaluation", str(rows(tmp_path / "out")),
                 "--evaluated-on", "2 pairs of liver", "--commit", "abc123", "--quiet"]  # fmt: skip
    assert main(arguments) == 0
    card = read_card(weights.with_suffix(".json"))
    assert weights.read_bytes() == before
    assert (card.title, card.licence, card.attribution) == ("The kidney", "CC0", "A. Müller")
    assert card.intended_use == IntendedUse(modality="CT", body_part="abdomen", spacing_range_mm=(0.5, 3.0))
    assert (card.not_for, card.known_failures) == (("children",), ("turned by 90 degrees",))
    assert card.training_range is not None
    assert card.training_range.cases["train"] == 3
    assert card.validation is not None
    assert [row.method for row in card.validation.rows] == ["affine", "refinement", "net"]
    assert main(["models", "describe", "kidney", "--title", "Kidneys", "--quiet"]) == 0
    again = read_card(weights.with_suffix(".json"))
    assert (again.title, again.validation) == ("Kidneys", card.validation)
    assert main(["models", "page", "kidney"]) == 0
    page = capsys.readouterr().out
    for words in ("# Kidneys", "CT of the abdomen", "Not for clinical use", "- licence: CC0", "A. Müller",
                  "0.5 to 3 mm", "- not for: children", "turned by 90 degrees", "- commit: abc123", "2 pairs of liver",
                  "| net | 2 | 0.850 +- 0.071 |"):  # fmt: skip
        assert words in page, words


def test_a_wrong_value_is_refused_and_the_card_stays(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = write_model(user, "kidney").with_suffix(".json")
    before = card.read_bytes()
    assert main(["models", "describe", "kidney", "--spacing-range", "3", "1"]) == 2
    assert "spacing_range_mm" in capsys.readouterr().err
    assert card.read_bytes() == before


def test_pages_of_all_shipped_models_and_their_index_are_written(tmp_path: Path) -> None:
    write_model(catalog.SHIPPED_FOLDER, "brain")
    folder = tmp_path / "Seiten für alle"
    folder.mkdir()
    assert main(["models", "pages", str(folder), "--quiet"]) == 0
    assert {path.name for path in folder.iterdir()} == {"brain.md", "README.md"}
    assert "[brain](brain.md)" in (folder / "README.md").read_text(encoding="utf-8")


def test_a_page_to_a_file_is_what_the_terminal_shows(
    user: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(user, "kidney")
    assert main(["models", "page", "kidney"]) == 0
    shown = capsys.readouterr().out
    assert main(["models", "page", "kidney", "-o", str(tmp_path / "page.md"), "--quiet"]) == 0
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == shown


def test_without_shipped_models_the_index_says_so() -> None:
    assert "No model is shipped yet" in index_text([])


def test_tables_of_a_page_have_equally_many_columns_in_each_row(user: Path, dataset: Path, tmp_path: Path) -> None:
    card = read_card(write_model(user, "kidney").with_suffix(".json"))
    table = validation_of_evaluation(rows(tmp_path / "out"), "Two | pairs")
    values: dict[str, Any] = {"training_range": range_of_dataset(dataset, PREPROCESSING), "validation": table}
    page = page_text(ModelCard.from_dict({**card.to_dict(), **{name: item.to_dict() for name, item in values.items()}}))
    blocks = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 2
    for block in blocks:
        assert len({line.count("|") for line in block}) == 1


@pytest.mark.parametrize(
    "drop",
    [
        lambda content: content.pop("training_range"),
        lambda content: content.pop("validation"),
        lambda content: content["intended_use"].pop("spacing_range_mm"),
    ],
)
def test_cards_of_version_1_are_read_and_keep_their_meaning(user: Path, drop: Callable[[Any], object]) -> None:
    path = write_model(user, "old").with_suffix(".json")
    content = json.loads(path.read_text(encoding="utf-8"))
    content["schema"] = 1
    drop(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    card = read_card(path)
    assert (card.schema, card.training_range, card.validation, card.known_failures) == (1, None, None, ())
    assert page_text(card)


def test_labels_have_the_names_that_the_dataset_gave_them() -> None:
    labels = [{"value": 1, "name": "anterior", "sources": [4, 5]}, {"value": 2, "name": "posterior", "sources": []}]
    card = ModelCard(name="m", network=NetworkConfig(channels=2), training={"dataset": {"labels": labels}})
    assert label_names_of(card) == {"4": "anterior", "5": "anterior", "2": "posterior"}


def test_labels_have_the_names_of_the_classes_that_they_became() -> None:
    classes = [{"value": 0, "name": "background"}, {"value": 1, "name": "Caudate", "labels": [36, 37]}]
    card = ModelCard(name="m", network=NetworkConfig(classes=2), training={"classes": classes, "note": "Two halves."})
    assert label_names_of(card) == {"36": "Caudate", "37": "Caudate"}
    assert "- note: Two halves." in page_text(replace(card, training={**card.training, "step": 5}))
