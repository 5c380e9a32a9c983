"""Finding every training case in a reference: it finds, goes on, notices what changed, and says what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autofuse_engine.cli import main
from autofuse_engine.data.correspondences import FOLDER, INDEX, Correspondences
from autofuse_engine.data.manifest import write_manifest
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.dataset_correspondences import find_correspondences
from autofuse_engine.errors import CancelledError, FileError, InputError
from autofuse_engine.events import Event, Progress
from autofuse_engine.metrics import dice_per_label
from autofuse_engine.validation import carried
from Testing.engine.data.prepared_folder import make_prepared, store

SHAPE = (16, 32, 32)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    dataset = make_prepared(tmp_path_factory.mktemp("Fälle hier") / "p", train=3, validation=1, shape=SHAPE, seed=4)
    find_correspondences(dataset.folder, jobs=1)
    return dataset


def labels(dataset: PreparedDataset, index: int) -> np.ndarray:
    array = dataset.labelmap(index)
    assert array is not None
    return np.array(array)


def test_the_reference_carried_by_what_was_found_lies_on_each_case(found: PreparedDataset) -> None:
    places = Correspondences.open(found)
    assert places.reference == "case-0"
    assert set(places.cases) == {"case-0", "case-1", "case-2"}, "validation cases are not learned from"
    reference = labels(found, 0)
    for index in (1, 2):
        name = found.cases[index].name
        displacement = torch.from_numpy(places.displacement(name).astype(np.float32))[None]
        before = dice_per_label(labels(found, index), reference)
        after = dice_per_label(labels(found, index), carried(reference, displacement))
        assert all(after[label] > max(0.7, before[label] + 0.3) for label in (1, 2)), (before, after)
        told = places.cases[name].dice
        assert told == pytest.approx((np.mean([before[1], before[2]]), np.mean([after[1], after[2]])), abs=0.01)
    assert not places.displacement("case-0").any(), "the reference lies where it lies"


def test_two_processes_find_the_same_and_a_second_run_finds_nothing_to_do(
    found: PreparedDataset, tmp_path: Path
) -> None:
    dataset = make_prepared(tmp_path / "again", train=3, validation=1, shape=SHAPE, seed=4)
    find_correspondences(dataset.folder, jobs=2)
    ours, others = (
        {path.name: path.read_bytes() for path in (one.folder / FOLDER).iterdir()} for one in (dataset, found)
    )
    assert ours == others
    told: list[Event] = []
    find_correspondences(dataset.folder, jobs=1, report=told.append)
    assert not [event for event in told if isinstance(event, Progress)]


def test_only_what_changed_is_found_anew(tmp_path: Path) -> None:
    dataset = make_prepared(tmp_path / "p", train=3, validation=1, shape=SHAPE)
    find_correspondences(dataset.folder, jobs=1)
    case = dataset.cases[1]
    image = store(dataset.folder, case.image.file, np.array(dataset.stored_image(1)) // 2)
    cases = [replace(one, image=image) if one is case else one for one in dataset.cases]
    write_manifest(dataset.folder, replace(dataset.manifest, cases=tuple(cases)))
    changed = PreparedDataset.open(dataset.folder)
    with pytest.raises(FileError, match=r"that of case-1 is not among them, or of another image") as caught:
        Correspondences.open(changed)
    assert caught.value.code == "correspondences-missing"
    told: list[Event] = []
    find_correspondences(dataset.folder, jobs=1, report=told.append)
    assert [event.text for event in told if isinstance(event, Progress)] == ["case-1"]
    Correspondences.open(changed)


def test_without_labels_the_images_alone_find_it(tmp_path: Path) -> None:
    dataset = make_prepared(tmp_path / "p", train=2, validation=1, labelled=0, shape=SHAPE, seed=4)
    known = make_prepared(tmp_path / "k", train=2, validation=1, shape=SHAPE, seed=4)
    case = find_correspondences(dataset.folder, reference="case-1", jobs=1)["case-0"]
    assert case.dice is None
    displacement = Correspondences.open(dataset).displacement("case-0").astype(np.float32)
    after = dice_per_label(labels(known, 0), carried(labels(known, 1), torch.from_numpy(displacement)[None]))
    assert after[1] > dice_per_label(labels(known, 0), labels(known, 1))[1] + 0.2


def test_a_wish_to_stop_is_heard_and_what_is_done_stays(tmp_path: Path) -> None:
    dataset = make_prepared(tmp_path / "p", train=3, validation=1, shape=SHAPE)
    asked: list[bool] = []

    def wish() -> bool:
        asked.append(True)
        return (dataset.folder / FOLDER / "case-0.npy").exists()

    with pytest.raises(CancelledError):
        find_correspondences(dataset.folder, reference="case-2", jobs=1, cancelled=wish)
    assert not (dataset.folder / INDEX).exists()
    assert not (dataset.folder / FOLDER / "case-1.npy").exists()
    assert {path.name for path in (dataset.folder / FOLDER).iterdir()} == {"case-0.npy", "case-0.json"}


def test_a_preparation_leaves_them_alone(found: PreparedDataset) -> None:
    from autofuse_engine.data.preparation_folder import PreparationFolder

    (found.folder / "steps").mkdir(exist_ok=True)
    folder = PreparationFolder(found.folder, [case.name for case in found.cases])
    folder.make(found.folder.parent)
    folder.remove_halves()
    arrays = [array.file for case in found.cases for array in (case.image, case.labelmap) if array is not None]
    folder.remove_others(arrays)
    assert (found.folder / FOLDER / "case-1.npy").exists()


def test_wrong_input_is_told_in_a_sentence(
    found: PreparedDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="no case 'niemand'") as caught:
        find_correspondences(found.folder, reference="niemand")
    assert caught.value.code == "reference-unknown"
    assert main(["dataset", "correspond", str(tmp_path), "--quiet"]) == 2
    assert "holds no prepared dataset" in capsys.readouterr().err
    plain = make_prepared(tmp_path / "p", train=2, validation=1, shape=SHAPE)
    with pytest.raises(FileError, match="none were found yet"):
        Correspondences.open(plain)


@pytest.mark.parametrize(
    ("damage", "words"),
    [("nonsense", "not JSON"), ("[]", "TypeError"), ('{"format": "x", "version": 1}', "format is 'x'")],
)
def test_a_damaged_index_is_told(damage: str, words: str, found: PreparedDataset, tmp_path: Path) -> None:
    dataset = make_prepared(tmp_path / "p", train=2, validation=1, shape=SHAPE)
    (dataset.folder / INDEX).write_text(damage, encoding="utf-8")
    with pytest.raises(FileError, match=words) as caught:
        Correspondences.open(dataset)
    assert caught.value.code == "prepared-invalid"


def test_a_damaged_array_is_told_and_found_anew(tmp_path: Path) -> None:
    dataset = make_prepared(tmp_path / "p", train=2, validation=1, shape=SHAPE)
    find_correspondences(dataset.folder, jobs=1)
    path = dataset.folder / FOLDER / "case-1.npy"
    good = path.read_bytes()
    np.save(path, np.zeros((3, 2, 2, 2), np.float16))
    with pytest.raises(FileError, match="float16 of the shape"):
        Correspondences.open(dataset).displacement("case-1")
    find_correspondences(dataset.folder, jobs=1)
    assert path.read_bytes() == good


def test_the_command_says_what_it_found(found: PreparedDataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "correspond", str(found.folder), "--jobs", "1", "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["report"]["cases"] == 3
    assert document["report"]["dice_after"] > document["report"]["dice_before"] + 0.1
    assert Path(document["files"]["index"]).is_file()
    assert main(["dataset", "correspond", str(found.folder), "--jobs", "1"]) == 0
    assert "dice after" in capsys.readouterr().out
