"""Models on disk: what is written is read back exactly, and whatever does not fit is refused with its own code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from autofuse_engine import checkpoint
from autofuse_engine.checkpoint import load_checkpoint, save_checkpoint
from autofuse_engine.configs import NetworkConfig
from autofuse_engine.errors import ModelError
from autofuse_engine.model_card import IntendedUse, ModelCard, Preprocessing, read_card
from autofuse_engine.networks.build import build_network

CONFIG = NetworkConfig(channels=2, align_corners=False)
CARD = ModelCard(
    name="tiny-brain",
    title="Ein Prüfmodell",
    network=CONFIG,
    preprocessing=Preprocessing(spacing_mm=(1.0, 1.25, 3.0), orientation="LIA", intensity_percentiles=(0.5, 99.5)),
    training={"data": "made up", "steps": 12, "validation": {"dice": [0.5, 0.75]}},
    licence="CC-BY-4.0",
    attribution="Somebody",
    citation="Somewhere, 2024",
    intended_use=IntendedUse(modality="MR T1", body_part="brain", spacing_mm=1.0),
    not_for=("Clinical decisions", "CT"),
)


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(3)
    network = build_network(CONFIG)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


@pytest.fixture
def weights(network: torch.nn.Module, tmp_path: Path) -> Path:
    return save_checkpoint(network, CARD, tmp_path / "Modelle für Köpfe")


def refusal(path: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load_checkpoint(path)
    assert caught.value.text.endswith(".")
    assert caught.value.hint
    return caught.value


def sign(weights: Path, **changes: object) -> None:
    """Make the card fit the weights file as it is now, with other changes to the card."""
    card = weights.with_suffix(".json")
    content = json.loads(card.read_text(encoding="utf-8"))
    data = weights.read_bytes()
    content["weights"] |= {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    card.write_text(json.dumps(content | changes), encoding="utf-8")


def test_a_saved_model_comes_back_bit_by_bit_with_its_whole_card(network: torch.nn.Module, weights: Path) -> None:
    model = load_checkpoint(weights)
    assert not model.network.training
    expected = network.state_dict()
    assert model.network.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.network.state_dict().items())
    assert model.card.weights is not None
    assert model.card == ModelCard.from_dict(CARD.to_dict() | {"weights": model.card.weights.to_dict()})
    assert model.card.weights.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert model.card.weights.size_bytes == weights.stat().st_size


@pytest.mark.parametrize("suffix", ["", ".json", ".safetensors"])
def test_either_file_or_their_stem_names_the_model(weights: Path, suffix: str) -> None:
    assert load_checkpoint(weights.with_suffix(suffix)).card.name == "tiny-brain"


def test_half_precision_storage_halves_the_file_and_rounds_to_eleven_bits(
    network: torch.nn.Module, weights: Path, tmp_path: Path
) -> None:
    half = save_checkpoint(network, CARD, tmp_path / "half", storage="float16")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert weights.stat().st_size - half.stat().st_size == pytest.approx(2 * parameters, rel=0.01)
    for name, tensor in load_checkpoint(half).network.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, network.state_dict()[name], rtol=2**-11, atol=2**-24)


def test_the_file_holds_weights_only_and_other_programs_can_read_it(network: torch.nn.Module, weights: Path) -> None:
    assert load_file(weights).keys() == network.state_dict().keys()


def test_the_loaded_network_can_be_trained_further(weights: Path) -> None:
    network = load_checkpoint(weights).network.train()
    output = network(torch.rand(1, 1, 16, 32, 48), torch.rand(1, 1, 16, 32, 48))
    output.velocity_mean.square().sum().backward()
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in network.parameters())


def test_loading_leaves_the_random_numbers_of_the_program_alone(weights: Path) -> None:
    before = torch.get_rng_state()
    load_checkpoint(weights)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("position", [0.1, 0.5, 0.999])
def test_a_flipped_bit_anywhere_is_refused(weights: Path, position: float) -> None:
    data = bytearray(weights.read_bytes())
    data[int(position * len(data))] ^= 1
    weights.write_bytes(data)
    assert refusal(weights).code == "model-checksum"


def test_a_truncated_file_is_refused(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert refusal(weights).code == "model-truncated"


def test_a_truncated_file_is_refused_even_when_its_card_was_adapted(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-1000])
    sign(weights)
    assert refusal(weights).code == "model-unsafe-format"


def test_weights_without_card_are_refused(weights: Path) -> None:
    weights.with_suffix(".json").unlink()
    error = refusal(weights)
    assert error.code == "model-card-missing"
    assert "tiny-brain.json" in error.text


def test_a_card_without_weights_is_refused(weights: Path) -> None:
    weights.unlink()
    assert refusal(weights).code == "model-not-found"


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".ckpt", ".PT"])
def test_a_pickle_is_refused_by_its_name_before_it_is_opened(tmp_path: Path, suffix: str) -> None:
    assert refusal(tmp_path / f"absent{suffix}").code == "model-unsafe-format"


def test_a_pickle_under_the_name_of_a_safetensors_file_is_never_unpickled(weights: Path, tmp_path: Path) -> None:
    torch.save({"weights": Trap(tmp_path / "sprung")}, weights)
    sign(weights)
    assert refusal(weights).code == "model-unsafe-format"
    assert not (tmp_path / "sprung").exists()


class Trap:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_missing_unexpected_and_misshapen_tensors_are_named(weights: Path) -> None:
    tensors = load_file(weights)
    tensors["extra.weight"] = tensors.pop("head.mean.bias")
    tensors["head.shared.bias"] = torch.zeros(3)
    save_file(tensors, weights)
    sign(weights)
    error = refusal(weights)
    assert error.code == "model-tensors"
    assert "head.mean.bias is missing" in error.text
    assert "extra.weight is not expected" in error.text
    assert "head.shared.bias has the shape [3], not [8]" in error.text


def test_weights_of_another_architecture_are_refused(weights: Path) -> None:
    sign(weights, network=NetworkConfig(channels=2, large_kernels=False).to_dict())
    assert refusal(weights).code == "model-tensors"


def test_integer_tensors_are_refused(weights: Path) -> None:
    tensors = load_file(weights)
    tensors["head.mean.bias"] = tensors["head.mean.bias"].to(torch.int32)
    save_file(tensors, weights)
    sign(weights)
    assert "int32" in refusal(weights).text


def test_undefined_numbers_are_refused(weights: Path) -> None:
    tensors = load_file(weights)
    tensors["head.mean.bias"][1] = torch.nan
    save_file(tensors, weights)
    sign(weights)
    assert refusal(weights).code == "model-not-finite"


def test_weights_too_large_for_half_precision_are_not_written(network: torch.nn.Module, tmp_path: Path) -> None:
    torch.nn.init.constant_(next(network.parameters()), 70000.0)
    with pytest.raises(ModelError) as caught:
        save_checkpoint(network, CARD, tmp_path, storage="float16")
    assert caught.value.code == "model-not-finite"
    assert list(tmp_path.iterdir()) == []


def test_weights_that_do_not_fit_their_card_are_not_written(network: torch.nn.Module, tmp_path: Path) -> None:
    card = ModelCard(name="other", network=NetworkConfig(channels=4))
    with pytest.raises(ModelError) as caught:
        save_checkpoint(network, card, tmp_path)
    assert caught.value.code == "model-tensors"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"colour": "blue"}, "colour"),
        ({"network": {"kind": "autofuse", "depth": 7}}, "depth"),
        ({"network": {"kind": "other"}}, "other"),
        ({"network": {"channels": 2.5}}, "channels"),
        ({"network": {"channels": True}}, "channels"),
        ({"network": {"large_kernels": "no"}}, "large_kernels"),
        ({"network": None}, "network"),
        ({"preprocessing": None}, "preprocessing"),
        ({"preprocessing": "RAS"}, "preprocessing"),
        ({"preprocessing": {"spacing_mm": [1, 1]}}, "spacing_mm"),
        ({"preprocessing": {"spacing_mm": [1, 1, -1]}}, "spacing_mm"),
        ({"preprocessing": {"orientation": "RAA"}}, "orientation"),
        ({"preprocessing": {"intensity_percentiles": [99, 1]}}, "intensity_percentiles"),
        ({"preprocessing": {"intensity_window": ["a", "b"]}}, "intensity_window"),
        ({"intended_use": {"modality": 3}}, "modality"),
        ({"not_for": "CT"}, "not_for"),
        ({"name": "../escape"}, "name"),
        ({"name": "nul"}, "name"),
        ({"training": [1]}, "training"),
        ({"weights": {"sha256": "beef", "size_bytes": 1}}, "sha256"),
        ({"weights": None}, "weights"),
        ({"schema": "1"}, "schema"),
        ({"schema": 0}, "schema"),
    ],
)
def test_a_card_with_a_wrong_or_unknown_field_is_refused_by_its_name(
    weights: Path, changes: dict[str, object], part: str
) -> None:
    card = weights.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    error = refusal(weights)
    assert error.code == "model-card-invalid"
    assert part in error.text


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", '{"schema": 1}', "\ufeff{}"])
def test_a_card_that_is_not_a_card_is_refused(weights: Path, text: str) -> None:
    weights.with_suffix(".json").write_text(text, encoding="utf-8")
    assert refusal(weights).code == "model-card-invalid"


def test_a_card_in_another_encoding_is_refused(weights: Path) -> None:
    weights.with_suffix(".json").write_bytes('{"schema": 1, "name": "Köpfe"}'.encode("latin-1"))
    assert refusal(weights).code == "model-card-invalid"


def test_a_card_of_a_newer_format_is_refused_even_with_fields_unknown_today(weights: Path) -> None:
    sign(weights, schema=3, novelty=True)
    error = refusal(weights)
    assert error.code == "model-card-too-new"
    assert "format 3" in error.text


def test_a_failed_save_keeps_the_earlier_model_and_leaves_nothing_behind(
    network: torch.nn.Module, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in weights.parent.iterdir()}

    def fail(tensors: dict[str, torch.Tensor]) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "format_safetensors", fail)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(network, CARD, weights.parent)
    monkeypatch.undo()
    write = Path.write_bytes

    def write_half(path: Path, data: bytes) -> int:
        write(path, data[: len(data) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(network, CARD, weights.parent)
    assert {path.name: path.read_bytes() for path in weights.parent.iterdir()} == before


def test_a_saved_model_may_be_saved_over(network: torch.nn.Module, weights: Path) -> None:
    torch.nn.init.constant_(next(network.parameters()), 0.25)
    save_checkpoint(network, CARD, weights.parent)
    assert torch.equal(next(load_checkpoint(weights).network.parameters()), next(network.parameters()))


def test_the_card_is_readable_text_with_letters_as_they_are(weights: Path) -> None:
    text = weights.with_suffix(".json").read_text(encoding="utf-8")
    assert '"title": "Ein Prüfmodell"' in text
    assert read_card(weights.with_suffix(".json")).not_for == ("Clinical decisions", "CT")
