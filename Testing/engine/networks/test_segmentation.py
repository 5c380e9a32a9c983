"""The network that also segments, against a plain one; and memory saved by computing twice, which changes no number."""

from __future__ import annotations

import pytest
import torch

from autofuse_engine.configs import NetworkConfig
from autofuse_engine.networks import lean
from autofuse_engine.networks.build import build_network, describe_network, network_for_inference
from autofuse_engine.networks.network import RegistrationNetwork
from autofuse_engine.networks.recomputation import set_recomputation
from autofuse_engine.networks.segmentation import class_probabilities, expected_code, hard_code
from autofuse_engine.official_names import release_names
from Testing.engine.reference.plain_autofuse import randomise
from Testing.engine.reference.plain_semi import PlainSemiAutoFuse

SIDES = (32, 16, 48)
HEAD = "SinglePath.seghead.seg_head"


def twins(code: str = "expected", align_corners: bool = True) -> tuple[RegistrationNetwork, PlainSemiAutoFuse]:
    plain = PlainSemiAutoFuse(4, 5, align_corners)
    randomise(plain, seed=3)
    config = NetworkConfig(channels=4, classes=5, segmentation_code=code, align_corners=align_corners)  # type: ignore[arg-type]
    network = build_network(config)
    names = release_names(large_kernels=True, segmentation=HEAD)
    network.load_state_dict({names[key]: tensor for key, tensor in plain.state_dict().items()})
    return network, plain


def pair_of_images(batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    fixed, moving = torch.rand(2, batch, 1, *SIDES, generator=torch.Generator().manual_seed(9))
    return fixed, moving


def close(actual: torch.Tensor | None, expected: torch.Tensor) -> None:
    assert actual is not None
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5 * float(expected.detach().abs().max()))


@pytest.mark.parametrize(("classes", "expected"), [(4, 8_777_786), (20, 8_778_058)])
def test_the_number_of_parameters_is_that_of_the_paper(classes: int, expected: int) -> None:
    assert describe_network("any", NetworkConfig(classes=classes))["parameters"] == expected


@pytest.mark.parametrize("classes", [1, -1, 256, 4.0, True])
def test_impossible_numbers_of_classes_are_refused(classes: object) -> None:
    with pytest.raises(ValueError, match=r"classes is 0 or 2\.\.255"):
        NetworkConfig(classes=classes)  # type: ignore[arg-type]


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(ValueError, match="expected, hard"):
        NetworkConfig(classes=3, segmentation_code="soft")  # type: ignore[arg-type]


@pytest.mark.parametrize("code", ["expected", "hard"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("align_corners", [True, False])
def test_predictions_and_training_equal_the_plain_network(code: str, batch: int, align_corners: bool) -> None:
    network, plain = twins(code, align_corners)
    fixed, moving = pair_of_images(batch)
    with torch.no_grad():
        mean, log_variance, fixed_logits, moving_logits = plain(fixed, moving, hard=code == "hard")
        predicted = network.eval()(fixed, moving, log_variance=True)
    assert mean.std() > 0.3, "the comparison needs a field that is far from zero"
    trained = network.train()(fixed, moving)
    for output in (predicted, trained):
        close(output.velocity_mean, mean)
        close(output.velocity_log_variance, log_variance)
        close(output.fixed_logits, fixed_logits)
        close(output.moving_logits, moving_logits)
        assert [gate.stage for gate in output.gate_means] == [2, 3, 4, 5, 6, 7, 8]


def test_a_network_that_does_not_segment_says_nothing_of_classes() -> None:
    output = build_network(NetworkConfig(channels=2))(*pair_of_images())
    assert output.fixed_logits is None
    assert output.moving_logits is None


def test_the_expected_label_is_that_of_a_hand_made_distribution() -> None:
    likely = torch.tensor([0.2, 0.5, 0.3])
    logits = (likely.log() + 7.0).view(1, 3, 1, 1, 1).expand(1, 3, 2, 3, 4)
    torch.testing.assert_close(expected_code(logits), torch.full((1, 1, 2, 3, 4), (0.5 + 2 * 0.3) / 3))
    torch.testing.assert_close(hard_code(logits), torch.full((1, 1, 2, 3, 4), 1 / 3))


@pytest.mark.parametrize(("code", "reaches"), [("expected", True), ("hard", False)])
def test_the_registration_teaches_the_segmentation_through_the_expected_label_only(code: str, reaches: bool) -> None:
    network, _ = twins(code)
    network(*pair_of_images()).velocity_mean.square().mean().backward()
    assert network.segmentation is not None
    gradient = network.segmentation.scores.weight.grad
    assert (gradient is not None and float(gradient.abs().max()) > 0) is reaches


@pytest.mark.parametrize("classes", [0, 3])
def test_recomputation_changes_no_number(classes: int) -> None:
    config = NetworkConfig(channels=2, classes=classes)
    network = build_network(config)
    gradients = []
    for recompute in (False, True):
        set_recomputation(network, recompute)
        network.zero_grad()
        output = network(*pair_of_images())
        total = output.velocity_mean.square().sum() * 1e6 + output.velocity_log_variance.mean()
        if classes:
            total = total + output.fixed_logits.square().mean()
        total.backward()
        gradients.append([parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(list(network.parameters()))
    assert all(torch.equal(*both) for both in zip(*gradients, strict=True))


def test_recomputation_keeps_fewer_tensors() -> None:
    network = build_network(NetworkConfig(channels=2))
    kept = []
    for recompute in (False, True):
        set_recomputation(network, recompute)
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = network(*pair_of_images())
        kept.append(sum(sizes.values()))
        del output
    assert kept[1] < 0.5 * kept[0]


@pytest.mark.skipif(not lean.has_fast_bfloat16(), reason="needs a CPU with bfloat16")
def test_bfloat16_predicts_nearly_the_same() -> None:
    network, _ = twins()
    exact = network.eval()(*pair_of_images())
    with torch.no_grad():
        exact = network(*pair_of_images())
    network_for_inference(network, "bfloat16", "cpu")
    output = network(*pair_of_images())
    assert output.fixed_logits is not None
    assert exact.fixed_logits is not None
    agreement = (output.fixed_logits.argmax(1) == exact.fixed_logits.argmax(1)).float().mean()
    assert agreement > 0.97
    assert float((output.velocity_mean - exact.velocity_mean).abs().mean()) < 0.05 * float(exact.velocity_mean.std())


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last_3d])
def test_probabilities_and_code_do_not_depend_on_the_order_of_memory(batch: int, order: torch.memory_format) -> None:
    logits = 3 * torch.randn(batch, 7, 3, 5, 4, generator=torch.Generator().manual_seed(2))
    expected = logits.double().exp() / logits.double().exp().sum(dim=1, keepdim=True)
    found = class_probabilities(logits.contiguous(memory_format=order))
    assert found.is_contiguous(memory_format=order), "no copy in another order"
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7)
    labels = torch.arange(7).double().view(1, 7, 1, 1, 1)
    code = expected_code(logits.contiguous(memory_format=order))
    torch.testing.assert_close(code.double(), (expected * labels).sum(dim=1, keepdim=True) / 7, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last_3d])
def test_the_code_keeps_its_precision_in_mixed_precision(order: torch.memory_format) -> None:
    logits = 3 * torch.randn(1, 37, 3, 5, 4, generator=torch.Generator().manual_seed(2))
    expected = expected_code(logits)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = expected_code(logits.contiguous(memory_format=order))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
