"""The benchmark of contrasts: tissues by name, and images whose tissues have the order of intensities they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autofuse_engine.data.volume import Volume
from Testing.benchmarks.contrasts import CONTRASTS, made, names_of, table, tissue_numbers

NAMES = {4: "Third ventricle", 30: "Hippocampus", 81: "Frontal white matter", 90: "Internal capsule"}


def volume(array: np.ndarray) -> Volume:
    matrix = np.diag([1.2, 2.0, -1.5, 1.0])
    return Volume(array=array, ras_from_ijk=matrix, name="head")


def test_tissues_follow_from_the_names_of_structures(tmp_path: Path) -> None:
    path = tmp_path / "Größe.csv"
    path.write_text("old,new,name\n" + "".join(f"{old},1,{name}\n" for old, name in NAMES.items()), encoding="utf-8")
    assert tissue_numbers(names_of(path)) == {4: 1, 30: 2, 81: 3, 90: 3}


@pytest.mark.parametrize(("contrast", "order"), [("T2-like", [3, 2, 1]), ("FLAIR-like", [1, 3, 2])])
def test_fluid_grey_and_white_matter_have_their_order(contrast: str, order: list[int]) -> None:
    labels = np.zeros((20, 24, 22), np.uint8)
    labels[4:9, 4:20, 4:18], labels[9:14, 4:20, 4:18], labels[14:17, 4:20, 4:18] = 4, 30, 81
    image = np.zeros(labels.shape, np.float32)
    image[2:18, 2:22, 2:20] = 40  # a rim without labels is fluid
    image[labels > 0] = 100 + labels[labels > 0]
    result = made(volume(image), volume(labels), tissue_numbers(NAMES), contrast, seed=1)
    assert result.same_grid(volume(image))
    means = {1: result.array[5:8, 6:18, 6:16].mean(), 2: result.array[10:13, 6:18, 6:16].mean(),
             3: result.array[15:16, 6:18, 6:16].mean()}  # fmt: skip
    assert sorted(means, key=means.__getitem__) == order
    assert result.array[3, 12, 11] == pytest.approx(means[1], abs=80)
    assert (result.array[image == 0] == 0).all()
    assert (result.array[image > 0] > 0).all()
    again = made(volume(image), volume(labels), tissue_numbers(NAMES), contrast, seed=1)
    assert np.array_equal(again.array, result.array)


def test_the_table_has_a_line_for_each_contrast_and_method() -> None:
    row = {"pair": 0, "folding_percent": 0.0, "seconds": 3.0}
    rows = [
        {**row, "pair": pair, "contrast": contrast, "method": method, "dice": 0.5 + 0.1 * pair}
        for pair in (0, 1)
        for contrast in CONTRASTS
        for method in ("affine", "refinement, mind")
    ]
    lines = table(rows).splitlines()
    assert len(lines) == 2 + 4
    assert "| T2-like | affine | 2 | 0.550 +- 0.071 | 0.0000 | 3.0 |" in lines
