"""Preparing a dataset: anatomy lies on anatomy, and neither kill -9 nor Ctrl-C nor a full disk changes a byte of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from preparing import KERNELS, described_folder, egg, plain_folder, prepare, write_series

from autofuse_engine.cli import main
from autofuse_engine.data.files import write_volume
from autofuse_engine.data.preparation_folder import distinct_names
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.dataset_configs import LabelRule, PreparationConfig
from autofuse_engine.errors import AutoFuseError, InputError


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return described_folder(tmp_path_factory.mktemp("Quelle mit Ö") / "eggs", 5, 2)


@pytest.fixture(scope="module")
def prepared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepare(source, tmp_path_factory.mktemp("Ziel é") / "prepared here")[0]


def kernel_places(dataset: PreparedDataset, index: int) -> dict[str, np.ndarray]:
    """Centre of each kernel in the common grid, RAS mm."""
    labels = np.asarray(dataset.labelmap(index))
    place = np.array(dataset.manifest.grid_ras_from_ijk)
    value = {label.name: label.value for label in dataset.labels}
    return {
        name: map_points(place, np.argwhere(labels == value[name]).mean(axis=0)[::-1])
        for name in ("left kernel", "right kernel")
    }


class TestResult:
    def test_every_case_stands_on_one_grid(self, prepared: PreparedDataset) -> None:
        assert Counter(case.split for case in prepared.cases) == {"train": 5, "validation": 2}
        assert all(side % 16 == 0 for side in prepared.shape)
        assert prepared.spacing_mm == (2.5, 2.0, 2.2)
        assert prepared.orientation == "RAS"
        for index in range(7):
            assert prepared.image(index).shape == prepared.shape
            assert 0.9 < prepared.image(index).max() <= 1
        prepared.verify()

    def test_without_alignment_anatomy_lies_where_the_files_place_it(self, prepared: PreparedDataset) -> None:
        for index in range(7):
            places = kernel_places(prepared, index)
            np.testing.assert_allclose(places["left kernel"], KERNELS[5], atol=0.7)
            np.testing.assert_allclose(places["right kernel"], KERNELS[9], atol=0.7)

    def test_labels_are_named_and_know_where_they_come_from(self, prepared: PreparedDataset) -> None:
        assert [(label.value, label.name, label.sources) for label in prepared.labels] == [
            (1, "white", (2,)),
            (2, "left kernel", (5,)),
            (3, "right kernel", (9,)),
        ]

    def test_bright_kernels_are_bright(self, prepared: PreparedDataset) -> None:
        image, labels = prepared.image(3), np.asarray(prepared.labelmap(3))
        means = [image[labels == value].mean() for value in (0, 1, 2, 3)]
        assert means == sorted(means)
        assert means[3] > 0.8
        assert means[0] < 0.1

    def test_the_card_of_a_model_can_take_the_preprocessing_over(self, prepared: PreparedDataset) -> None:
        assert prepared.preprocessing.intensity_percentiles == (0.0, 99.5)
        assert prepared.preprocessing.spacing_mm == prepared.spacing_mm

    def test_the_grid_runs_as_wished(self, source: Path, tmp_path: Path) -> None:
        config = PreparationConfig(alignment="none", orientation="PIR", spacing_mm=(3.0, 2.0, 2.5), size=(32, 16, 48))
        dataset = prepare(source, tmp_path / "out", config)[0]
        assert dataset.shape == (48, 16, 32)
        assert dataset.orientation == "PIR"
        places = kernel_places(dataset, 4)
        np.testing.assert_allclose(places["right kernel"], KERNELS[9], atol=1.0)

    @pytest.mark.parametrize("kind", ["moments", pytest.param("affine", marks=pytest.mark.slow)])
    def test_alignment_brings_displaced_eggs_together(self, kind: Any, tmp_path: Path) -> None:
        root = plain_folder(tmp_path / "far", 3)
        for number, (shift, scale) in enumerate([((0, 0, 0), 1.0), ((30, -25, 12), 1.0), ((-20, 18, 9), 0.88)]):
            for part, volume in zip(("images", "labels"), egg(number, scale=scale), strict=True):
                matrix = volume.ras_from_ijk.copy()
                matrix[:3, 3] += shift
                moved = Volume(array=volume.array, ras_from_ijk=matrix)
                write_volume(root / part / f"egg {number}.nii.gz", moved)
        config = PreparationConfig(alignment=kind, reference="egg 0", spacing_mm=(2.0, 2.0, 2.0))
        dataset, told = prepare(root, tmp_path / "out", config)
        labels = [np.asarray(dataset.labelmap(index)) for index in range(3)]
        for other in (1, 2):
            both = (labels[0] > 0) & (labels[other] > 0)
            dice = 2 * both.sum() / ((labels[0] > 0).sum() + (labels[other] > 0).sum())
            assert dice > (0.93 if kind == "affine" or other == 1 else 0.8)
        matrix = np.array(dataset.cases[1].case_from_grid_ras)
        np.testing.assert_allclose(map_points(matrix, np.zeros(3)), (30, -25, 12), atol=1.5)
        assert told.steps["initial alignment"] == 3

    def test_a_table_merges_and_drops_labels_and_tells_of_those_it_forgot(self, source: Path, tmp_path: Path) -> None:
        rules = (LabelRule(old=5, new=1, name="kernel"), LabelRule(old=9, new=1, name="kernel"))
        config = PreparationConfig(alignment="none", label_rules=rules, spacing_mm=(2.0, 2.0, 2.0))
        dataset, told = prepare(source, tmp_path / "out", config)
        assert [(label.value, label.name) for label in dataset.labels] == [(1, "kernel")]
        labels = np.asarray(dataset.labelmap(0))
        assert set(np.unique(labels)) == {0, 1}
        assert (labels == 1).sum() * 8 == pytest.approx(2 * 4 / 3 * np.pi * 5.5**3, rel=0.08)
        assert told.warnings == {"labels-dropped"}

    def test_labels_that_are_dropped_do_not_enlarge_the_grid(self, tmp_path: Path) -> None:
        root = plain_folder(tmp_path / "in", 2)
        labels = egg(0)[1]
        labels.array[0, 0, 0] = labels.array[-1, -1, -1] = 77
        write_volume(root / "labels" / "egg 0.nii.gz", labels)
        shapes = []
        for kept in (1, 0):
            rules = tuple(LabelRule(old=old, new=new) for old, new in ((2, 2), (5, 5), (9, 9), (77, kept)))
            config = PreparationConfig(alignment="none", label_rules=rules, spacing_mm=(1.5, 1.5, 1.5))
            shapes.append(prepare(root, tmp_path / f"out {kept}", config)[0].shape)
        assert shapes[1] < shapes[0]
        assert shapes[1] == (32, 48, 32)

    def test_a_size_that_cuts_labels_off_is_told(self, source: Path, tmp_path: Path) -> None:
        config = PreparationConfig(alignment="none", spacing_mm=(1.0, 1.0, 1.0), size=(16, 32, 32))
        assert "labels-cut" in prepare(source, tmp_path / "out", config)[1].warnings

    def test_cases_without_labels_and_cine_frames(self, tmp_path: Path) -> None:
        root = plain_folder(tmp_path / "in", 2, labelled=1)
        write_series(root / "images" / "heart.nii.gz", [egg(4, scale=scale)[0] for scale in (1.0, 0.9)])
        (root / "frames.csv").write_text("case,ed,es\nheart,1,2\n", encoding="utf-8")
        dataset = prepare(root, tmp_path / "out")[0]
        found = [(case.name, case.has_labels, case.group, case.frame) for case in dataset.cases]
        assert found == [
            ("egg 0", True, "egg 0", None),
            ("egg 1", False, "egg 1", None),
            ("heart_ed", False, "heart", "ed"),
            ("heart_es", False, "heart", "es"),
        ]
        systole, diastole = ((dataset.image(index) > 0.2).sum() for index in (3, 2))
        assert systole == pytest.approx(0.9**3 * diastole, rel=0.08)


class TestRefusal:
    def code(self, *arguments: Any, **more: Any) -> str:
        with pytest.raises(AutoFuseError) as caught:
            prepare(*arguments, **more)
        self.error = caught.value
        return caught.value.code

    def test_a_dataset_with_errors(self, tmp_path: Path) -> None:
        root = plain_folder(tmp_path / "in", 3)
        (root / "images" / "egg 1.nii.gz").write_text("no image", encoding="utf-8")
        assert self.code(root, tmp_path / "out") == "dataset-has-errors"
        assert "egg 1" in self.error.text
        assert "autofuse dataset check" in self.error.hint

    def test_a_folder_with_something_else_in_it(self, source: Path, tmp_path: Path) -> None:
        (tmp_path / "thesis.docx").write_text("precious", encoding="utf-8")
        assert self.code(source, tmp_path) == "output-not-empty"
        assert "thesis.docx" in self.error.text
        plain = plain_folder(tmp_path / "in", 2)
        assert self.code(plain, plain) == "output-not-empty"
        assert len(list(plain.glob("*/*.nii.gz"))) == 4
        assert self.code(source, tmp_path / "thesis.docx") == "output-not-empty"

    def test_an_unknown_reference(self, source: Path, tmp_path: Path) -> None:
        config = PreparationConfig(alignment="none", reference="goose")
        assert self.code(source, tmp_path / "out", config) == "reference-unknown"

    def test_cases_that_fail_are_named_after_all_others_are_done(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from autofuse_engine import dataset_preparation

        align: Callable[..., Any] = dataset_preparation.align_case

        def fail_twice(task: Any, cancelled: Callable[[], bool]) -> Any:
            if task.source.name[:8] in ("egg_0002", "egg_0004"):
                raise InputError("no-overlap", f"{task.source.name} is elsewhere.", "Bring it back.")
            return align(task, cancelled)

        with monkeypatch.context() as patch:
            patch.setattr(dataset_preparation, "align_case", fail_twice)
            assert self.code(source, tmp_path / "out") == "dataset-cases-failed"
        assert "2 of 7 cases failed (egg_0002_0000, egg_0004_0000)" in self.error.text
        assert prepare(source, tmp_path / "out")[1].steps == {"initial alignment": 2, "outputs": 7}


def test_validation_cases_are_drawn_where_none_are_named(tmp_path: Path) -> None:
    dataset = prepare(plain_folder(tmp_path / "in", 6), tmp_path / "out")[0]
    assert Counter(case.split for case in dataset.cases) == {"train": 4, "validation": 2}


def test_file_names_differ_where_case_does_not_count() -> None:
    assert distinct_names(["Egg", "egg", "EGG", "goose"]) == {
        "Egg": "Egg",
        "egg": "egg~2",
        "EGG": "EGG~3",
        "goose": "goose",
    }


class TestCommand:
    def test_it_prepares_and_says_what_came_of_it(
        self, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        table = tmp_path / "labels.csv"
        table.write_text("old,new,name\n2,1,egg\n5,1,egg\n9,1,egg\n", encoding="utf-8")
        command = ["dataset", "prepare", str(source), "-o", str(tmp_path / "out"), "--jobs", "1", "--alignment", "none"]
        command += ["--spacing", "2.5", "--margin", "1", "--window", "0", "1000", "--labels", str(table), "--json"]
        assert main([*command, "--quiet"]) == 0
        report = json.loads(capsys.readouterr().out)["report"]
        assert report["splits"] == {"train": 5, "validation": 2}
        assert report["labels"] == 1
        config = PreparedDataset.open(tmp_path / "out").manifest.config
        assert config.spacing_mm == (2.5, 2.5, 2.5)
        assert config.intensity_window == (0.0, 1000.0)
        assert config.margin_vox == 1

    @pytest.mark.parametrize(
        "wrong", [["--spacing", "1", "2"], ["--spacing", "0"], ["--size", "30", "32", "32"], ["--jobs", "0"]]
    )
    def test_wrong_options_are_explained(
        self, source: Path, tmp_path: Path, wrong: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["dataset", "prepare", str(source), "-o", str(tmp_path / "out"), *wrong]) == 2
        assert "options-invalid" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
