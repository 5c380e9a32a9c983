"""Which pairs an evaluation takes, and what it reads for them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autofuse_engine.data.files import write_volume
from autofuse_engine.data.manifest import write_manifest
from autofuse_engine.data.pairs import PairSampler
from autofuse_engine.data.preprocessing import normalised
from autofuse_engine.errors import AutoFuseError
from autofuse_engine.evaluation_configs import EvaluationConfig, parse_methods
from autofuse_engine.evaluation_data import EvaluationData, open_data
from Testing.engine.data.dataset_folder import described_folder, egg, plain_folder
from Testing.engine.data.prepared_folder import make_prepared


def opened(path: Path, **choices: Any) -> EvaluationData:
    return open_data(EvaluationConfig(dataset=str(path), methods=parse_methods(["none"]), **choices))


class TestPreparedDataset:
    def test_pairs_are_those_on_which_training_is_validated(self, tmp_path: Path) -> None:
        dataset = make_prepared(tmp_path / "vorbereitet ä", train=3, validation=4)
        data = opened(dataset.folder, pairs=5)
        names = [case.name for case in dataset.cases]
        wanted = PairSampler(dataset, "labelled").validation_pairs(5)
        assert list(data.readers) == [(names[fixed], names[moving]) for fixed, moving in wanted]
        assert len(opened(dataset.folder, all_pairs=True).readers) == 12
        assert len(opened(dataset.folder).readers) == 12
        assert data.label_names == {1: "shell", 2: "core"}
        assert not data.warnings

    def test_images_and_labels_lie_on_the_common_grid(self, tmp_path: Path) -> None:
        dataset = make_prepared(tmp_path, train=2, validation=2)
        ((fixed, moving), read) = next(iter(opened(tmp_path, pairs=1).readers.items()))
        pair = read()
        assert (pair.fixed.name, pair.moving.name) == (fixed, moving)
        assert np.array_equal(pair.fixed.ras_from_ijk, np.array(dataset.manifest.grid_ras_from_ijk))
        assert np.array_equal(pair.moving.array, dataset.image(dataset.index_of(moving)))
        assert pair.moving_labels is not None
        assert np.array_equal(pair.moving_labels.array, np.array(dataset.labelmap(dataset.index_of(moving))))
        assert np.array_equal(pair.initial_ras, np.eye(4))

    def test_images_that_passed_a_window_are_back_in_it_so_that_a_model_can_apply_it(self, tmp_path: Path) -> None:
        dataset = make_prepared(tmp_path, train=0, validation=2)
        window = replace(dataset.preprocessing, intensity_window=(-900.0, 300.0))
        write_manifest(tmp_path, replace(dataset.manifest, preprocessing=window))
        pair = opened(tmp_path, pairs=1).readers["case-1", "case-0"]()
        again = normalised(pair.fixed.array, window.intensity_percentiles, window.intensity_window)
        assert pair.fixed.array.min() < -800
        assert np.abs(again - dataset.image(1)).max() < 1e-5

    def test_listed_pairs_come_first_and_whole(self, tmp_path: Path) -> None:
        listed = (("case-4", "case-3"), ("case-3", "case-5"))
        make_prepared(tmp_path, train=3, validation=3, pairs={"validation": listed})
        assert tuple(opened(tmp_path).readers) == listed
        assert tuple(opened(tmp_path, pairs=1).readers) == listed[:1]
        assert len(opened(tmp_path, kind="any").readers) == 6

    def test_two_phases_of_a_heart_are_paired_with_each_other(self, tmp_path: Path) -> None:
        make_prepared(tmp_path, train=0, validation=4, groups=("a", "a", "b", "b"), frames=("ed", "es", "ed", "es"))
        pairs = {frozenset(pair) for pair in opened(tmp_path).readers}
        assert pairs == {frozenset(("case-0", "case-1")), frozenset(("case-2", "case-3"))}

    def test_training_cases_are_taken_with_a_warning_only(self, tmp_path: Path) -> None:
        make_prepared(tmp_path, train=3, validation=1)
        assert [warning.code for warning in opened(tmp_path).warnings] == ["evaluates-training"]


class TestRawDataset:
    def test_validation_cases_are_preferred_and_the_choice_is_always_the_same(self, tmp_path: Path) -> None:
        described_folder(tmp_path / "Eier 1", train=2, validation=3)
        data = opened(tmp_path / "Eier 1", pairs=4)
        assert list(data.readers) == list(opened(tmp_path / "Eier 1", pairs=4).readers)
        assert len(data.readers) == 4
        assert {name for pair in data.readers for name in pair} <= set(list(data.fingerprints)[2:])
        assert data.label_names[9] == "right kernel"

    def test_pairs_have_labels_where_two_cases_have(self, tmp_path: Path) -> None:
        plain_folder(tmp_path / "some", count=4, labelled=2)
        assert set(opened(tmp_path / "some").readers) == {("egg 0", "egg 1"), ("egg 1", "egg 0")}
        plain_folder(tmp_path / "one", count=3, labelled=1)
        assert len(opened(tmp_path / "one").readers) == 6

    def test_images_keep_their_own_geometry(self, tmp_path: Path) -> None:
        plain_folder(tmp_path, count=2)
        pair = opened(tmp_path).readers["egg 1", "egg 0"]()
        image, labels = egg(1)
        assert pair.fixed.same_grid(image)
        assert pair.fixed_labels is not None
        assert np.array_equal(pair.fixed_labels.array, labels.array)

    def test_too_few_cases_and_no_images_are_told(self, tmp_path: Path) -> None:
        described_folder(tmp_path / "one", train=1)
        (tmp_path / "empty" / "images").mkdir(parents=True)
        for folder, code in (("one", "pairs-too-few"), ("empty", "dataset-empty"), ("absent", "dataset-not-found")):
            with pytest.raises(AutoFuseError) as caught:
                opened(tmp_path / folder)
            assert caught.value.code == code
            assert caught.value.hint


class TestListOfPairs:
    def write(self, folder: Path, rows: list[dict[str, str]]) -> Path:
        path = folder / "Päare.csv"
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, sorted({name for row in rows for name in row}))
            writer.writeheader()
            writer.writerows(rows)
        return path

    def folder(self, tmp_path: Path) -> Path:
        plain_folder(tmp_path / "Daten 1", count=3)
        (tmp_path / "p.csv").write_text("r,a,s\n1,2,3\n", encoding="utf-8")
        mask = egg(0)[1]
        write_volume(tmp_path / "mask.nrrd", mask.with_array((mask.array > 0).astype(np.uint8)))
        return tmp_path

    def test_files_beside_the_list_are_read(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path)
        row = {"fixed": "Daten 1/images/egg 0.nii.gz", "moving": "Daten 1/images/egg 1.nii.gz"}
        more = {"fixed_labels": "Daten 1/labels/egg 0.nii.gz", "fixed_mask": "mask.nrrd"}
        points = {"fixed_points": "p.csv", "moving_points": "p.csv"}
        second = {"fixed": row["moving"], "moving": row["fixed"]}
        data = opened(self.write(folder, [{**row, **more, **points}, second]))
        assert list(data.readers) == [("egg 0", "egg 1"), ("egg 1", "egg 0")]
        pair = data.readers["egg 0", "egg 1"]()
        assert pair.moving_labels is None
        assert pair.fixed_labels is not None
        assert np.array_equal(pair.fixed_labels.array, egg(0)[1].array)
        assert pair.fixed_mask is not None
        assert pair.moving_mask is None
        assert pair.moving_points_ras is not None
        assert pair.moving_points_ras.tolist() == [[1.0, 2.0, 3.0]]
        assert list(opened(self.write(folder, [row, second]), pairs=1).readers) == [("egg 0", "egg 1")]

    def test_files_of_one_name_are_told_apart_by_their_folders(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path)
        plain_folder(tmp_path / "other", count=1)
        row = {"fixed": "Daten 1/images/egg 0.nii.gz", "moving": "other/images/egg 0.nii.gz"}
        assert list(opened(self.write(folder, [row])).readers) == [(row["fixed"], row["moving"])]

    @pytest.mark.parametrize(
        ("change", "code", "part"),
        [
            ({"moving": "absent.nii.gz"}, "file-not-found", "absent.nii.gz"),
            ({"fixed_labels": "gone.nrrd"}, "file-not-found", "fixed labels"),
            ({"fixed": ""}, "table-invalid", "entry 1"),
            ({"fixed_points": "p.csv"}, "table-invalid", "landmarks of one image"),
        ],
    )
    def test_a_list_that_cannot_be_used_is_one_error(
        self, tmp_path: Path, change: dict[str, str], code: str, part: str
    ) -> None:
        row = {"fixed": "Daten 1/images/egg 0.nii.gz", "moving": "Daten 1/images/egg 1.nii.gz"}
        path = self.write(self.folder(tmp_path), [{**row, **change}])
        with pytest.raises(AutoFuseError) as caught:
            opened(path)
        assert caught.value.code == code
        assert part in caught.value.text
        assert caught.value.hint

    def test_a_pair_twice_and_choices_that_a_list_makes_itself_are_refused(self, tmp_path: Path) -> None:
        row = {"fixed": "Daten 1/images/egg 0.nii.gz", "moving": "Daten 1/images/egg 1.nii.gz"}
        path = self.write(self.folder(tmp_path), [row, row])
        with pytest.raises(AutoFuseError, match="repeats an earlier pair"):
            opened(path)
        with pytest.raises(AutoFuseError, match="lists the pairs itself"):
            opened(path, split="test")
