"""The worker's jobs around a training: what they answer, what they refuse, and that a trial tells the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from autofuse_engine import training_trial
from autofuse_engine.configs import NetworkConfig
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.errors import AutoFuseError, CancelledError, InputError
from autofuse_engine.model_card import read_card
from autofuse_engine.training import train
from autofuse_engine.training_configs import Stage
from autofuse_engine.training_trial import try_training
from autofuse_engine.worker_jobs import Jobs
from Testing.engine.training_runs import tiny_config, tiny_dataset


def run(name: str, spec: dict[str, Any], **more: Any) -> Any:
    asked = {"report": lambda event: None, "cancelled": lambda: False, "finish_early": lambda: False}
    return Jobs().run(name, spec, **(asked | more))


def write_folder(folder: Path, cases: int = 4, shape: tuple[int, int, int] = (20, 24, 28)) -> Path:
    """Images and labels of ellipsoids on an oblique, anisotropic, flipped grid."""
    rng = np.random.default_rng(1)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    angle = np.deg2rad(12)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    for number in range(cases):
        center = np.array(shape) / 2 + rng.uniform(-1.5, 1.5, 3)
        radius = np.linalg.norm((np.stack(np.indices(shape), -1) - center) / (np.array(shape) * 0.3), axis=-1)
        labels = np.where(radius < 0.5, 7, radius < 1).astype(np.uint8)
        image = (np.array([10, 300, 0, 0, 0, 0, 0, 700])[labels] + rng.integers(0, 20, shape)).astype(np.int16)
        for kind, array in (("images", image), ("labels", labels)):
            picture = sitk.GetImageFromArray(array)
            picture.SetSpacing((2.0, 1.5, 2.5))
            picture.SetDirection((turn @ np.diag([-1, 1, 1])).ravel().tolist())
            picture.SetOrigin((20.0 + number, -30.0, 5.0))
            sitk.WriteImage(picture, str(folder / kind / f"Fall ü{number}.nrrd"))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "meine Bilder")


def test_check_answers_what_the_terminal_prints(folder: Path) -> None:
    report = run("dataset_check", {"folder": str(folder)}).report
    assert report["layout"] == "folder"
    assert report["labelled_cases"] == 4
    assert [label["value"] for label in report["labels"]] == [1, 7]
    assert report["counts"]["error"] == 0


def test_a_case_comes_as_it_lies_in_its_file(folder: Path, tmp_path: Path) -> None:
    result = run("dataset_case", {"folder": str(folder), "case": "Fall ü2", "output": str(tmp_path)})
    judge = sitk.ReadImage(str(folder / "images" / "Fall ü2.nrrd"))
    assert np.array_equal(np.load(result.files["image"]), sitk.GetArrayFromImage(judge))
    for name in ("image", "labels"):
        place = np.array(result.report["ras_from_ijk"][name]) @ [3, 5, 7, 1]
        expected = np.array(judge.TransformIndexToPhysicalPoint((3, 5, 7))) * [-1, -1, 1]
        assert np.abs(place[:3] - expected).max() < 1e-9
    assert sorted(np.unique(np.load(result.files["labels"]))) == [0, 1, 7]


@pytest.mark.parametrize(
    ("name", "spec", "code"),
    [
        ("dataset_case", {"folder": "FOLDER", "case": "nobody", "output": "OUT"}, "case-unknown"),
        ("dataset_case", {"folder": "FOLDER", "case": "Fall ü1", "output": "OUT/none"}, "file-not-found"),
        ("dataset_check", {}, "request-invalid"),
        ("dataset_check", {"folder": "FOLDER", "jobs": 3}, "request-invalid"),
        ("dataset_prepare", {"folder": "FOLDER", "output": "OUT", "config": {"spacing": 2}}, "options-invalid"),
        ("dataset_prepare", {"folder": "FOLDER", "output": "OUT", "config": []}, "request-invalid"),
        ("train_trial", {"config": {}}, "training-config-invalid"),
        ("train_trial", {"config": {"dataset": "OUT/none"}}, "prepared-not-found"),
        ("train_trial", {"config": {"dataset": "OUT"}, "steps": 0}, "request-invalid"),
        ("train_pair", {"run": "OUT", "output": "OUT"}, "run-not-found"),
        ("train_pair", {"run": "OUT", "output": "OUT", "checkpoint": "first"}, "request-invalid"),
        ("train_export", {"run": "OUT", "name": "x"}, "run-not-found"),
        ("train_export", {"run": "OUT", "name": "x", "not_for": "all"}, "request-invalid"),
        ("train_export", {"run": "OUT", "name": "x", "intended_use": {"organ": "liver"}}, "request-invalid"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    folder: Path, tmp_path: Path, name: str, spec: dict[str, Any], code: str
) -> None:
    def placed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: placed(item) for key, item in value.items()}
        return value.replace("FOLDER", str(folder)).replace("OUT", str(tmp_path)) if isinstance(value, str) else value

    with pytest.raises(AutoFuseError) as caught:
        run(name, placed(spec))
    assert caught.value.code == code


def test_preparing_takes_options_and_a_table_of_labels(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "Gruppen.csv"
    table.write_text("old,new,name\n7,1,core\n", encoding="utf-8")
    spec = {"folder": str(folder), "output": str(tmp_path / "out"), "labels": str(table)}
    result = run("dataset_prepare", {**spec, "config": {"alignment": "centers", "spacing_mm": [3.0, 2.0, 2.5]}})
    dataset = PreparedDataset.open(result.report["folder"])
    assert dataset.spacing_mm == (3.0, 2.0, 2.5)
    assert [(label.value, label.name) for label in dataset.labels] == [(1, "core")]
    assert result.report["cases"] == 4


def test_a_preparation_that_is_cancelled_says_so(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        run("dataset_prepare", {"folder": str(folder), "output": str(tmp_path / "out")}, cancelled=lambda: True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run")
    config = tiny_config(tiny_dataset(place / "data"), stages=(Stage(steps=3, learning_rate=1e-3),))
    train(config, place / "run")
    return place / "run"


def test_the_preview_is_what_the_checkpoint_makes_of_a_validation_pair(trained: Path, tmp_path: Path) -> None:
    result = run("train_pair", {"run": str(trained), "output": str(tmp_path), "number": 1})
    fixed, moving, warped = (np.load(result.files[name]) for name in ("fixed", "moving", "warped"))
    assert fixed.shape == moving.shape == warped.shape == (16, 32, 16)
    assert result.report["step"] == 3
    dataset = PreparedDataset.open(trained.parent / "data")
    names = [case.name for case in dataset.cases if case.split == "validation"]
    assert set(result.report["names"]) <= set(names)
    assert np.array_equal(moving, dataset.image(dataset.index_of(result.report["names"][1])))
    again = run("train_pair", {"run": str(trained), "output": str(tmp_path), "number": 1 + result.report["pairs"]})
    assert again.report["names"] == result.report["names"]
    # After three steps things move by little: the warped image is nearer to the moving one than to the fixed one.
    assert 0 < np.abs(warped - moving).mean() < 0.7 * np.abs(warped - fixed).mean()


def test_export_fills_the_card_from_what_is_asked(trained: Path, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTOFUSE_MODELS", str(tmp_path / "Modelle"))
    spec = {"run": str(trained), "name": "heart-1", "title": "Herz", "licence": "CC-BY-4.0", "attribution": "A. Müller"}
    spec |= {"intended_use": {"modality": "MR", "body_part": "heart", "spacing_mm": 1.5}, "not_for": ["children"]}
    result = run("train_export", spec)
    card = read_card(Path(result.files["card"]))
    assert (card.title, card.licence, card.attribution, card.not_for) == (
        "Herz",
        "CC-BY-4.0",
        "A. Müller",
        ("children",),
    )
    assert (card.intended_use.body_part, card.intended_use.spacing_mm) == ("heart", 1.5)
    with pytest.raises(AutoFuseError, match="exists"):
        run("train_export", spec)
    run("train_export", {"run": str(trained), "name": "heart-1", "overwrite": True})
    assert read_card(Path(result.files["card"])).not_for == ("Clinical decisions",)


def test_a_trial_measures_a_step_and_writes_nothing(trained: Path) -> None:
    before = sorted(trained.rglob("*"))
    trial = run("train_trial", {"config": tiny_config(trained.parent / "data", batch=2).to_dict()}).report
    assert trial["fits"]
    assert trial["measured"]
    assert trial["seconds_in_all"] == pytest.approx(7 * trial["seconds_per_step"])
    assert trial["seconds_per_step"] > 0
    assert trial["parameters"] > 1000
    assert sorted(trained.rglob("*")) == before


def test_a_trial_counts_steps_of_the_segmentation_by_what_they_take(trained: Path, monkeypatch: Any) -> None:
    tried: list[tuple[str, ...]] = []

    def measure(self: Any, config: Any, shape: Any, steps: int) -> Any:
        tried.append(tuple(stage.learns for stage in config.stages))
        light = config.stages[0].learns == "segmentation"
        return training_trial._Measured(seconds=0.3 if light else 1.0, memory=1 if light else 2**30)

    monkeypatch.setattr(training_trial._Trial, "measure", measure)
    first = Stage(steps=30, pairs="labelled", learns="segmentation")
    last = Stage(steps=7, pairs="labelled")
    config = tiny_config(trained.parent / "data", batch=2, stages=(first, replace(first, steps=10), last))
    trial = try_training(config)
    assert tried == [("everything",), ("segmentation",)]
    assert (trial.seconds_per_step, trial.memory_gib) == (2.0, 1.0)
    assert trial.seconds_in_all == pytest.approx(2 * (40 * 0.3 + 7))
    alone = try_training(replace(config, stages=(first,)))
    assert (alone.seconds_per_step, alone.seconds_in_all) == (0.6, pytest.approx(18))


def test_a_trial_takes_steps_of_both_kinds(trained: Path) -> None:
    first = Stage(steps=5, pairs="labelled", learns="segmentation")
    both = tiny_config(trained.parent / "data", stages=(first, Stage(steps=2, pairs="labelled")))
    texts: list[str] = []
    trial = try_training(both, report=lambda event: texts.append(event.text))
    assert len(texts) == 6
    assert trial.seconds_per_step is not None
    assert trial.seconds_in_all is not None
    assert trial.seconds_in_all > 2 * trial.seconds_per_step


def test_a_trial_without_memory_names_what_would_fit(trained: Path, monkeypatch: Any) -> None:
    """The part of the image needs 100 bytes a voxel and channel: the whole needs more than there is."""
    asked: list[tuple[bool, int]] = []

    def measure(self: Any, config: Any, shape: Any, steps: int) -> Any:
        asked.append((config.recompute, config.network.channels))
        self._parameters = 0
        need = 100 * shape[0] * shape[1] * shape[2] * config.network.channels // (2 if config.recompute else 1)
        return training_trial._Measured(seconds=1.0, memory=need)

    monkeypatch.setattr(training_trial._Trial, "measure", measure)
    monkeypatch.setattr(training_trial, "_SMALL_VOXELS", 5_000)
    monkeypatch.setattr(training_trial, "_LEAST_SIDE", 16)
    config = replace(
        tiny_config(trained.parent / "data"), network=NetworkConfig(channels=16, classes=3, align_corners=False)
    )
    whole = 100 * 16 * 32 * 16 * 16
    for free, remedy in ((whole * 2, {}), (whole * 0.6, {"recompute": True}),
                         (whole * 0.3, {"recompute": True, "network.channels": 8}), (whole * 0.1, {})):  # fmt: skip
        monkeypatch.setattr(training_trial, "free_memory_bytes", lambda device, free=free: int(free))
        trial = try_training(config)
        assert trial.remedy == remedy
        assert trial.fits is (free > whole)
        assert trial.memory_gib == pytest.approx(whole / 2**30)
        assert trial.measured is trial.fits


def test_a_trial_is_cancelled_between_steps(trained: Path) -> None:
    with pytest.raises(CancelledError):
        try_training(tiny_config(trained.parent / "data"), cancelled=lambda: True)


def test_the_part_of_an_image_keeps_sides_that_networks_take() -> None:
    for shape in ((160, 192, 144), (32, 512, 512), (16, 16, 4096), (48, 48, 48)):
        part = training_trial._part_of(shape)
        assert all(side % 16 == 0 and side <= whole for side, whole in zip(part, shape, strict=True))
        assert all(side >= min(whole, 32) for side, whole in zip(part, shape, strict=True))
    with pytest.raises(InputError, match="There is no job"):
        run("train", {})
