"""Training as a whole on tiny pairs: it learns, stops, refuses, survives bad gradients, and gives a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autofuse_engine.checkpoint import load_checkpoint
from autofuse_engine.configs import NetworkConfig
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.errors import AutoFuseError, FileError, InputError
from autofuse_engine.events import Event, Metric, Progress, Warning
from autofuse_engine.networks import lean
from autofuse_engine.networks.autofuse import AutoFuse
from autofuse_engine.networks.network import NetworkOutput
from autofuse_engine.run_folder import RunFolder, read_rows, read_status
from autofuse_engine.run_lock import RunLock
from autofuse_engine.training import train
from autofuse_engine.training_configs import AugmentationConfig, LossConfig, Stage, TrainingConfig
from autofuse_engine.training_export import export_model
from autofuse_engine.training_pair_images import PairMaker, TrainingPair
from autofuse_engine.training_pairs import ClassTable
from autofuse_engine.training_state import read_state
from autofuse_engine.training_step import PairLoss, Stepper
from Testing.engine.training_runs import records, tiny_config, tiny_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("prepared"))


def short(dataset: Path, **more: Any) -> TrainingConfig:
    values: dict[str, Any] = {
        "network": NetworkConfig(channels=2, align_corners=False),
        "stages": (Stage(steps=2, learning_rate=1e-3),),
        "augmentation": AugmentationConfig(),
        "validation_pairs": 1,
    }
    return tiny_config(dataset, **(values | more))


@pytest.mark.slow
def test_it_lowers_the_loss_and_raises_the_overlap_of_pairs_that_it_never_saw(dataset: Path, tmp_path: Path) -> None:
    config = short(
        dataset,
        network=NetworkConfig(channels=4, align_corners=False),
        losses=LossConfig(similarity="mse", similarity_weight=10.0),
        # At 1e-3 throughout the seventh digit of the first weights decides where the Dice ends, 0.57 to 0.68.
        stages=(Stage(steps=60, learning_rate=4e-4), Stage(steps=20, learning_rate=1e-4)),
        validation_every=20,
        validation_pairs=6,
    )
    result = train(config, tmp_path / "run")
    losses = [row["loss"] for row in read_rows(RunFolder(tmp_path / "run").metrics)]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    judged = read_rows(RunFolder(tmp_path / "run").validation)
    assert result.best is not None
    assert result.best["dice"] > judged[0]["dice"] + 0.08
    assert judged[-1]["similarity"] > judged[0]["similarity"] + 0.2
    assert all(row["folding_percent"] < 0.5 for row in judged)


@pytest.mark.parametrize(
    "network",
    [
        NetworkConfig(channels=2, classes=3, segmentation_code="hard"),
        NetworkConfig(kind="voxelmorph-1", channels=4, field="displacement"),
        NetworkConfig(channels=2, field="displacement", varying_regularity=True, conditional=True),
    ],
    ids=["hard", "displacement", "conditional"],
)
def test_every_kind_of_network_takes_a_step_that_changes_it(
    network: NetworkConfig, dataset: Path, tmp_path: Path
) -> None:
    config = short(dataset, network=network, losses=LossConfig(smoothness=0.5), stages=(Stage(steps=1),))
    assert train(config, tmp_path / "run").finished
    row = read_rows(RunFolder(tmp_path / "run").metrics)[0]
    assert all(np.isfinite(value) for name, value in row.items() if isinstance(value, float))
    assert ("kl" in row) is (network.field == "velocity")
    moments = read_state(RunFolder(tmp_path / "run").last)[0]
    assert any(
        name.startswith("optimizer.exp_avg.") and float(value.abs().max()) > 0 for name, value in moments.items()
    )


def test_a_batch_is_the_mean_of_its_pairs(dataset: Path, tmp_path: Path) -> None:
    single = tmp_path / "single"
    train(short(dataset, stages=(Stage(steps=4, learning_rate=1e-12),)), single)
    train(short(dataset, stages=(Stage(steps=2, learning_rate=1e-12),), batch=2), tmp_path / "double")
    ones, twos = (read_rows(RunFolder(folder).metrics) for folder in (single, tmp_path / "double"))
    for number, row in enumerate(twos):
        parts = ones[2 * number : 2 * number + 2]
        assert row["fixed"] == " ".join(part["fixed"] for part in parts)
        assert row["gradient_norm"] <= 1.02 * np.mean([part["gradient_norm"] for part in parts]), "a mean is no longer"
        # The noise differs, as it belongs to the step: the similarity hardly feels it.
        assert row["similarity"] == pytest.approx(np.mean([part["similarity"] for part in parts]), abs=5e-3)


@pytest.mark.parametrize("option", ["recompute", "channels_last"])
def test_options_of_memory_leave_the_losses_as_they_are(option: str, dataset: Path, tmp_path: Path) -> None:
    plain, other = tmp_path / "plain", tmp_path / "other"
    config = tiny_config(dataset, stages=(Stage(steps=2, pairs="labelled", learning_rate=1e-3),))
    train(config, plain)
    train(replace(config, **{option: True}), other)
    (one, _), (two, _) = records(plain), records(other)
    if option == "recompute":
        assert one == two
    for first, second in zip(one, two, strict=True):
        assert float(first["loss"]) == pytest.approx(float(second["loss"]), rel=1e-4)


@pytest.mark.skipif(not lean.has_fast_bfloat16(), reason="needs a CPU with bfloat16")
def test_mixed_precision_learns_the_same_direction(dataset: Path) -> None:
    image = torch.rand(1, 1, 16, 32, 16, generator=torch.Generator().manual_seed(1))
    gradients = []
    for precision in ("float32", "bfloat16"):
        config = short(dataset, precision=precision, network=NetworkConfig(channels=8))
        torch.manual_seed(0)
        from autofuse_engine.training_step import network_for_training

        network = network_for_training(config, torch.device("cpu"))
        loss, _ = PairLoss(network, config)(image, image.flip(2), None, None, 3)
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    assert gradients[0].shape == gradients[1].shape
    assert float(torch.cosine_similarity(*gradients, dim=0)) > 0.9


def test_bfloat16_is_refused_where_the_cpu_has_no_instructions(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lean, "has_fast_bfloat16", lambda: False)
    with pytest.raises(AutoFuseError) as caught:
        train(short(dataset, precision="bfloat16"), tmp_path / "run")
    assert caught.value.code == "precision-not-supported"


def poisoned(monkeypatch: pytest.MonkeyPatch, bad: Callable[[int], bool]) -> None:
    """Give some steps an image with a NaN."""
    original, count = Stepper.step, 0

    def step(self: Stepper, number: int, pairs: Any) -> Any:
        nonlocal count
        count += 1
        if not bad(count):
            return original(self, number, pairs)

        def spoil(make: Callable[[], TrainingPair]) -> TrainingPair:
            pair = make()
            return replace(pair, moving=pair.moving * float("nan"))

        return original(self, number, [lambda make=make: spoil(make) for make in pairs])

    monkeypatch.setattr(Stepper, "step", step)


def test_a_step_without_a_finite_gradient_is_skipped_and_counted(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(monkeypatch, lambda count: count in (2, 3))
    events: list[Event] = []
    config = short(dataset, stages=(Stage(steps=4, learning_rate=1e-3),))
    assert train(config, tmp_path / "run", report=events.append).finished
    rows = read_rows(RunFolder(tmp_path / "run").metrics)
    assert [row["skipped"] for row in rows] == [0, 1, 1, 0]
    tensors, facts = read_state(RunFolder(tmp_path / "run").last)
    assert facts["place"]["skipped"] == 2
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
    assert float(tensors["optimizer.step.head.mean.weight"]) == 2
    assert [event.code for event in events if isinstance(event, Warning)] == ["step-skipped"] * 2


def test_a_training_that_stays_without_finite_gradients_ends_with_an_error(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(monkeypatch, lambda count: count > 1)
    with pytest.raises(AutoFuseError) as caught:
        train(short(dataset, stages=(Stage(steps=50),)), tmp_path / "run")
    assert caught.value.code == "training-diverged"
    status = read_status(tmp_path / "run")
    assert status.state == "failed"
    assert status.problem is not None
    assert status.problem["code"] == "training-diverged"
    assert status.step == 6


def test_the_file_stop_ends_a_run_after_the_current_step(dataset: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")

    def report(event: Event) -> None:
        if isinstance(event, Metric) and event.stage == "training" and event.step == 2:
            run.stop.touch()

    result = train(short(dataset, stages=(Stage(steps=9),)), run.path, report=report)
    assert (result.step, result.finished) == (2, False)
    assert not run.stop.exists(), "or the resumed run would stop at once"
    assert read_state(run.last)[1]["place"]["step"] == 2


def test_events_tell_of_the_beginning_every_step_and_the_judgement(dataset: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    train(short(dataset), tmp_path / "run", report=events.append)
    assert isinstance(events[0], Progress)
    assert events[0].text == "started at step 0"
    told = [(event.stage, event.step) for event in events if isinstance(event, Metric)]
    assert told == [("validation", 0), ("training", 1), ("training", 2), ("validation", 2)]
    lines = RunFolder(tmp_path / "run").events.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4, "steps stand in metrics.csv, not here"


def test_a_folder_takes_one_run_at_a_time(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autofuse_engine.run_lock._PATIENCE_S", 0.05)
    config = short(dataset, stages=(Stage(steps=1),))
    train(config, tmp_path / "run")
    with pytest.raises(FileError) as caught:
        train(config, tmp_path / "run")
    assert caught.value.code == "run-exists"
    with RunLock(RunFolder(tmp_path / "run").lock), pytest.raises(FileError) as caught:
        train(config, tmp_path / "run", resume=True)
    assert caught.value.code == "run-locked"


def test_a_run_may_be_resumed_with_other_choices_but_not_with_another_network(dataset: Path, tmp_path: Path) -> None:
    config, events = short(dataset), []
    train(config, tmp_path / "run")
    longer = replace(config, stages=(Stage(steps=3, learning_rate=1e-4),))
    result = train(longer, tmp_path / "run", resume=True, report=events.append)
    assert (result.step, result.finished) == (3, True)
    texts = [event.text for event in events if isinstance(event, Warning)]
    assert texts == ["The run goes on with a different stages."]
    assert RunFolder(tmp_path / "run").read_config() == longer
    with pytest.raises(InputError) as caught:
        train(replace(longer, network=NetworkConfig(channels=3)), tmp_path / "run", resume=True)
    assert caught.value.code == "run-network-differs"


def test_a_network_with_other_classes_than_the_dataset_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        train(short(dataset, network=NetworkConfig(channels=2, classes=5)), tmp_path / "run")
    assert caught.value.code == "classes-differ"
    assert "network.classes to 3" in caught.value.hint


def test_a_run_learns_from_a_share_of_the_labels_and_its_model_says_so(dataset: Path, tmp_path: Path) -> None:
    stage = Stage(steps=2, pairs="labelled+unlabelled", learning_rate=1e-3)
    network = NetworkConfig(channels=2, classes=3, align_corners=False)
    train(short(dataset, network=network, stages=(stage,), labelled_percent=67), tmp_path / "run")
    row = read_rows(RunFolder(tmp_path / "run").metrics)[1]
    assert row["warped_labels"] is None, "the second pair has a case without labels"
    _, facts = read_state(RunFolder(tmp_path / "run").last)
    assert facts["dataset"]["labelled_training_cases"] == 3 == facts["dataset"]["cases"]["train"] - 2
    with pytest.raises(InputError, match="1 with labels"):
        train(short(dataset, network=network, stages=(stage,), labelled_percent=20), tmp_path / "too few")


def test_labels_are_given_to_the_network_in_a_share_of_the_steps(dataset: Path) -> None:
    network = NetworkConfig(channels=2, classes=3, align_corners=False)
    generator = torch.Generator().manual_seed(0)
    images = tuple(torch.rand(1, 1, 16, 32, 16, generator=generator) for _ in range(2))
    labels = tuple(torch.randint(0, 3, (1, 1, 16, 32, 16), generator=generator) for _ in range(2))

    def pairs(percent: float, known: tuple[Any, Any] = labels) -> list[TrainingPair]:
        config = short(dataset, network=network, guided_percent=percent)
        maker = PairMaker(config=config, spacing_mm=(1.0, 1.0, 1.0), labels=2)
        return [maker.make(images, known, ("a", "b"), step, 0) for step in range(200)]

    assert all(pair.given == (None, None) for pair in pairs(0))
    told = [pair.given for pair in pairs(40)]
    assert 50 < sum(given != (None, None) for given in told) < 110
    kinds = {tuple(None if one is None else one.classes for one in given) for given in told}
    assert {(None, None)} < {tuple(None if one is None else tuple(sorted(one)) for one in kind) for kind in kinds}
    sides = {tuple(one is not None for one in kind) for kind in kinds}
    assert sides == {(False, False), (True, True), (True, False), (False, True)}
    assert {len(one) for kind in kinds for one in kind if one is not None} == {1, 2}
    for given in told:
        for one, whole in zip(given, labels, strict=True):
            if one is not None:
                chosen = sum(whole == value for value in one.classes).bool()
                assert torch.equal(one.labels, torch.where(chosen, whole, 0))
    assert all(pair.given[1] is None for pair in pairs(100, (labels[0], None)))
    with pytest.raises(ValueError, match="guided_percent"):
        short(dataset, guided_percent=10)


def test_what_is_given_reaches_the_pair_path(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = short(dataset, network=NetworkConfig(channels=2, classes=3, align_corners=False), guided_percent=100)
    seen: list[tuple[Any, Any]] = []
    made: list[tuple[Any, Any]] = []
    forward, make = AutoFuse.forward, PairMaker.make

    def listening(self: AutoFuse, *images: torch.Tensor, **more: Any) -> NetworkOutput:
        if self.training:
            seen.append((more["fixed_given"], more["moving_given"]))
        return forward(self, *images, **more)

    def making(self: PairMaker, *arguments: Any) -> TrainingPair:
        pair = make(self, *arguments)
        made.append(pair.given)
        return pair

    monkeypatch.setattr(AutoFuse, "forward", listening)
    monkeypatch.setattr(PairMaker, "make", making)
    train(replace(config, stages=(Stage(steps=2, pairs="labelled"),)), dataset.parent / "guided run")
    assert len(seen) == 2
    for told, meant in zip(seen, made, strict=True):
        assert meant != (None, None)
        assert all(one is other for one, other in zip(told, meant, strict=True)), "each side gets its own"


def test_labels_become_classes_in_the_order_of_their_values() -> None:
    table = ClassTable([205, 3, 90])
    labels = np.array([[[0, 3, 90, 205, 4, 500]]], dtype=np.uint16)
    assert table.classes(labels).tolist() == [[[0, 1, 2, 3, 0, 0]]]
    assert ClassTable([]).classes(labels).max() == 0


def test_a_checkpoint_becomes_a_model_that_says_how_it_was_trained(dataset: Path, tmp_path: Path) -> None:
    train(tiny_config(dataset, stages=(Stage(steps=3, learning_rate=1e-3),)), tmp_path / "run")
    path = export_model(tmp_path / "run", "tiny", folder=tmp_path, licence="CC0")
    model = load_checkpoint(path)
    assert model.card.network == tiny_config(dataset).network
    assert model.card.preprocessing == PreparedDataset.open(dataset).preprocessing
    training = model.card.training
    assert (training["step"], training["checkpoint"]) == (3, "best")
    assert training["dataset"]["name"] == "Blobs"
    assert training["dataset"]["cases"] == {"train": 5, "validation": 3}
    assert [entry["name"] for entry in training["classes"]] == ["background", "shell", "core"]
    assert training["validation"]["dice"] > 0
    assert str(dataset) not in str(training), "no path of this computer"
    tensors, _ = read_state(RunFolder(tmp_path / "run").best)
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, tensors[f"network.{name}"])


def test_a_run_without_a_checkpoint_cannot_be_exported(dataset: Path, tmp_path: Path) -> None:
    train(short(dataset), tmp_path / "run", stop=lambda: True)
    with pytest.raises(FileError) as caught:
        export_model(tmp_path / "run", "tiny", folder=tmp_path)
    assert caught.value.code == "run-checkpoint-missing"


def test_a_damaged_checkpoint_is_refused(dataset: Path, tmp_path: Path) -> None:
    train(short(dataset), tmp_path / "run")
    last = RunFolder(tmp_path / "run").last
    last.write_bytes(last.read_bytes()[:-1000])
    with pytest.raises(FileError) as caught:
        train(None, tmp_path / "run", resume=True)
    assert caught.value.code == "run-checkpoint-invalid"
