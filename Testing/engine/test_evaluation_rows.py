"""Rows of an evaluation survive the file, a killed process, and a second attempt."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from autofuse_engine.errors import FileError
from autofuse_engine.evaluation_rows import ROWS, PairRow, append_row, read_rows, write_csv

ROW = PairRow(
    method="best, ü",
    fixed="case 1",
    moving="case 2",
    dice=0.75,
    dice_before=0.5,
    hd95_mm=1.5,
    folding_percent=0.25,
    folding_count=12,
    seconds=1.25,
    seconds_alignment=0.5,
    dice_per_label={"2": 0.5, "10": 1.0},
    hd95_per_label_mm={"2": 2.0, "10": 1.0},
    gate_means=({"stage": 1, "level": 0, "pair_weight": 0.625},),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "Ergebnisse ä 1"


def test_a_folder_without_results_has_no_rows(folder: Path) -> None:
    assert read_rows(folder) == []


def test_rows_come_back_as_they_were_written(folder: Path) -> None:
    failed = PairRow(method="other", fixed="case 1", moving="case 2", seconds=0.0, error="It failed.")
    append_row(folder, ROW)
    append_row(folder, failed)
    assert read_rows(folder) == [ROW, failed]


def test_numbers_that_are_not_finite_become_null(folder: Path) -> None:
    infinite = {"2": float("inf"), "10": 1.0}
    append_row(folder, replace(ROW, dice=float("nan"), hd95_mm=float("inf"), hd95_per_label_mm=infinite))
    assert "NaN" not in (folder / ROWS).read_text(encoding="utf-8")
    row = read_rows(folder)[0]
    assert (row.dice, row.hd95_mm, dict(row.hd95_per_label_mm)) == (None, None, {"10": 1.0})


def test_of_two_rows_of_one_pair_the_last_counts_at_the_place_of_the_first(folder: Path) -> None:
    other = replace(ROW, method="other")
    again = replace(ROW, dice=0.8)
    for row in (ROW, other, again):
        append_row(folder, row)
    assert read_rows(folder) == [again, other]


def test_a_torn_last_line_is_left_out_and_removed_by_the_next_row(folder: Path) -> None:
    append_row(folder, ROW)
    with (folder / ROWS).open("ab") as stream:
        stream.write('{"method": "ü'.encode()[:-1])
    assert read_rows(folder) == [ROW]
    other = replace(ROW, method="other")
    append_row(folder, other)
    assert read_rows(folder) == [ROW, other]
    assert len((folder / ROWS).read_bytes().splitlines()) == 2


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ('{"method": "a", "fixed": "b", "moving": "c", "seconds": 1, "colour": 2}', "'colour'"),
        ('{"method": "a", "fixed": "b", "moving": "c"}', "'seconds'"),
        ("[1]", "not an object"),
        ("dice", "not JSON"),
    ],
)
def test_a_line_that_is_not_a_row_is_refused(folder: Path, line: str, part: str) -> None:
    append_row(folder, ROW)
    with (folder / ROWS).open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
    with pytest.raises(FileError) as caught:
        read_rows(folder)
    assert caught.value.code == "evaluation-invalid"
    assert part in caught.value.text
    assert "line 2" in caught.value.text


def test_the_table_has_a_column_for_each_label_in_their_order(folder: Path) -> None:
    append_row(folder, ROW)
    append_row(folder, PairRow(method="none", fixed="case 1", moving="case 2", seconds=0.0))
    with write_csv(folder).open(encoding="utf-8", newline="") as stream:
        first, second = csv.DictReader(stream)
    assert first["method"] == "best, ü"
    assert float(first["dice"]) == 0.75
    assert list(first)[-4:] == ["dice[2]", "dice[10]", "hd95_mm[2]", "hd95_mm[10]"]
    assert [float(first[name]) for name in list(first)[-4:]] == [0.5, 1.0, 2.0, 1.0]
    assert second["dice"] == second["dice[2]"] == ""
    assert not list(folder.glob("*.part"))


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(FileError) as caught:
        append_row(tmp_path / "file", ROW)
    assert caught.value.code == "output-not-writable"


def test_a_row_is_one_line_of_json(folder: Path) -> None:
    append_row(folder, ROW)
    (line,) = (folder / ROWS).read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["gate_means"] == [{"stage": 1, "level": 0, "pair_weight": 0.625}]
