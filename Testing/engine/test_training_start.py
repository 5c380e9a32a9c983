"""A training that begins with the weights of a model: what it takes, remembers and refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from autofuse_engine.checkpoint import load_checkpoint
from autofuse_engine.cli import main
from autofuse_engine.configs import NetworkConfig
from autofuse_engine.data.manifest import LabelName, read_manifest, write_manifest
from autofuse_engine.errors import InputError, ModelError
from autofuse_engine.events import Event, Warning
from autofuse_engine.model_card import read_card
from autofuse_engine.networks.build import build_network
from autofuse_engine.run_folder import RunFolder, read_rows
from autofuse_engine.training import train
from autofuse_engine.training_configs import Stage, TrainingConfig
from autofuse_engine.training_export import export_model
from autofuse_engine.training_state import read_state
from Testing.engine.training_runs import assert_same_run, tiny_config, tiny_dataset

STILL = (Stage(steps=1, pairs="labelled", learning_rate=1e-30),)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("vorbereitet"))


@pytest.fixture(scope="module")
def model(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run of seven steps came to, in a folder with a name that is not ASCII."""
    folder = tmp_path_factory.mktemp("Modelle äöü")
    train(tiny_config(dataset), folder / "run")
    return export_model(folder / "run", "first", folder=folder, licence="CC0", checkpoint="last", attribution="A. B.")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    tensors, _ = read_state(RunFolder(folder).last)
    return {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}


def renamed(dataset: Path, folder: Path, names: dict[int, str]) -> Path:
    """The same cases with other names of their labels."""
    manifest = read_manifest(dataset)
    for case in dataset.rglob("*.npy"):
        target = folder / case.relative_to(dataset)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(case.read_bytes())
    write_manifest(folder, replace(manifest, labels=tuple(LabelName(value=v, name=n) for v, n in names.items())))
    return folder


def started(model: Path, dataset: Path, folder: Path, **more: Any) -> tuple[TrainingConfig, list[str]]:
    """A run that leaves the weights as they begin; its configuration, and what it warned of."""
    config = tiny_config(dataset, start_from=str(model), **({"stages": STILL} | more))
    told: list[Event] = []
    train(config, folder, report=told.append)
    return config, [event.text for event in told if isinstance(event, Warning)]


def test_it_begins_where_the_model_ended(model: Path, dataset: Path, tmp_path: Path) -> None:
    _, warnings = started(model, dataset, tmp_path / "run", seed=9)
    assert not warnings
    expected = load_checkpoint(model).network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in weights_of(tmp_path / "run").items())
    before = read_rows(RunFolder(model.parent / "run").validation)[-1]
    after = read_rows(RunFolder(tmp_path / "run").validation)[0]
    assert after["step"] == 0
    assert after["segmentation_dice"] == pytest.approx(before["segmentation_dice"])


def test_the_model_itself_is_the_best_until_the_training_is_better(model: Path, dataset: Path, tmp_path: Path) -> None:
    config = tiny_config(dataset, start_from=str(model), stages=STILL)
    result = train(config, tmp_path / "run")
    assert result.best is not None
    assert result.best["step"] == 0
    export = export_model(tmp_path / "run", "again", folder=tmp_path)
    assert torch.equal(
        load_checkpoint(export).network.state_dict()["head.mean.weight"],
        load_checkpoint(model).network.state_dict()["head.mean.weight"],
    )


def test_classes_are_found_by_their_names(model: Path, dataset: Path, tmp_path: Path) -> None:
    names = {label.value: label.name for label in read_manifest(dataset).labels}
    crossed = renamed(dataset, tmp_path / "crossed", {1: f" {names[2].upper()}", 2: "something new"})
    config, warnings = started(model, crossed, tmp_path / "run")
    old, new = load_checkpoint(model).network.state_dict(), weights_of(tmp_path / "run")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        fresh = build_network(config.network).state_dict()
    for name in ("segmentation.scores.weight", "segmentation.scores.bias"):
        assert torch.equal(new[name][0], old[name][0])
        assert torch.equal(new[name][1], old[name][2])
        assert torch.equal(new[name][2], fresh[name][2])
    assert warnings == [
        "The model first segments 1 of the dataset's 2 labels: the scores of the others begin at random."
    ]


def test_a_network_that_begins_to_segment_registers_as_before(model: Path, dataset: Path, tmp_path: Path) -> None:
    plain = tiny_config(dataset, network=NetworkConfig(channels=2, align_corners=False))
    train(plain, tmp_path / "plain")
    unsupervised = export_model(tmp_path / "plain", "plain", folder=tmp_path, checkpoint="last")
    config, warnings = started(unsupervised, dataset, tmp_path / "run")
    assert warnings == ["The model plain has no weights for segmentation, single_image_path: these begin at random."]
    network = build_network(config.network).eval()
    network.load_state_dict(weights_of(tmp_path / "run"))
    fixed, moving = torch.rand(2, 1, 1, 16, 32, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = load_checkpoint(unsupervised).network(fixed, moving).velocity_mean
        assert float(expected.abs().max()) > 0
        assert torch.allclose(network(fixed, moving).velocity_mean, expected, atol=1e-6)
    started(model, dataset, tmp_path / "back", network=plain.network)
    first = weights_of(tmp_path / "back")["pair_path.stages.0.first.weight"]
    of_model = load_checkpoint(model).network.state_dict()["pair_path.stages.0.first.weight"]
    assert torch.equal(first, of_model[:, :2])


def test_another_architecture_is_refused_with_what_differs(model: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="channels is 2 there and 4 here; align_corners is False there") as caught:
        started(model, dataset, tmp_path / "run", network=NetworkConfig(channels=4, classes=3))
    assert caught.value.code == "training-start-differs"
    assert not RunFolder(tmp_path / "run").config.exists()
    with pytest.raises(ModelError, match="no model named 'nobody'"):
        train(tiny_config(dataset, start_from="nobody"), tmp_path / "run")


def test_a_run_goes_on_without_the_model(model: Path, dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for suffix in (".safetensors", ".json"):
        (copy / f"first{suffix}").write_bytes(model.with_suffix(suffix).read_bytes())
    config = tiny_config(dataset, start_from=str(copy / "first.json"))
    train(config, tmp_path / "whole")
    asked = iter([False, False, False, True])
    assert not train(config, tmp_path / "parts", stop=lambda: next(asked, False)).finished
    for file in copy.iterdir():
        file.unlink()
    assert train(config, tmp_path / "parts", resume=True).finished
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_other_spacing_and_orientation_are_told(model: Path, dataset: Path, tmp_path: Path) -> None:
    folder = renamed(dataset, tmp_path / "coarse", {label.value: label.name for label in read_manifest(dataset).labels})
    manifest = read_manifest(folder)
    known = manifest.preprocessing
    other = replace(known, spacing_mm=tuple(2 * side for side in known.spacing_mm), orientation="LIA")
    write_manifest(folder, replace(manifest, preprocessing=other))
    _, warnings = started(model, folder, tmp_path / "run")
    assert [warning.split(",")[0] for warning in warnings] == [
        "The dataset is prepared at 3 x 2.5 x 4 mm",
        "The dataset is prepared as LIA",
    ]


def test_a_card_names_the_model_and_its_rights(model: Path, dataset: Path, tmp_path: Path) -> None:
    started(model, dataset, tmp_path / "run")
    card = read_card(export_model(tmp_path / "run", "second", folder=tmp_path).with_suffix(".json"))
    begun = card.training["started_from"]
    assert (begun["name"], begun["licence"], begun["fresh"]) == ("first", "CC0", [])
    assert begun["sha256"] == read_card(model.with_suffix(".json")).weights.sha256  # type: ignore[union-attr]
    assert card.licence.endswith("begun with first: CC0")
    assert card.attribution.endswith("begun with first: A. B.")


def test_the_command_takes_the_network_of_the_model(
    model: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOFUSE_MODELS", str(model.parent))
    steps = [f"--set=stages={json.dumps([{'steps': 1, 'pairs': 'labelled'}])}", "--set=device=cpu", "--quiet"]
    begin = ["train", "--dataset", str(dataset), "--start-from", "first", *steps]
    assert main([*begin, "--preset", "brain-semi", "--run-dir", str(tmp_path / "semi")]) == 0
    semi = RunFolder(tmp_path / "semi").read_config()
    assert (semi.start_from, semi.network) == ("first", read_card(model.with_suffix(".json")).network)
    assert main([*begin, "--preset", "brain-unsupervised", "--run-dir", str(tmp_path / "plain")]) == 0
    assert RunFolder(tmp_path / "plain").read_config().network == replace(semi.network, classes=0)
    written = tmp_path / "config.json"
    written.write_text(json.dumps({"dataset": "", "network": {"channels": 3}}), encoding="utf-8")
    assert main([*begin, str(written), "--run-dir", str(tmp_path / "other")]) == 2
    assert "channels is 2 there and 3 here" in capsys.readouterr().err
    assert main(["train", "--resume", "--start-from", "first", "--run-dir", str(tmp_path / "semi")]) == 2
    assert "--start-from goes with" in capsys.readouterr().err
