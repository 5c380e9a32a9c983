"""The whole network against a plain one that was written on its own, in prediction and in training."""

from __future__ import annotations

import math

import pytest
import torch

from autofuse_engine.configs import NetworkConfig
from autofuse_engine.networks import lean, slabs
from autofuse_engine.networks.build import build_network, network_for_inference
from autofuse_engine.networks.network import NetworkOutput, RegistrationNetwork, sample_velocity
from autofuse_engine.official_names import release_names
from Testing.engine.reference.plain_autofuse import PlainAutoFuse, randomise

SIDES = (32, 16, 48)


def twins(
    channels: int = 4, *, align_corners: bool = True, large_kernels: bool = True
) -> tuple[RegistrationNetwork, PlainAutoFuse]:
    """Our network and the plain one with the same weights, of which none hides behind a zero."""
    plain = PlainAutoFuse(channels, align_corners, large_kernels)
    randomise(plain, seed=8)
    config = NetworkConfig(channels=channels, align_corners=align_corners, large_kernels=large_kernels)
    network = build_network(config)
    names = release_names(large_kernels=large_kernels)
    network.load_state_dict({names[key]: tensor for key, tensor in plain.state_dict().items()})
    return network, plain


def pair_of_images(batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    fixed, moving = torch.rand(2, batch, 1, *SIDES, generator=generator)
    return fixed, moving


def assert_close_fields(actual: torch.Tensor | None, expected: torch.Tensor) -> None:
    assert actual is not None
    assert actual.shape == expected.shape
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("slab_bytes", [20_000, 2**30])
@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_predictions_equal_those_of_the_plain_network(
    batch: int, align_corners: bool, slab_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slabs, "SLAB_BYTES", slab_bytes)
    network, plain = twins(align_corners=align_corners)
    fixed, moving = pair_of_images(batch)
    with torch.no_grad():
        mean, log_variance, weights = plain.eval()(fixed, moving)
        output = network.eval()(fixed, moving, log_variance=True)
    assert mean.std() > 0.3, "the comparison needs a field that is far from zero"
    assert_close_fields(output.velocity_mean, mean)
    assert_close_fields(output.velocity_log_variance, log_variance)
    assert [(gate.stage, gate.level) for gate in output.gate_means] == [
        (2, 1), (3, 2), (4, 3), (5, 4), (6, 3), (7, 2), (8, 1),
    ]  # fmt: skip
    for gate, weight in zip(output.gate_means, weights, strict=True):
        torch.testing.assert_close(gate.pair_weight, weight.mean(dim=(1, 2, 3, 4)), rtol=0, atol=1e-5)


def test_predictions_without_large_kernels_equal_those_of_the_plain_network() -> None:
    network, plain = twins(large_kernels=False)
    with torch.no_grad():
        output = network.eval()(*pair_of_images())
        assert_close_fields(output.velocity_mean, plain.eval()(*pair_of_images())[0])


def test_training_sees_the_outputs_and_gradients_of_the_plain_network() -> None:
    network, plain = twins()
    fixed, moving = pair_of_images(2)
    fixed.requires_grad_()
    direction = torch.randn(2, 6, *(side // 2 for side in SIDES), generator=torch.Generator().manual_seed(10))

    def gradients(mean: torch.Tensor, log_variance: torch.Tensor | None, of: list[torch.Tensor]) -> list[torch.Tensor]:
        assert log_variance is not None
        return list(torch.autograd.grad((torch.cat([mean, log_variance], dim=1) * direction).mean(), of))

    output = network(fixed, moving)
    names = release_names(large_kernels=True)
    ours = gradients(
        output.velocity_mean,
        output.velocity_log_variance,
        [fixed, *(network.get_parameter(names[key]) for key, _ in plain.named_parameters())],
    )
    mean, log_variance, _ = plain(fixed, moving)
    expected = gradients(mean, log_variance, [fixed, *plain.parameters()])
    assert_close_fields(output.velocity_mean, mean)
    for (name, _), actual, wanted in zip([("fixed", None), *plain.named_parameters()], ours, expected, strict=True):
        scale = float(wanted.abs().max())
        assert scale > 0, f"{name} has no gradient"
        # Biases before a norm have gradients of almost zero, so an absolute floor goes with the relative one.
        assert float((actual - wanted).abs().max()) < 2e-4 * scale + 1e-7, name


def test_a_step_of_training_with_mixed_precision_reaches_every_parameter() -> None:
    # Wide enough for oneDNN's own kernels, and so thin that they give garbage, see convolve.
    network, _ = twins(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(*pair_of_images())
        assert output.velocity_log_variance is not None
        (output.velocity_mean.float().square().mean() + output.velocity_log_variance.float().mean()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() < 1e3, name


def test_predicting_under_autocast_stays_in_float32() -> None:
    network, _ = twins(2)
    network.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        under = network(*pair_of_images())
    with torch.no_grad():
        assert torch.equal(under.velocity_mean, network(*pair_of_images()).velocity_mean)


def test_two_predictions_are_equal_bit_for_bit() -> None:
    network, _ = twins()
    network.eval()
    with torch.inference_mode():
        first, second = network(*pair_of_images()), network(*pair_of_images())
    assert torch.equal(first.velocity_mean, second.velocity_mean)
    assert [gate.pair_weight for gate in first.gate_means] == [gate.pair_weight for gate in second.gate_means]


def test_a_pair_in_a_batch_is_predicted_as_it_is_alone() -> None:
    network, _ = twins()
    fixed, moving = pair_of_images(2)
    with torch.no_grad():
        together = network.eval()(fixed, moving)
        alone = network(fixed[1:], moving[1:])
    torch.testing.assert_close(together.velocity_mean[1:], alone.velocity_mean)
    assert together.gate_means[3].pair_weight.shape == (2,)
    assert together.gate_means[3].pair_weight[1] == alone.gate_means[3].pair_weight[0]


def test_exchanging_the_images_changes_the_prediction() -> None:
    network, _ = twins()
    fixed, moving = pair_of_images()
    with torch.no_grad():
        difference = network.eval()(fixed, moving).velocity_mean - network(moving, fixed).velocity_mean
    assert difference.abs().mean() > 0.1


def test_the_images_stay_as_they_are() -> None:
    network, _ = twins(2)
    fixed, moving = pair_of_images()
    with torch.no_grad():
        network.eval()(fixed, moving)
    assert all(torch.equal(*images) for images in zip((fixed, moving), pair_of_images(), strict=True))


def test_a_fresh_network_predicts_next_to_nothing_with_little_doubt() -> None:
    torch.manual_seed(12)
    network = build_network(NetworkConfig(channels=2))
    output = network(*pair_of_images())
    assert output.velocity_log_variance is not None
    # 64 c weights of 1e-5 over inputs of variance 1 give 1e-5 * sqrt(27 * 8).
    assert float(output.velocity_mean.detach().std()) == pytest.approx(1e-5 * math.sqrt(27 * 8), rel=0.3)
    torch.testing.assert_close(output.velocity_log_variance, torch.full_like(output.velocity_log_variance, -10.0))
    assert all(gate.pair_weight.tolist() == [0.5] for gate in output.gate_means)


@pytest.mark.parametrize(
    ("training", "asked", "given"),
    [(True, None, True), (True, False, False), (False, None, False), (False, True, True)],
)
def test_the_log_variance_is_computed_in_training_or_when_asked_for(
    training: bool, asked: bool | None, given: bool
) -> None:
    network = build_network(NetworkConfig(channels=2)).train(training)
    with torch.no_grad():
        output = network(*pair_of_images(), log_variance=asked)
    assert (output.velocity_log_variance is not None) is given
    assert len(output.gate_means) == 7


@pytest.mark.parametrize(
    ("fixed", "moving", "message"),
    [
        ((1, 1, 32, 16, 40), (1, 1, 32, 16, 40), r"multiple of 16, received \(32, 16, 40\)"),
        ((1, 1, 32, 16, 0), (1, 1, 32, 16, 0), "multiple of 16"),
        ((1, 1, 32, 16, 48), (1, 1, 32, 32, 48), "one shape"),
        ((1, 2, 32, 16, 48), (1, 2, 32, 16, 48), "one shape"),
        ((1, 32, 16, 48), (1, 32, 16, 48), "one shape"),
    ],
)
def test_wrong_shapes_are_refused(fixed: tuple[int, ...], moving: tuple[int, ...], message: str) -> None:
    network = build_network(NetworkConfig(channels=1))
    with pytest.raises(ValueError, match=message):
        network(torch.zeros(fixed), torch.zeros(moving))


def test_draws_have_the_predicted_mean_and_spread() -> None:
    mean = torch.linspace(-1, 1, 3).reshape(1, 3, 1, 1, 1).expand(1, 3, 30, 40, 50)
    log_variance = torch.log(torch.tensor([0.25, 1.0, 4.0])).reshape(1, 3, 1, 1, 1).expand_as(mean)
    output = NetworkOutput(velocity_mean=mean, velocity_log_variance=log_variance)
    draw = sample_velocity(output, torch.Generator().manual_seed(1))
    torch.testing.assert_close(draw.mean(dim=(0, 2, 3, 4)), torch.tensor([-1.0, 0.0, 1.0]), rtol=0, atol=0.03)
    torch.testing.assert_close(draw.std(dim=(0, 2, 3, 4)), torch.tensor([0.5, 1.0, 2.0]), rtol=0.01, atol=0)
    assert torch.equal(draw, sample_velocity(output, torch.Generator().manual_seed(1)))
    assert not torch.equal(draw, sample_velocity(output, torch.Generator().manual_seed(2)))


def test_drawing_without_a_spread_is_refused() -> None:
    with pytest.raises(ValueError, match="log_variance=True"):
        sample_velocity(NetworkOutput(velocity_mean=torch.zeros(1, 3, 2, 2, 2), velocity_log_variance=None))


@pytest.mark.skipif(not lean.has_fast_bfloat16(), reason="needs a CPU with bfloat16")
def test_bfloat16_predicts_nearly_the_same_field() -> None:
    network, _ = twins()
    with torch.no_grad():
        exact = network.eval()(*pair_of_images())
        rough = network_for_inference(network, "bfloat16", "cpu")(*pair_of_images())
    assert rough.velocity_mean.dtype == torch.float32
    error = (rough.velocity_mean - exact.velocity_mean).abs().mean() / exact.velocity_mean.abs().mean()
    assert 0 < error < 0.1
    for one, other in zip(rough.gate_means, exact.gate_means, strict=True):
        torch.testing.assert_close(one.pair_weight, other.pair_weight, rtol=0, atol=5e-3)
