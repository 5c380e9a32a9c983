"""Building by configuration: the parameter counts of the paper, and what is told of each architecture."""

from __future__ import annotations

import pytest
import torch

from autofuse_engine.configs import NETWORKS, NetworkConfig
from autofuse_engine.errors import DeviceError
from autofuse_engine.networks import lean
from autofuse_engine.networks.build import build_network, describe_network, describe_networks, network_for_inference
from Testing.engine.reference.plain_autofuse import PlainAutoFuse


@pytest.mark.parametrize(("large_kernels", "expected"), [(True, 8_748_310), (False, 7_239_062)])
def test_the_number_of_parameters_is_that_of_the_paper(large_kernels: bool, expected: int) -> None:
    config = NetworkConfig(large_kernels=large_kernels)
    assert sum(parameter.numel() for parameter in build_network(config).parameters()) == expected
    assert describe_network("any", config)["parameters"] == expected
    plain = PlainAutoFuse(large_kernels=large_kernels)
    assert sum(parameter.numel() for parameter in plain.parameters()) == expected


def test_every_known_network_is_described_without_building_its_weights() -> None:
    before = torch.get_rng_state()
    described = describe_networks()
    assert torch.equal(before, torch.get_rng_state())
    assert [entry["name"] for entry in described] == list(NETWORKS)
    assert all(entry.keys() == {"name", "kind", "parameters", "float32_mb", "levels", "description"}
               for entry in described)  # fmt: skip
    assert described[0]["float32_mb"] == 35.0
    assert described[0]["levels"] == 5


def test_a_network_for_inference_learns_nothing_and_is_in_eval_mode() -> None:
    network = network_for_inference(build_network(NetworkConfig(channels=2)), "float32", "cpu")
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    output = network(torch.rand(1, 1, 16, 32, 48), torch.rand(1, 1, 16, 32, 48))
    assert not output.velocity_mean.requires_grad
    assert output.velocity_log_variance is None


def test_a_network_for_inference_predicts_slab_by_slab_even_where_gradients_are_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = network_for_inference(build_network(NetworkConfig(channels=2)), "float32", "cpu")
    calls = []
    original = lean.block_and_halve
    monkeypatch.setattr(lean, "block_and_halve", lambda *args: calls.append(1) or original(*args))
    network(torch.rand(1, 1, 16, 32, 48), torch.rand(1, 1, 16, 32, 48))
    assert len(calls) == 3


@pytest.mark.skipif(not lean.has_fast_bfloat16(), reason="needs a CPU with bfloat16")
def test_in_bfloat16_all_but_the_last_convolutions_are_halved() -> None:
    network = network_for_inference(build_network(NetworkConfig(channels=2)), "bfloat16", "cpu")
    kept = {name for name, parameter in network.named_parameters() if parameter.dtype == torch.float32}
    assert kept == {f"head.{part}.{kind}" for part in ("mean", "log_variance") for kind in ("weight", "bias")}


def test_bfloat16_is_refused_where_the_cpu_has_no_instructions_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "has_fast_bfloat16", lambda: False)
    with pytest.raises(DeviceError) as caught:
        network_for_inference(build_network(NetworkConfig(channels=1)), "bfloat16", "cpu")
    assert caught.value.code == "precision-not-supported"


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="float16"):
        network_for_inference(build_network(NetworkConfig(channels=1)), "float16", "cpu")  # type: ignore[arg-type]
