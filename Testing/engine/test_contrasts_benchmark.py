"""The benchmark of contrasts: tissues by name, and images whose tissues have the order of intensities they should."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from autofuse_engine.data.files import write_volume
from autofuse_engine.data.volume import Volume
from autofuse_engine.evaluation_pair_list import read_pair_list
from Testing.benchmarks.contrasts import CONTRASTS, made, names_of, tissue_numbers, write_pairs

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


def test_each_contrast_gets_a_list_of_pairs_that_an_evaluation_reads(tmp_path: Path) -> None:
    cases = []
    for name in ("Anna", "Ben", "Zoë"):
        labels = np.zeros((12, 14, 13), np.uint8)
        labels[2:6, 3:9, 3:9], labels[6:9, 3:9, 3:9] = 4, 30
        for kind, array in (("image", 50.0 + labels), ("label", labels)):
            write_volume(
                tmp_path / f"{name} {kind}.nii.gz", volume(array.astype(np.float32 if kind == "image" else np.uint8))
            )
        cases.append({"image": f"{name} image.nii.gz", "label": f"{name} label.nii.gz"})
    (tmp_path / "dataset.json").write_text(json.dumps({"validation": cases}, ensure_ascii=False), encoding="utf-8")
    lists = write_pairs(tmp_path, tmp_path / "out", tissue_numbers(NAMES), pairs=3, stride=1)
    assert [path.stem for path in lists] == list(CONTRASTS)
    pairs = read_pair_list(lists[0])
    assert [(Path(pair.fixed).name.split()[0], Path(pair.moving).name.split()[0]) for pair in pairs] == [
        ("Anna", "Ben"), ("Ben", "Zoë"), ("Zoë", "Anna"),
    ]  # fmt: skip
    read = pairs[0].read()
    assert read.moving_labels is not None
    assert (
        read.moving.array[read.moving_labels.array == 4].mean()
        > read.moving.array[read.moving_labels.array == 30].mean()
    )
    assert read.fixed.array.max() == 80
