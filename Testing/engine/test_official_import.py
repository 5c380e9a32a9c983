"""The import of published weights, judged by a plain network that has the release's names for its parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autofuse_engine import official_import
from autofuse_engine.checkpoint import Model, load_checkpoint
from autofuse_engine.errors import ModelError
from autofuse_engine.official_import import import_official
from autofuse_engine.official_names import release_names
from Testing.engine.reference.plain_autofuse import PlainAutoFuse, randomise
from Testing.engine.reference.plain_semi import PlainSemiAutoFuse


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOFUSE_MODELS", str(tmp_path / "user"))
    return tmp_path / "user"


def plain_network(channels: int = 2, *, large_kernels: bool = True) -> PlainAutoFuse:
    network = PlainAutoFuse(channels, large_kernels=large_kernels)
    randomise(network, seed=5)
    return network.eval()


def refusal(path: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        import_official(path, "official")
    assert caught.value.hint
    return caught.value


def saved(content: object, folder: Path) -> Path:
    torch.save(content, folder / "weights.pt")
    return folder / "weights.pt"


def assert_same_predictions(model: Model, plain: PlainAutoFuse) -> None:
    generator = torch.Generator().manual_seed(11)
    fixed, moving = torch.rand(2, 2, 1, 32, 16, 48, generator=generator)
    with torch.no_grad():
        mean, log_variance, weights = plain(fixed, moving)
        output = model.network(fixed, moving, log_variance=True)
    assert mean.std() > 0.2, "the comparison needs a field that is far from zero"
    torch.testing.assert_close(output.velocity_mean, mean, rtol=0, atol=5e-5)
    torch.testing.assert_close(output.velocity_log_variance, log_variance, rtol=0, atol=5e-5)
    for gate, weight in zip(output.gate_means, weights, strict=True):
        torch.testing.assert_close(gate.pair_weight, weight.mean(dim=(1, 2, 3, 4)))


def test_the_release_names_182_tensors_and_each_has_its_own_place() -> None:
    names = release_names(large_kernels=True)
    assert len(names) == len(set(names.values())) == 182
    assert names.keys() == PlainAutoFuse(2).state_dict().keys()


@pytest.mark.parametrize("large_kernels", [True, False])
def test_imported_weights_predict_what_the_release_predicts(tmp_path: Path, large_kernels: bool) -> None:
    plain = plain_network(4, large_kernels=large_kernels)
    model = load_checkpoint(import_official(saved(plain.state_dict(), tmp_path), "official"))
    assert model.card.network.channels == 4
    assert model.card.network.large_kernels is large_kernels
    assert model.card.network.align_corners is True
    assert_same_predictions(model, plain)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_a_state_dict_inside_of_a_training_checkpoint_is_found(tmp_path: Path, key: str) -> None:
    plain = plain_network()
    content = {key: {f"module.{name}": tensor for name, tensor in plain.state_dict().items()}, "epoch": 7}
    assert_same_predictions(load_checkpoint(import_official(saved(content, tmp_path), "official")), plain)


def test_the_new_model_lands_in_the_users_folder_and_says_where_it_comes_from(tmp_path: Path, user: Path) -> None:
    path = import_official(saved(plain_network().state_dict(), tmp_path), "official")
    card = load_checkpoint(path).card
    assert path == user / "official.safetensors"
    assert card.training["source"] == "weights.pt"
    assert "Meng" in card.citation


def test_an_existing_model_is_replaced_only_when_told(tmp_path: Path) -> None:
    path = saved(plain_network().state_dict(), tmp_path)
    import_official(path, "official", tmp_path / "folder")
    with pytest.raises(ModelError) as caught:
        import_official(path, "official", tmp_path / "folder")
    assert caught.value.code == "model-exists"
    import_official(path, "official", tmp_path / "folder", overwrite=True)


@pytest.mark.parametrize("prefix", ["SinglePath.", ""])
def test_semi_supervised_weights_predict_what_the_release_predicts(tmp_path: Path, prefix: str) -> None:
    plain = PlainSemiAutoFuse(4, classes=5)
    randomise(plain, seed=6)
    names = {key: key.replace("SinglePath.seghead", f"{prefix}seghead") for key in plain.state_dict()}
    state = {names[key]: tensor for key, tensor in plain.state_dict().items()}
    model = load_checkpoint(import_official(saved(state, tmp_path), "official"))
    assert model.card.network.classes == 5
    assert model.card.network.segmentation_code == "hard"
    fixed, moving = torch.rand(2, 1, 1, 32, 16, 48, generator=torch.Generator().manual_seed(11))
    with torch.no_grad():
        mean, _, fixed_logits, moving_logits = plain.eval()(fixed, moving, hard=True)
        output = model.network(fixed, moving)
    assert mean.std() > 0.2, "the comparison needs a field that is far from zero"
    torch.testing.assert_close(output.velocity_mean, mean, rtol=0, atol=5e-5)
    torch.testing.assert_close(output.fixed_logits, fixed_logits, rtol=0, atol=5e-5)
    torch.testing.assert_close(output.moving_logits, moving_logits, rtol=0, atol=5e-5)


@pytest.mark.parametrize("missing", ["SinglePath.seghead.seg_head.weight", "SinglePath.conv_9.Conv_1.weight"])
def test_half_of_a_semi_supervised_network_is_refused(tmp_path: Path, missing: str) -> None:
    state = PlainSemiAutoFuse(2, classes=3).state_dict()
    del state[missing]
    assert refusal(saved(state, tmp_path)).code == "official-keys"


def test_missing_unexpected_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    state = plain_network().state_dict()
    state["FusionPath.FG_9.Conv.weight"] = state.pop("FusionPath.FG_8.Conv.weight")
    state["SinglePath.conv_3.Conv_2.bias"] = torch.zeros(3)
    error = refusal(saved(state, tmp_path))
    assert error.code == "official-keys"
    assert "FusionPath.FG_8.Conv.weight is missing" in error.text
    assert "FusionPath.FG_9.Conv.weight is not expected" in error.text
    assert "SinglePath.conv_3.Conv_2.bias has the shape [3], not [4]" in error.text


def test_gates_of_which_only_some_have_large_kernels_are_refused(tmp_path: Path) -> None:
    state = plain_network().state_dict()
    partial = {key: tensor for key, tensor in state.items() if not key.startswith("FusionPath.FG_4.ELK")}
    assert "FusionPath.FG_4.ELK.Conv_1.weight is missing" in refusal(saved(partial, tmp_path)).text


@pytest.mark.parametrize(
    "content", [{}, {"epoch": 3}, [1, 2], {"state_dict": {}}, torch.zeros(3), {"a": torch.ones(2)}]
)
def test_a_file_without_our_tensors_is_refused(tmp_path: Path, content: object) -> None:
    assert refusal(saved(content, tmp_path)).code == "official-keys"


class Trap:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_pickled_objects_are_refused_and_do_not_run(tmp_path: Path) -> None:
    error = refusal(saved({"state_dict": plain_network().state_dict(), "extra": Trap(tmp_path / "sprung")}, tmp_path))
    assert error.code == "official-unsafe"
    assert not (tmp_path / "sprung").exists()


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    assert refusal(saved(plain_network(), tmp_path)).code == "official-unsafe"


@pytest.mark.parametrize("size", [0, 10, 1000, -500])
def test_a_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    path = saved(plain_network().state_dict(), tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    assert refusal(path).code in ("official-unreadable", "official-unsafe")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.pt").code == "model-not-found"


def test_a_torch_that_cannot_open_pickles_safely_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official_import.torch, "__version__", "2.5.1+cpu")
    assert refusal(saved(plain_network().state_dict(), tmp_path)).code == "torch-too-old"
