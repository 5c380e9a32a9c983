"""A prepared dataset opens whole or says what is missing; images and labels come as training needs them."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prepared_folder import SHAPE, make_prepared

from autofuse_engine.data.manifest import MANIFEST, read_manifest
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.errors import FileError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "Größe 3 übung"
    path.mkdir()
    make_prepared(path, train=2, validation=1, labelled=2)
    return path


def changed(folder: Path, **fields: Any) -> None:
    path = folder / MANIFEST
    content = json.loads(path.read_text(encoding="utf-8"))
    content.update(fields)
    path.write_text(json.dumps(content), encoding="utf-8")


def code_of_opening(folder: Path) -> str:
    with pytest.raises(FileError) as caught:
        PreparedDataset.open(folder)
    return caught.value.code


def test_images_are_the_stored_bytes_in_zero_to_one(folder: Path) -> None:
    dataset = PreparedDataset.open(folder)
    stored = np.load(folder / "images" / "case-1.npy")
    image = dataset.image(1)
    assert image.dtype == np.float32
    assert image.shape == dataset.shape == SHAPE
    np.testing.assert_allclose(image, stored / 255.0, atol=1e-7)
    assert np.array_equal(np.rint(image * 255), stored)
    assert 0 <= image.min() < image.max() <= 1


def test_labelmaps_are_read_only_maps_and_none_where_there_is_none(folder: Path) -> None:
    dataset = PreparedDataset.open(folder)
    labelmap = dataset.labelmap(0)
    assert isinstance(labelmap, np.memmap)
    assert not labelmap.flags.writeable
    assert set(np.unique(labelmap)) == {0, 1, 2}
    assert dataset.labelmap(2) is None
    assert [case.has_labels for case in dataset.cases] == [True, True, False]


def test_the_manifest_comes_back_as_it_was_written(folder: Path) -> None:
    dataset = PreparedDataset.open(folder)
    assert dataset.spacing_mm == (1.5, 1.25, 2.0)
    assert dataset.orientation == "RAS"
    assert [(label.value, label.name, label.sources) for label in dataset.labels] == [
        (1, "shell", (4,)),
        (2, "core", (7, 9)),
    ]
    assert dataset.index_of("case-2") == 2
    assert read_manifest(folder) == dataset.manifest


def test_it_travels_to_another_process(folder: Path) -> None:
    dataset = pickle.loads(pickle.dumps(PreparedDataset.open(folder)))
    assert dataset.image(0).shape == SHAPE


def test_a_folder_without_manifest_is_named(tmp_path: Path) -> None:
    assert code_of_opening(tmp_path) == "prepared-not-found"


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "another"}', "\x00"])
def test_a_manifest_of_another_kind_is_refused(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    assert code_of_opening(folder) == "prepared-invalid"


def test_a_newer_format_asks_for_an_update(folder: Path) -> None:
    changed(folder, version=2)
    assert code_of_opening(folder) == "prepared-too-new"


@pytest.mark.parametrize(
    "fields",
    [
        {"config_sha256": "0" * 64},
        {"shape": [16, 48, 33]},
        {"shape": [16, 48]},
        {"cases": [{"name": "x"}]},
        {"cases": []},
        {"pairs": {"train": [["case-0", "stranger"]]}},
        {"labels": [{"value": 1}]},
        {"grid_ras_from_ijk": [[1, 0, 0, 0]]},
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(folder: Path, fields: dict[str, Any]) -> None:
    changed(folder, **fields)
    assert code_of_opening(folder) == "prepared-invalid"


@pytest.mark.parametrize("file", ["../outside.npy", "/etc/passwd", "C:/x.npy", "images\\case-0.npy"])
def test_files_outside_of_the_folder_are_refused(folder: Path, file: str) -> None:
    cases = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["cases"]
    cases[0]["image"]["file"] = file
    changed(folder, cases=cases)
    assert code_of_opening(folder) == "prepared-invalid"


def test_a_missing_or_cut_off_file_is_named_at_once(folder: Path) -> None:
    path = folder / "labels" / "case-1.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert code_of_opening(folder) == "prepared-incomplete"
    path.unlink()
    assert code_of_opening(folder) == "prepared-incomplete"


def test_a_changed_byte_is_found_by_verify(folder: Path) -> None:
    dataset = PreparedDataset.open(folder)
    dataset.verify()
    path = folder / "images" / "case-2.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    PreparedDataset.open(folder)
    with pytest.raises(FileError) as caught:
        dataset.verify()
    assert caught.value.code == "prepared-invalid"
    assert "case-2" in caught.value.text


def test_an_array_of_another_shape_or_type_is_refused_when_it_is_read(folder: Path) -> None:
    dataset = PreparedDataset.open(folder)
    for array in (np.zeros((16, 32, 48), np.uint8), np.zeros(SHAPE, np.int16)):
        np.save(folder / "images" / "case-0.npy", array)
        with pytest.raises(FileError) as caught:
            dataset.image(0)
        assert caught.value.code == "prepared-invalid"


def test_a_share_of_the_labels_spares_validation_and_is_part_of_a_larger_share(tmp_path: Path) -> None:
    dataset = make_prepared(tmp_path, train=7, validation=2)

    def with_labels(percent: float, seed: int = 3) -> set[str]:
        return {case.name for case in dataset.with_labels_of(percent, seed).cases if case.has_labels}

    validation = {case.name for case in dataset.cases if case.split == "validation"}
    shares = [with_labels(percent) for percent in (1, 20, 50, 100)]
    assert [len(share - validation) for share in shares] == [1, 2, 4, 7]
    assert all(small < large for small, large in pairwise(shares))
    assert all(validation < share for share in shares)
    assert len({frozenset(with_labels(20, seed)) for seed in range(10)}) > 1
    reduced = dataset.with_labels_of(20, 3)
    assert {number for number in range(9) if reduced.labelmap(number) is not None} == {
        reduced.index_of(name) for name in shares[1]
    }


@pytest.mark.parametrize("percent", [0, -1, 101, float("nan")])
def test_a_share_lies_above_0_and_at_most_at_100(tmp_path: Path, percent: float) -> None:
    with pytest.raises(ValueError, match="percent is above 0"):
        make_prepared(tmp_path).with_labels_of(percent, 0)
