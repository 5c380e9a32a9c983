"""Given classes in the map of a segmentation, against numbers worked out by hand; and what they change in a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autofuse_engine.configs import NetworkConfig
from autofuse_engine.networks.build import build_network, network_for_inference
from autofuse_engine.networks.network import NetworkOutput, RegistrationNetwork
from autofuse_engine.networks.recomputation import set_recomputation
from autofuse_engine.networks.segmentation import GivenClasses, expected_code, guided_code, hard_code

SIDES = (16, 32, 48)
K = 5


def labels_of(seed: int, classes: tuple[int, ...], shape: tuple[int, ...] = (1, 1, *SIDES)) -> torch.Tensor:
    choices = np.array([0, *classes], np.uint8)
    return torch.from_numpy(choices[np.random.default_rng(seed).integers(0, len(choices), shape)])


def given(seed: int, classes: tuple[int, ...], shape: tuple[int, ...] = (1, 1, *SIDES)) -> GivenClasses:
    return GivenClasses(labels=labels_of(seed, classes, shape), classes=classes)


def made(seed: int = 1, **config: object) -> RegistrationNetwork:
    torch.manual_seed(seed)
    network = build_network(NetworkConfig(channels=2, classes=K, **config))  # type: ignore[arg-type]
    for parameter in network.parameters():  # far from the small weights of a fresh head
        torch.nn.init.normal_(parameter, std=0.3)
    return network.eval().requires_grad_(False)


def images(batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    fixed, moving = torch.rand(2, batch, 1, *SIDES, generator=torch.Generator().manual_seed(4))
    return fixed, moving


def test_the_map_of_four_voxels_is_what_one_computes_by_hand() -> None:
    likely = torch.tensor([0.1, 0.2, 0.3, 0.4])
    logits = (likely.log() - 3.0).view(1, 4, 1, 1, 1).expand(1, 4, 1, 2, 2)
    labels = torch.tensor([[0, 3], [1, 0]]).view(1, 1, 1, 2, 2)
    one_and_three = GivenClasses(labels=labels, classes=(1, 3))
    # Where nothing is given, classes 0 and 2 are left, with 0.1 and 0.3: the expected label is 2 * 0.3 / 0.4.
    soft = torch.tensor([[2 * 0.75 / 4, 3 / 4], [1 / 4, 2 * 0.75 / 4]]).view(1, 1, 1, 2, 2)
    torch.testing.assert_close(guided_code(logits, one_and_three, hard=False), soft)
    hard = torch.tensor([[2 / 4, 3 / 4], [1 / 4, 2 / 4]]).view(1, 1, 1, 2, 2)
    torch.testing.assert_close(guided_code(logits, one_and_three, hard=True), hard)


@pytest.mark.parametrize("hard", [False, True])
def test_the_rest_is_background_where_every_class_is_given(hard: bool) -> None:
    logits = 3 * torch.randn(1, K, *SIDES, generator=torch.Generator().manual_seed(0))
    everything = given(3, (1, 2, 3, 4))
    assert torch.equal(guided_code(logits, everything, hard=hard), everything.labels / K)


@pytest.mark.parametrize("hard", [False, True])
def test_the_map_stays_as_predicted_where_no_class_is_given(hard: bool) -> None:
    logits = 3 * torch.randn(2, K, *SIDES, generator=torch.Generator().manual_seed(0))
    nothing = GivenClasses(labels=torch.zeros(2, 1, *SIDES, dtype=torch.uint8), classes=())
    predicted = hard_code(logits) if hard else expected_code(logits)
    assert torch.equal(guided_code(logits, nothing, hard=hard), predicted)


@pytest.mark.parametrize("hard", [False, True])
def test_the_map_equals_a_renormalised_distribution_in_numpy(hard: bool) -> None:
    logits = 2 * torch.randn(2, K, *SIDES, generator=torch.Generator().manual_seed(6))
    some = given(8, (2, 4), (2, 1, *SIDES))
    powers = np.exp(logits.numpy().astype(np.float64))
    powers[:, [2, 4]] = 0
    share = powers / powers.sum(axis=1, keepdims=True)
    numbers = np.arange(K).reshape(1, K, 1, 1, 1)
    rest = share.argmax(axis=1)[:, None] if hard else (share * numbers).sum(axis=1, keepdims=True)
    labels = some.labels.numpy()
    expected = np.where(labels > 0, labels, rest) / K
    np.testing.assert_allclose(guided_code(logits, some, hard=hard).numpy(), expected, atol=1e-6)


def difference(one: NetworkOutput, other: NetworkOutput) -> float:
    return float((one.velocity_mean - other.velocity_mean).abs().max() / other.velocity_mean.std())


@pytest.mark.parametrize("kind", ["autofuse", "autofuse-trans"])
@pytest.mark.parametrize("code", ["expected", "hard"])
def test_given_classes_change_the_field_and_each_side_in_its_own_way(kind: str, code: str) -> None:
    network = made(kind=kind, segmentation_code=code)
    pair, some = images(), given(2, (1, 3))
    plain = network(*pair)
    of_fixed = network(*pair, fixed_given=some)
    of_moving = network(*pair, moving_given=some)
    of_both = network(*pair, fixed_given=some, moving_given=some)
    outputs = [plain, of_fixed, of_moving, of_both]
    assert all(difference(one, other) > 0.01 for i, one in enumerate(outputs) for other in outputs[i + 1 :])
    for output in outputs[1:]:  # the scores are the network's own opinion
        assert torch.equal(output.fixed_logits, plain.fixed_logits)
        assert torch.equal(output.moving_logits, plain.moving_logits)


def test_the_sides_belong_to_the_images_and_not_to_their_places() -> None:
    network = made()
    (fixed, moving), one, two = images(), given(2, (1,)), given(5, (3, 4))
    right = network(fixed, moving, fixed_given=one, moving_given=two)
    wrong = network(fixed, moving, fixed_given=two, moving_given=one)
    assert difference(right, wrong) > 0.01


def test_what_the_network_predicts_itself_guides_it_nowhere_else() -> None:
    network = made(segmentation_code="hard")
    pair = images()
    plain = network(*pair)
    own = [logits.argmax(dim=1, keepdim=True) for logits in (plain.fixed_logits, plain.moving_logits)]
    guides = [GivenClasses(labels=labels, classes=(1, 2, 3, 4)) for labels in own]
    assert difference(network(*pair, fixed_given=guides[0], moving_given=guides[1]), plain) == 0


def test_a_batch_is_guided_pair_by_pair_with_and_without_gradients() -> None:
    network = made()
    pair, some = images(2), given(2, (1, 3), (2, 1, *SIDES))
    with torch.no_grad():
        lean = network(*pair, fixed_given=some)
        alone = network(pair[0][1:], pair[1][1:], fixed_given=GivenClasses(labels=some.labels[1:], classes=(1, 3)))
    trained = network.requires_grad_(True)(*pair, fixed_given=some)
    torch.testing.assert_close(lean.velocity_mean, trained.velocity_mean, rtol=1e-3, atol=1e-4)
    assert torch.equal(lean.velocity_mean[1:], alone.velocity_mean)


def test_recomputation_changes_no_number_of_a_guided_network() -> None:
    network = made().requires_grad_(True)
    pair, gradients = images(), []
    for recompute in (False, True):
        set_recomputation(network, recompute)
        network.zero_grad()
        network(*pair, fixed_given=given(2, (1, 3))).velocity_mean.square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None])
    assert all(torch.equal(*both) for both in zip(*gradients, strict=True))


def test_a_network_set_up_for_inference_is_guided_too() -> None:
    pair, some = images(), given(2, (1, 3))
    plain = made()(*pair, moving_given=some)
    ready = network_for_inference(made(), "float32", "cpu")
    with torch.inference_mode():
        torch.testing.assert_close(ready(*pair, moving_given=some).velocity_mean, plain.velocity_mean)


@pytest.mark.parametrize(
    "config", [NetworkConfig(channels=2), NetworkConfig(channels=2, classes=K, input_fusion=False),
               NetworkConfig(kind="early-fuse", channels=2)], ids=["plain", "unseen", "early"]
)  # fmt: skip
def test_a_network_that_cannot_use_given_classes_says_so(config: NetworkConfig) -> None:
    with pytest.raises(ValueError, match="whose pair path sees segmentations"):
        build_network(config)(*images(), fixed_given=given(1, (1,)))


def test_labels_that_do_not_fit_are_refused() -> None:
    network = made()
    with pytest.raises(ValueError, match="have the shape of the images"):
        network(*images(), moving_given=given(1, (1,), (1, 1, 16, 48, 32)))
    with pytest.raises(ValueError, match=r"lie in 1\.\.4, received \(5,\)"):
        network(*images(), moving_given=given(1, (5,)))
    with pytest.raises(ValueError, match=r"0 or one of \(1,\), received \[2\]"):
        GivenClasses(labels=labels_of(1, (2,)), classes=(1,))
    with pytest.raises(ValueError, match="integers of the shape"):
        GivenClasses(labels=labels_of(1, (1,)).float(), classes=(1,))
    with pytest.raises(ValueError, match="above 0"):
        GivenClasses(labels=labels_of(1, (1,)), classes=(0, 1))
