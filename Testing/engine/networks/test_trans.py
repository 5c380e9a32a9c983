"""AutoFuse-Trans against a plain one with the release's names, alone and through the import of its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from autofuse_engine.checkpoint import load_checkpoint
from autofuse_engine.configs import NetworkConfig
from autofuse_engine.errors import ModelError
from autofuse_engine.networks.build import build_network, describe_network
from autofuse_engine.networks.recomputation import set_recomputation
from autofuse_engine.official_import import import_official
from autofuse_engine.official_names import release_names
from Testing.engine.reference.plain_autofuse import randomise
from Testing.engine.reference.plain_trans import PlainSemiTrans, PlainTrans

SIDES = (16, 32, 48)  # windows shrink to 1 to 3 voxels at the coarsest level, and shift along all axes at the finest


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOFUSE_MODELS", str(tmp_path / "user"))


def images(batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    fixed, moving = torch.rand(2, batch, 1, *SIDES, generator=torch.Generator().manual_seed(9))
    return fixed, moving


def randomised(plain: nn.Module) -> nn.Module:
    randomise(plain, seed=4)
    for name, parameter in plain.named_parameters():
        if "norm" in name and name.endswith("weight"):
            parameter.data.add_(1)
    return plain.eval()


def close(actual: torch.Tensor | None, expected: torch.Tensor) -> None:
    assert actual is not None
    # Single precision; the test of training holds the arithmetic to double precision.
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * float(expected.detach().abs().max()))


@pytest.mark.parametrize(("classes", "expected"), [(0, 40_575_750), (4, 42_975_466)])
def test_the_number_of_parameters_is_that_of_the_paper(classes: int, expected: int) -> None:
    assert describe_network("any", NetworkConfig(kind="autofuse-trans", classes=classes))["parameters"] == expected
    with torch.device("meta"):
        plain = PlainSemiTrans() if classes else PlainTrans()
    assert sum(parameter.numel() for parameter in plain.parameters()) == expected


def test_the_release_names_578_tensors_of_which_28_are_computed_here() -> None:
    names = release_names(large_kernels=True, transformer=True)
    with torch.device("meta"):
        theirs = PlainTrans().state_dict()
        ours = build_network(NetworkConfig(kind="autofuse-trans")).state_dict()
    assert len(theirs) == 578
    assert set(theirs) - set(names) == {key for key in theirs if key.endswith(".relative_position_index")}
    assert len(names) == len(set(names.values())) == 550
    assert set(names.values()) == set(ours)


def test_imported_weights_predict_what_the_release_predicts(tmp_path: Path) -> None:
    plain = randomised(PlainTrans(2))
    torch.save(plain.state_dict(), tmp_path / "weights.pt")
    model = load_checkpoint(import_official(tmp_path / "weights.pt", "trans"))
    assert model.card.network == NetworkConfig(kind="autofuse-trans", channels=2, small_windows="token")
    with torch.no_grad():
        mean, log_variance = plain(*images())
        output = model.network(*images(), log_variance=True)
    assert mean.std() > 0.2, "the comparison needs a field that is far from zero"
    close(output.velocity_mean, mean)
    close(output.velocity_log_variance, log_variance)
    assert [(gate.stage, gate.level) for gate in output.gate_means] == [
        (1, 1), (2, 2), (3, 3), (4, 4), (5, 3), (6, 2), (7, 1),
    ]  # fmt: skip


def test_imported_semi_supervised_weights_predict_what_the_release_predicts(tmp_path: Path) -> None:
    plain = randomised(PlainSemiTrans(2, classes=3))
    torch.save(plain.state_dict(), tmp_path / "weights.pt")
    model = load_checkpoint(import_official(tmp_path / "weights.pt", "trans"))
    assert model.card.network.classes == 3
    with torch.no_grad():
        mean, _, fixed_logits, moving_logits = plain(*images())
        output = model.network(*images())
    assert mean.std() > 0.2, "the comparison needs a field that is far from zero"
    close(output.velocity_mean, mean)
    close(output.fixed_logits, fixed_logits)
    close(output.moving_logits, moving_logits)


def test_training_equals_the_plain_network_and_its_gradients_with_and_without_recomputation() -> None:
    plain = randomised(PlainTrans(2)).double()
    network = build_network(NetworkConfig(kind="autofuse-trans", channels=2, small_windows="token")).double()
    names = release_names(large_kernels=True, transformer=True)
    network.load_state_dict({names[key]: value for key, value in plain.state_dict().items() if key in names})
    fixed, moving = (image.double() for image in images())
    mean, log_variance = plain(fixed, moving)
    direction = torch.randn(mean.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    expected = torch.autograd.grad(
        (mean * direction).mean() + (log_variance * direction).mean(), list(plain.parameters())
    )
    for recompute in (False, True):
        set_recomputation(network, recompute)
        output = network(fixed, moving)
        torch.testing.assert_close(output.velocity_mean, mean, rtol=0, atol=1e-10)
        loss = (output.velocity_mean * direction).mean() + (output.velocity_log_variance * direction).mean()
        ours = torch.autograd.grad(loss, [network.get_parameter(names[key]) for key, _ in plain.named_parameters()])
        for (name, _), actual, wanted in zip(plain.named_parameters(), ours, expected, strict=True):
            assert float((actual - wanted).abs().max()) < 1e-7 * float(wanted.abs().max()) + 1e-12, name


@pytest.mark.parametrize("change", ["table of another window", "missing norm", "channels"])
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, change: str) -> None:
    state = PlainTrans(2).state_dict()
    key = "FusionPath.trans_3.blocks.1.attn.relative_position_index"
    if change == "table of another window":
        state[key] = state[key].flip(0)
    elif change == "missing norm":
        key = "SinglePath.downsample_2.norm.weight"
        del state[key]
    else:
        key = "FusionPath.PatchEmbed.proj.weight"
        state[key] = state[key][:5]
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(ModelError) as caught:
        import_official(tmp_path / "weights.pt", "trans")
    assert caught.value.code == "official-keys"
    assert key in caught.value.text


def test_channels_of_a_swin_path_are_even() -> None:
    with pytest.raises(ValueError, match="even, received 3"):
        NetworkConfig(kind="autofuse-trans", channels=3)
