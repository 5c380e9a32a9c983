"""``autofuse train`` at a terminal: every way to say what to train, and what is printed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autofuse_engine import catalog
from autofuse_engine.cli import main
from autofuse_engine.data.files import write_volume
from autofuse_engine.data.manifest import read_manifest
from autofuse_engine.data.volume import Volume
from autofuse_engine.events import Metric, Progress, Warning
from autofuse_engine.run_folder import RunFolder, read_rows
from autofuse_engine.run_lock import RunLock
from autofuse_engine.training_terminal import TrainingDisplay, duration
from Testing.engine.training_runs import tiny_config, tiny_dataset

TINY = ["--set", "network.channels=1", "--set", "stages.0.steps=2", "--set", "validation_pairs=1",
        "--set", "validation_every=1", "--set", "device=cpu"]  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("vorbereitet für alle"))


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("Läufe") / "run 1"
    preset = ["train", "--preset", "brain-unsupervised", "--dataset", str(dataset), "--run-dir", str(folder)]
    assert main([*preset, *TINY, "--every", "1"]) == 0
    return folder


def test_a_preset_trains_and_its_choices_stand_in_the_run_folder(run: Path, dataset: Path) -> None:
    config = RunFolder(run).read_config()
    assert config.network.channels == 1
    assert config.network.align_corners is False
    assert (config.steps, config.stages[0].pairs) == (2, "any")
    assert config.dataset == str(dataset)
    assert {path.name for path in run.iterdir()} == {
        "config.json", "events.jsonl", "metrics.csv", "validation.csv", "checkpoints", "lock",
    }  # fmt: skip


def test_the_state_of_a_run_is_shown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "status", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "finished" in shown
    assert "2 of 2" in shown
    assert "best validation" in shown
    assert main(["train", "status", str(run), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["state"], status["step"]) == ("finished", 2)
    assert main(["train", "status", str(run), "--quiet"]) == 0
    assert capsys.readouterr().out == "finished\n"


def test_the_preset_for_small_budgets_trains_and_says_what_is_learned(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = [change.replace("=2", "=1") if "steps" in change else change for change in TINY]
    first += [part for number in (1, 2, 3) for part in ("--set", f"stages.{number}.steps=1")]
    start = ["train", "--preset", "short-semi", "--dataset", str(dataset), "--run-dir", str(tmp_path / "kurz")]
    assert main([*start, *first]) == 0
    rows = read_rows(RunFolder(tmp_path / "kurz").metrics)
    assert [row["learning_rate"] for row in rows] == [2e-3, 4e-4, 4e-4, 1e-4]
    assert [row["similarity"] is None for row in rows] == [True, True, False, False]
    capsys.readouterr()
    assert main(["train", "status", str(tmp_path / "kurz")]) == 0
    assert "the segmentation alone" not in capsys.readouterr().out
    table = RunFolder(tmp_path / "kurz").metrics
    table.write_text("\n".join([*table.read_text(encoding="utf-8").splitlines()[:3], ""]), encoding="utf-8")
    assert main(["train", "status", str(tmp_path / "kurz")]) == 0
    assert "the segmentation alone" in capsys.readouterr().out


def test_a_run_goes_on_with_more_steps(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--run-dir", str(run), "--resume", "--set", "stages.0.steps=3", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert (result["finished"], result["step"]) == (True, 3)
    assert "run-config-changed" in captured.err
    assert "resumed at step 2" in captured.err


def test_a_run_becomes_a_model_of_the_catalog(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTOFUSE_MODELS", str(tmp_path))
    export = ["train", "export", str(run), "--name", "mine", "--modality", "MR", "--body-part", "head"]
    assert main(export) == 0
    assert "--model mine" in capsys.readouterr().out
    card = catalog.find("mine").card
    assert card is not None
    assert (card.intended_use.modality, card.intended_use.body_part) == ("MR", "head")
    assert "model-exists" in refused(export, capsys)


def test_an_export_measures_the_images_of_the_cases_that_were_trained_on(
    run: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(2)
    splits = {case.name: case.split for case in read_manifest(dataset).cases}
    (tmp_path / "raw" / "images").mkdir(parents=True)
    for name in (*splits, "never prepared"):
        image = Volume(array=random.random((10, 12, 14), np.float32), ras_from_ijk=np.diag([1.0, -1.5, 2.0, 1.0]))
        write_volume(tmp_path / "raw" / "images" / f"{name}.nii.gz", image)
    folder = tmp_path / "Modelle äöü"
    assert main(["train", "export", str(run), "--name", "mine", "--folder", str(folder), "--images",
                 str(tmp_path / "raw"), "--attribution", "A. Müller", "--known-failure", "turned images",
                 "--storage", "float16", "--quiet"]) == 0  # fmt: skip
    card = catalog.find(folder / "mine.safetensors").card
    assert card is not None
    assert card.training_range is not None
    assert card.training_range.cases == {"train": 5, "validation": 3}
    assert card.training_range.spacing_mm[0] == 1.0
    assert (card.attribution, card.known_failures) == ("A. Müller", ("turned images",))
    assert card.intended_use.spacing_mm == min(card.preprocessing.spacing_mm)
    assert card.weights is not None
    assert card.weights.storage == "float16"


def test_a_configuration_file_trains_and_stop_is_for_running_ones(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = tmp_path / "config.json", tmp_path / "run"
    content = tiny_config(dataset, validation_pairs=1).to_dict() | {"stages": [{"steps": 1}]}
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    assert main(["train", str(path), "--run-dir", str(folder), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert "run-not-running" in refused(["train", "stop", str(folder)], capsys)
    with RunLock(RunFolder(folder).lock):
        assert main(["train", "stop", str(folder), "--json"]) == 0
    assert RunFolder(folder).stop.exists()


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ([], "training-config-missing"),
        (["--preset", "brain-unsupervised"], "options-invalid"),
        (["--dataset", "somewhere"], "options-invalid"),
        (["absent.json"], "file-not-found"),
        (["--preset", "liver"], "arguments-invalid"),
        (["--preset", "brain-semi", "--dataset", "DATASET", "--set", "network.classes=9"], "classes-differ"),
        (["--preset", "brain-semi", "--dataset", "DATASET", "--set", "batch=half"], "training-config-invalid"),
        (["--preset", "brain-semi", "--dataset", "DATASET", "--set", "stages.7.steps=1"], "options-invalid"),
        (["--preset", "brain-semi", "--dataset", "DATASET", "--set", "batch"], "options-invalid"),
        (["--preset", "brain-semi", "--dataset", "absent"], "prepared-not-found"),
        (["--resume"], "run-not-found"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    more: list[str], code: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [str(dataset) if item == "DATASET" else item for item in more]
    assert code in refused(["train", *more, "--run-dir", str(tmp_path / "run")], capsys)


@pytest.mark.parametrize(("text", "name"), [("{", "JSON"), ("[]", "object"), ('{"batch": 1}', "dataset")])
def test_a_file_that_is_no_configuration_is_refused(
    text: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    message = refused(["train", str(path), "--run-dir", str(tmp_path / "run")], capsys)
    assert "training-config-invalid" in message
    assert name in message


def test_without_a_terminal_a_line_is_printed_every_so_many_steps() -> None:
    stream = io.StringIO()
    with TrainingDisplay(quiet=False, every=10, stream=stream) as display:
        display(Progress(stage="training", fraction=0.0, text="started at step 0"))
        for step in range(1, 26):
            display(Metric(stage="training", step=step, values={"loss": -0.5, "similarity": -0.6}))
            display(Progress(stage="training", fraction=step / 25, text=f"step {step} of 25"))
        display(Metric(stage="validation", step=25, values={"dice": 0.71234}))
        display(Warning(code="step-skipped", text="Skipped."))
    lines = stream.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "started at step 0", "step 1", "step 10", "step 20", "step 25", "Warning (step-skipped)",
    ]  # fmt: skip
    assert "loss -0.5, similarity -0.6" in lines[1]
    assert "s a step" in lines[2]
    assert "validation dice 0.7123" in lines[4]


def test_at_a_terminal_a_bar_shows_the_loss() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream: Any = Terminal()
    with TrainingDisplay(quiet=False, stream=stream) as display:
        display(Metric(stage="training", step=3, values={"loss": -0.25}))
        display(Progress(stage="training", fraction=0.1, text="step 3 of 30"))
        display(Metric(stage="validation", step=3, values={"dice": 0.5}))
    assert "validation dice 0.5" in stream.getvalue()
    assert "3/30" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(59.6, "1 min 00 s"), (7500, "2 h 05 min"), (30, "0 min 30 s"), (200_000, "2.3 days")]
)
def test_durations_are_told_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text
