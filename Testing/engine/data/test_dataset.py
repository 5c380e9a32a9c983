"""Datasets of every layout are understood: which images, labels, splits, patients, frames and pairs they hold."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_folder import described_folder, egg, plain_folder, write_json, write_series

from autofuse_engine.data.dataset import open_dataset, read_label_names
from autofuse_engine.data.files import write_volume
from autofuse_engine.errors import FileError, InputError

SHARED = Path(os.environ.get("AUTOFUSE_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))


def splits(dataset: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for case in dataset.cases:
        found.setdefault(case.split, []).append(case.name)
    return found


class TestDecathlon:
    def test_training_validation_and_test_lists_become_splits(self, tmp_path: Path) -> None:
        root = described_folder(tmp_path / "Öl und Ei", 2, 1, test=["./imagesTs/missing.nii.gz"])
        (root / "imagesTs").mkdir()
        write_volume(root / "imagesTs" / "new.nii.gz", egg(7)[0])
        content = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
        write_json(root / "dataset.json", {**content, "test": ["./imagesTs/new.nii.gz", "./imagesTs/gone.nii.gz"]})
        dataset = open_dataset(root)
        assert dataset.layout == "decathlon"
        assert splits(dataset) == {
            "train": ["egg_0000_0000", "egg_0001_0000"],
            "validation": ["egg_0002_0000"],
            "test": ["new"],
        }
        assert [case.label is not None for case in dataset.cases] == [True, True, True, False]
        assert dataset.label_names == {2: "white", 5: "left kernel", 9: "right kernel"}
        assert dataset.about["name"] == "Eggs"
        assert [(problem.severity, problem.code) for problem in dataset.problems] == [("warning", "file-not-found")]

    def test_labels_for_some_or_no_cases(self, tmp_path: Path) -> None:
        root = described_folder(tmp_path, 3)
        content = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
        del content["training"][0]["label"]
        content["training"][1] = content["training"][1]["image"]
        write_json(root / "dataset.json", content)
        assert [case.label is not None for case in open_dataset(root).cases] == [False, False, True]

    @pytest.mark.parametrize(
        "labels", [{"2": "white"}, {"white": 2, "background": 0}, {"0": {"0": "background", "2": "white"}}]
    )
    def test_label_names_in_each_of_the_three_customary_forms(self, tmp_path: Path, labels: dict[str, Any]) -> None:
        assert open_dataset(described_folder(tmp_path, 1, labels=labels)).label_names == {2: "white"}

    def test_missing_files_and_wrong_counts_are_told_all_at_once(self, tmp_path: Path) -> None:
        root = described_folder(tmp_path, 3, numTraining=5)
        (root / "imagesTr" / "egg_0000_0000.nii.gz").unlink()
        (root / "labelsTr" / "egg_0001_0000.nii.gz").unlink()
        problems = open_dataset(root).problems
        assert [problem.code for problem in problems] == ["file-not-found", "file-not-found", "case-count-differs"]
        assert "image of the case egg_0000_0000" in problems[0].text
        assert "labelmap of the case egg_0001_0000" in problems[1].text
        assert all(problem.hint for problem in problems)

    def test_an_image_in_two_lists_is_a_leak(self, tmp_path: Path) -> None:
        root = described_folder(tmp_path, 2)
        content = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
        content["validation"] = [content["training"][0]]
        write_json(root / "dataset.json", content)
        dataset = open_dataset(root)
        assert splits(dataset) == {"train": ["egg_0000_0000", "egg_0001_0000"]}
        assert [(problem.severity, problem.code) for problem in dataset.problems] == [("error", "leak-between-splits")]

    def test_patients_and_frames_of_our_own(self, tmp_path: Path) -> None:
        root = described_folder(tmp_path, 2)
        content = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
        content["training"][0] |= {"patient": 7, "frame": 2}
        content["training"][1] |= {"frames": {"ed": 1, "es": 3}}
        content["training"][1]["label"] = {"ed": "labelsTr/egg_0000_0000.nii.gz"}
        write_json(root / "dataset.json", content)
        first, ed, es = open_dataset(root).cases
        assert (first.group, first.frame, first.role) == ("7", 1, None)
        assert (ed.name, ed.group, ed.frame, ed.role) == ("egg_0001_0000_ed", "egg_0001_0000", 0, "ed")
        assert (es.frame, es.role, es.label) == (2, "es", None)
        assert ed.label is not None
        assert ed.label_frame is None

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "[1]",
            "{}",
            '{"training": 3}',
            '{"training": [3]}',
            '{"training": [{"label": "x"}]}',
            '{"training": [], "registration_val": [{"fixed": "a"}]}',
        ],
    )
    def test_a_description_that_says_nothing_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "dataset.json").write_text(text, encoding="utf-8")
        with pytest.raises(FileError) as caught:
            open_dataset(tmp_path)
        assert caught.value.code == "dataset-json-invalid"

    @pytest.mark.parametrize("frames", [{"ed": 0, "es": 3}, {"ed": 2, "es": 2}, {"systole": 1}, [1, 2], {"ed": "1"}])
    def test_frames_that_are_none_are_refused(self, tmp_path: Path, frames: Any) -> None:
        root = described_folder(tmp_path, 1)
        content = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
        content["training"][0]["frames"] = frames
        write_json(root / "dataset.json", content)
        with pytest.raises(FileError, match="egg_0000_0000"):
            open_dataset(root)


class TestLearn2Reg:
    def described(self, root: Path) -> Path:
        folder = "./imagesTr/egg_000{}_0000.nii.gz"
        described_folder(
            root,
            4,
            training_paired_images=[{"fixed": folder.format(0), "moving": folder.format(1)}],
            registration_val=[{"fixed": folder.format(3), "moving": folder.format(2)}],
        )
        return (root / "dataset.json").rename(root / "EGGS_dataset.json")

    def test_images_of_validation_pairs_leave_training(self, tmp_path: Path) -> None:
        self.described(tmp_path)
        dataset = open_dataset(tmp_path)
        assert dataset.layout == "learn2reg"
        assert splits(dataset) == {
            "train": ["egg_0000_0000", "egg_0001_0000"],
            "validation": ["egg_0002_0000", "egg_0003_0000"],
        }
        assert dataset.pairs == {
            "train": (("egg_0000_0000", "egg_0001_0000"),),
            "validation": (("egg_0003_0000", "egg_0002_0000"),),
        }

    def test_the_name_gives_the_patient(self, tmp_path: Path) -> None:
        assert [case.group for case in open_dataset(self.described(tmp_path)).cases][:2] == ["egg_0000", "egg_0001"]

    def test_several_descriptions_need_a_choice(self, tmp_path: Path) -> None:
        path = self.described(tmp_path)
        path.with_name("OLD_dataset.json").write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        with pytest.raises(FileError) as caught:
            open_dataset(tmp_path)
        assert caught.value.code == "dataset-unknown-layout"
        assert len(open_dataset(path).cases) == 4


class TestPlainFolder:
    def test_images_and_labels_of_equal_names(self, tmp_path: Path) -> None:
        root = plain_folder(tmp_path / "Eier", 3, labelled=2)
        (root / "images" / "._egg 0.nii.gz").write_bytes(b"left by macOS")
        (root / "images" / "notes.txt").write_text("no image", encoding="utf-8")
        dataset = open_dataset(root)
        assert [(case.name, case.label is not None, case.group) for case in dataset.cases] == [
            ("egg 0", True, "egg 0"),
            ("egg 1", True, "egg 1"),
            ("egg 2", False, "egg 2"),
        ]
        assert dataset.about["name"] == "Eier"

    def test_tables_add_patients_splits_pairs_and_names(self, tmp_path: Path) -> None:
        root = plain_folder(tmp_path, 4)
        (root / "cases.csv").write_text(
            "case;patient;split\negg 0;Ana;train\negg 1;Ana;\negg 2;Bo;val\negg 3;Bo;val\n", encoding="utf-8-sig"
        )
        (root / "pairs.csv").write_text("fixed,moving\negg 1,egg 0\negg 2,egg 3\negg 0,egg 3\n", encoding="utf-8")
        (root / "label_names.csv").write_text("Index,Code,Name\n2,W,white\n\n# more\n5,K,kernel\n", encoding="utf-8")
        dataset = open_dataset(root)
        assert [case.group for case in dataset.cases] == ["Ana", "Ana", "Bo", "Bo"]
        assert splits(dataset) == {"train": ["egg 0", "egg 1"], "validation": ["egg 2", "egg 3"]}
        assert dataset.pairs == {"train": (("egg 1", "egg 0"),), "validation": (("egg 2", "egg 3"),)}
        assert dataset.label_names == {2: "white", 5: "kernel"}

    def test_a_label_without_image_and_two_files_of_one_name_are_told(self, tmp_path: Path) -> None:
        root = plain_folder(tmp_path, 2)
        write_volume(root / "labels" / "stray.nii.gz", egg(5)[1])
        write_volume(root / "images" / "egg 1.nrrd", egg(5)[0])
        assert sorted(problem.code for problem in open_dataset(root).problems) == [
            "case-listed-twice",
            "labels-without-image",
        ]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("cases.csv", "case,split\negg 9,train\n"),
            ("cases.csv", "case,split\negg 0,often\n"),
            ("cases.csv", "patient\nx\n"),
            ("pairs.csv", "fixed,moving\negg 0,egg 9\n"),
            ("frames.csv", "case,ed,es\negg 0,1,x\n"),
            ("frames.csv", "case,ed,es\negg 9,1,2\n"),
            ("frames.csv", "case,ed,es\negg 0,2,2\n"),
            ("label_names.csv", "value,name\nfive,kernel\n"),
            ("label_names.csv", ""),
        ],
    )
    def test_a_table_that_does_not_fit_is_refused_with_its_name(self, tmp_path: Path, name: str, text: str) -> None:
        root = plain_folder(tmp_path, 2)
        (root / name).write_text(text, encoding="utf-8")
        with pytest.raises(FileError) as caught:
            open_dataset(root)
        assert caught.value.code == "table-invalid"
        assert name in caught.value.text

    def test_cine_images_become_two_cases_of_one_patient(self, tmp_path: Path) -> None:
        images = [egg(0, scale=scale) for scale in (1.0, 0.9, 0.8)]
        for name in ("images", "labels"):
            (tmp_path / name).mkdir()
        write_series(tmp_path / "images" / "heart.nii.gz", [image for image, _ in images])
        write_series(tmp_path / "labels" / "heart.nii.gz", [labels for _, labels in images])
        (tmp_path / "frames.csv").write_text("case,ed,es\nheart,1,3\n", encoding="utf-8")
        ed, es = open_dataset(tmp_path).cases
        assert (ed.name, ed.role, es.name, es.role) == ("heart_ed", "ed", "heart_es", "es")
        assert ed.group == es.group == "heart"
        for case, (image, labels) in ((ed, images[0]), (es, images[2])):
            read, read_labels = case.read_image(), case.read_labelmap()
            assert np.array_equal(read.array, image.array)
            assert read_labels is not None
            assert np.array_equal(read_labels.array, labels.array)
            np.testing.assert_allclose(read.ras_from_ijk, image.ras_from_ijk, atol=1e-4)

    def test_a_frame_that_is_not_there_is_named_as_users_count(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        write_series(tmp_path / "images" / "heart.nii.gz", [egg(0)[0], egg(1)[0]])
        (tmp_path / "frames.csv").write_text("case,ed,es\nheart,1,3\n", encoding="utf-8")
        es = open_dataset(tmp_path).cases[1]
        with pytest.raises(InputError) as caught:
            es.read_image()
        assert caught.value.code == "frame-not-there"
        assert "2 time frames, and number 3" in caught.value.text


class TestAcdc:
    def patient(self, root: Path, name: str, info: str = "ED: 1\nES: 12\nGroup: DCM\n") -> Path:
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "Info.cfg").write_text(info, encoding="utf-8")
        return folder

    def test_frames_of_their_own_are_preferred_to_the_series(self, tmp_path: Path) -> None:
        first = self.patient(tmp_path / "training", "patient001")
        for frame in ("01", "12"):
            write_volume(first / f"patient001_frame{frame}.nii.gz", egg(0)[0])
            write_volume(first / f"patient001_frame{frame}_gt.nii.gz", egg(0)[1])
        second = self.patient(tmp_path / "testing", "patient101", "ED: 1\nES: 2\n")
        write_series(second / "patient101_4d.nii.gz", [egg(0)[0], egg(1)[0]])
        dataset = open_dataset(tmp_path)
        assert dataset.layout == "acdc"
        assert [(case.name, case.group, case.frame, case.label is not None, case.split) for case in dataset.cases] == [
            ("patient001_ed", "patient001", None, True, "train"),
            ("patient001_es", "patient001", None, True, "train"),
            ("patient101_ed", "patient101", 0, False, "test"),
            ("patient101_es", "patient101", 1, False, "test"),
        ]
        assert dataset.label_names[2] == "myocardium"

    def test_missing_frames_and_numbers_are_told(self, tmp_path: Path) -> None:
        self.patient(tmp_path, "patient001")
        self.patient(tmp_path, "patient002", "Group: NOR\n")
        assert sorted(problem.code for problem in open_dataset(tmp_path).problems) == [
            "file-not-found",
            "frames-unknown",
        ]


def test_what_is_no_dataset_is_told_apart(tmp_path: Path) -> None:
    for path, code in ((tmp_path / "none", "dataset-not-found"), (tmp_path, "dataset-unknown-layout")):
        with pytest.raises(FileError) as caught:
            open_dataset(path)
        assert caught.value.code == code
    (tmp_path / "images").mkdir()
    with pytest.raises(FileError) as caught:
        open_dataset(tmp_path)
    assert caught.value.code == "dataset-empty"


def test_label_names_need_both_columns(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text("value,color\n1,red\n", encoding="utf-8")
    with pytest.raises(FileError, match="no column 'name'"):
        read_label_names(path)


@pytest.mark.parametrize(("name", "train", "validation"), [("hippocampus", 176, 19), ("ixi_brain_2mm", 145, 15)])
def test_the_shared_datasets_work_as_they_are(name: str, train: int, validation: int) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip(f"no data at {SHARED / name}; AUTOFUSE_DATA names another place")
    dataset = open_dataset(SHARED / name)
    assert not dataset.problems
    assert {split: len(names) for split, names in splits(dataset).items()} == {"train": train, "validation": validation}
    assert all(case.label is not None for case in dataset.cases)
