"""What every network of the list has in common, and the switches of AutoFuse: fusions, displacement, weights, code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autofuse_engine.checkpoint import load_checkpoint, save_checkpoint
from autofuse_engine.configs import NETWORKS, NetworkConfig
from autofuse_engine.model_card import ModelCard
from autofuse_engine.networks.autofuse import AutoFuse
from autofuse_engine.networks.build import build_network, describe_networks, network_for_inference
from autofuse_engine.networks.network import NetworkOutput, RegistrationNetwork
from autofuse_engine.networks.regularizer import code_for_smoothness, modulate
from Testing.engine.reference.plain_autofuse import randomise

SIDES = (16, 32, 48)
SMALL = {name: replace(config, channels=4) for name, config in NETWORKS.items()}
CONDITIONAL = SMALL["autofuse-conditional"]
SEMI = SMALL["autofuse-semi"]


def images(batch: int = 1) -> tuple[Tensor, Tensor]:
    fixed, moving = torch.rand(2, batch, 1, *SIDES, generator=torch.Generator().manual_seed(3))
    return fixed, moving


def built(config: NetworkConfig, seed: int = 2) -> RegistrationNetwork:
    network = build_network(config)
    randomise(network, seed)
    for name, parameter in network.named_parameters():
        if "log_variance" in name:
            torch.nn.init.zeros_(parameter)
    return network


def autofuse(config: NetworkConfig) -> AutoFuse:
    network = built(config)
    assert isinstance(network, AutoFuse)
    return network


def sum_of(output: NetworkOutput) -> Tensor:
    parts = [output.velocity_mean, output.velocity_log_variance, output.regularity_weight]
    parts += [output.fixed_logits, output.moving_logits]
    generator = torch.Generator().manual_seed(1)
    return torch.stack(
        [(part * torch.randn(part.shape, generator=generator)).sum() for part in parts if part is not None]
    ).sum()


def test_every_network_is_listed_with_the_parameters_of_its_source() -> None:
    assert {entry["name"]: entry["parameters"] for entry in describe_networks()} == {
        "autofuse": 8_748_310,
        "autofuse-without-elk": 7_239_062,
        "autofuse-semi": 8_777_786,
        "autofuse-disp": 8_743_123,
        "autofuse-varying": 8_889_668,
        "autofuse-conditional": 9_079_300,
        "autofuse-trans": 40_575_750,
        "autofuse-trans-semi": 42_975_466,
        "early-fuse": 8_274_921,
        "mid-fuse": 8_297_330,
        "late-fuse": 8_328_722,
        "multi-fuse": 9_833_342,
        "voxelmorph-1": 259_675,
        "voxelmorph-2": 300_547,
        "voxelmorph-diff": 282_806,
    }


@pytest.mark.parametrize("name", SMALL)
def test_a_checkpoint_gives_the_same_predictions_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    network = built(SMALL[name]).eval()
    path = save_checkpoint(network, ModelCard(name="tiny", network=SMALL[name]), tmp_path)
    model = load_checkpoint(path)
    assert model.card.network == SMALL[name]
    with torch.inference_mode():
        first, second = network(*images()), network_for_inference(model.network, "float32", "cpu")(*images())
    assert first.velocity_mean.std() > 0.01
    assert torch.equal(first.velocity_mean, second.velocity_mean)
    assert first.is_displacement is second.is_displacement is (SMALL[name].field == "displacement")


@pytest.mark.parametrize("name", SMALL)
def test_prediction_equals_training_and_gradients_reach_every_parameter(name: str) -> None:
    network = built(SMALL[name])
    trained = network(*images(2), log_variance=True)
    sum_of(trained).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        # A bias right before a norm is without effect, see the weight head.
        assert parameter.grad.abs().max() > 0 or (key.startswith("weight_head") and key.endswith("bias")), key
    with torch.inference_mode():
        predicted = network.eval()(*images(2), log_variance=True)
    for part in ("velocity_mean", "velocity_log_variance", "regularity_weight", "fixed_logits", "moving_logits"):
        ours, wanted = getattr(predicted, part), getattr(trained, part)
        assert (ours is None) is (wanted is None)
        if ours is not None:
            torch.testing.assert_close(ours, wanted, rtol=0, atol=2e-4 * float(wanted.detach().abs().max()))


@pytest.mark.parametrize("name", ["autofuse-trans", "voxelmorph-2", "late-fuse"])
def test_sides_that_are_no_multiple_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"multiple of 16, received \(16, 32, 40\)"):
        build_network(SMALL[name])(torch.zeros(1, 1, 16, 32, 40), torch.zeros(1, 1, 16, 32, 40))


def features_of(network: AutoFuse) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs of the pair path's stages before and after fusion, one pair."""
    before: list[Tensor] = []
    hooks = [gate.register_forward_pre_hook(lambda _, parts: before.append(parts[0])) for gate in network.gates]
    after: list[Tensor] = []
    hooks += [gate.register_forward_hook(lambda _, __, out: after.append(out[0])) for gate in network.gates]
    with torch.inference_mode():
        network.eval()(*images())
    for hook in hooks:
        hook.remove()
    return before, after


def test_a_sum_adds_the_matched_features_and_has_no_weights_to_tell() -> None:
    network = autofuse(SMALL["multi-fuse"])
    before, after = features_of(network)
    with torch.inference_mode():
        assert network(*images()).gate_means == ()
        singles = zip(*(network.single_image_path.features(image) for image in images()), strict=True)
        for gate, pair, fused, both in zip(network.gates, before, after, list(singles)[1:], strict=True):
            raw = torch.nn.functional.leaky_relu(gate.match(torch.cat(both, dim=1)), 0.2)
            torch.testing.assert_close(
                fused, pair + torch.nn.functional.instance_norm(raw), rtol=0, atol=1e-4 * float(fused.abs().max())
            )


def test_without_fusion_of_features_the_single_images_count_through_their_segmentations_only() -> None:
    config = replace(SEMI, fusion="none", large_kernels=False)
    network = autofuse(config)
    before, after = features_of(network)
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    with torch.inference_mode():
        told = network(*images()).velocity_mean
        torch.nn.init.constant_(network.segmentation.scores.bias, 0.0)
        network.segmentation.scores.bias[0] = 30.0
        assert (network(*images()).velocity_mean - told).abs().max() > 0.01


def test_without_fusion_of_inputs_the_pair_path_does_not_see_the_segmentations() -> None:
    network = autofuse(replace(SEMI, input_fusion=False))
    assert network.pair_path.stages[0].first.in_channels == 2
    with torch.inference_mode():
        told = network.eval()(*images())
        network.segmentation.scores.bias[0] = 30.0
        again = network(*images())
    assert not torch.equal(told.fixed_logits, again.fixed_logits)
    assert torch.equal(told.velocity_mean, again.velocity_mean)


def test_a_code_changes_the_prediction_and_its_absence_means_the_usual_one() -> None:
    network = built(CONDITIONAL).eval()
    with torch.inference_mode():
        usual = network(*images())
        assert torch.equal(usual.velocity_mean, network(*images(), code=code_for_smoothness(1.0)).velocity_mean)
        soft = network(*images(), code=code_for_smoothness(0.1))
        assert (usual.velocity_mean - soft.velocity_mean).abs().max() > 0.01
        assert (usual.regularity_weight - soft.regularity_weight).abs().max() > 1e-4


def test_pairs_of_a_batch_have_codes_of_their_own() -> None:
    network = built(CONDITIONAL)
    codes = torch.tensor([[0.1, 0.8], [0.9, 0.2]])
    fixed, moving = images(2)
    for mode in (True, False):
        with torch.set_grad_enabled(mode):
            together = network.train(mode)(fixed, moving, code=codes)
            alone = network(fixed[1:], moving[1:], code=codes[1:])
        torch.testing.assert_close(together.velocity_mean[1:], alone.velocity_mean, rtol=0, atol=1e-3)


def test_each_stage_of_the_pair_path_and_the_input_of_the_head_are_modulated() -> None:
    network = autofuse(CONDITIONAL)
    assert network.conditioning is not None
    modulations = network.conditioning(code_for_smoothness(1.0))
    seen: list[Tensor] = []
    network.pair_path.stages[3].register_forward_hook(lambda _, __, out: seen.append(out))
    network.gates[2].register_forward_pre_hook(lambda _, parts: seen.append(parts[0]))
    network.gates[6].register_forward_hook(lambda _, __, out: seen.append(out[0]))
    network.head.register_forward_pre_hook(lambda _, parts: seen.append(parts[0]))
    network(*images())
    stage, gated, last, head = seen
    assert len(modulations) == 9
    torch.testing.assert_close(gated, modulate(stage, modulations[3]))
    torch.testing.assert_close(head, modulate(last, modulations[8]))


def test_codes_are_for_conditional_networks() -> None:
    with pytest.raises(ValueError, match="without conditioning"):
        built(SMALL["autofuse"])(*images(), code=torch.zeros(1, 2))


def test_the_learned_weight_has_full_resolution_and_lies_above_zero() -> None:
    output = built(SMALL["autofuse-varying"])(*images(2))
    assert output.regularity_weight is not None
    assert output.regularity_weight.shape == (2, 1, *SIDES)
    assert 0 < float(output.regularity_weight.detach().min()) < float(output.regularity_weight.detach().max()) <= 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fusion": "none"}, "classes is at least 2, received 0"),
        ({"input_fusion": False}, "input_fusion without classes is true"),
        ({"fusion": "product"}, "received 'product'"),
        ({"field": "flow"}, "received 'flow'"),
        ({"small_windows": "first"}, "received 'first'"),
        ({"conditional": 1}, "conditional is true or false"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**fields)
