"""A wish to stop is heard within a step of the refinement and within every stage around it, not only after them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from autofuse_engine.configs import NetworkConfig, RefinementConfig
from autofuse_engine.data.affine import align
from autofuse_engine.data.resample import resample_labels
from autofuse_engine.data.surface_distance import hd95_per_label
from autofuse_engine.data.transform import MatrixStep, SpatialTransform
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import CancelledError
from autofuse_engine.model_card import ModelCard
from autofuse_engine.networks.build import build_network, network_for_inference
from autofuse_engine.prediction import ReadyModel, predict
from autofuse_engine.refinement import RefinementPair, RefinementResult, refine
from autofuse_engine.spatial.smooth import smooth, smooth_image

SHAPE = (32, 40, 48)


def pair_of() -> RefinementPair:
    image = smooth(torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(1)), 2.0)
    return RefinementPair(
        fixed=image,
        moving=image.roll((2, -1, 1), (2, 3, 4)),
        moving_from_fixed_vox=np.eye(4),
        moving_voxels_per_fixed=(1.0, 1.0, 1.0),
        moving_weight=torch.ones_like(image),
    )


class Wish:
    """Asks are counted by who asks; from the ``at``-th on the answer is yes."""

    def __init__(self, at: float = float("inf")) -> None:
        self.at, self.asked = at, 0
        self.askers: list[str] = []

    def __call__(self) -> bool:
        self.asked += 1
        names, frame = [], sys._getframe(1)
        while frame is not None and frame.f_code.co_name != "refine":
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        self.askers.append(" ".join(names))
        return self.asked >= self.at


def run(wish: Callable[[], bool], **config: Any) -> RefinementResult:
    return refine(pair_of(), RefinementConfig(steps=2, **config), stop=wish)


@pytest.mark.parametrize("similarity", ["lncc", "mind", "mse"])
def test_a_step_asks_between_its_pieces_forwards_and_backwards(similarity: str) -> None:
    wish = Wish()
    run(wish, similarity=similarity)
    counts = Counter(piece for asker in wish.askers for piece in
                     ("smooth_image", "loss", "backward", "mind_ssc") if piece in asker.split())  # fmt: skip
    assert counts["smooth_image"] == 6  # three axes of the image and of its weights, at the coarse level
    assert counts["backward"] >= 4 * 10  # two steps at each of two levels
    assert counts["loss"] >= 6 * 3
    assert counts["mind_ssc"] == (4 * 12 if similarity == "mind" else 0)


def test_stopping_anywhere_is_heard_at_once_and_keeps_a_whole_field() -> None:
    whole = Wish()
    finished = run(whole)
    assert len(finished.levels) == 2
    for at in range(1, whole.asked, 7):
        wish = Wish(at)
        result = run(wish)
        assert result.stopped
        assert result.velocity_vox.shape == (1, 3, *SHAPE)
        assert bool(result.velocity_vox.isfinite().all())
        assert wish.asked <= at + 2  # that of the level, and that of the result
        if not result.levels:
            assert float(result.velocity_vox.abs().max()) == 0


def test_asking_changes_no_number() -> None:
    assert torch.equal(run(Wish()).velocity_vox, run(lambda: False).velocity_vox)


def test_a_smoothed_image_is_the_same_axis_by_axis() -> None:
    image = torch.rand(1, 2, *SHAPE, generator=torch.Generator().manual_seed(3))
    sigmas = [1.3, 0.0, 2.1]
    expected = smooth(image, sigmas) / smooth(torch.ones_like(image[:, :1]), sigmas)
    assert torch.equal(smooth_image(image, sigmas), expected)


def volume(seed: int, shift: float = 0.0) -> Volume:
    k, j, i = np.indices((22, 26, 30)).astype(np.float64)
    array = np.exp(-(((k - 11) / 5) ** 2 + ((j - 12 - shift) / 6) ** 2 + ((i - 15) / 8) ** 2)) * 800
    matrix = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -8], [0, 0, -3.0, 11], [0, 0, 0, 1]])
    noise = np.random.default_rng(seed).normal(size=array.shape)
    return Volume(array=(array + noise).astype(np.float32), ras_from_ijk=matrix, name=f"image {seed}")


def test_the_alignment_hears_it_in_its_pyramids_and_within_an_optimisation(
    capfd: pytest.CaptureFixture[str],
) -> None:
    askers: list[str] = []

    def asked_by() -> bool:
        askers.append(sys._getframe(1).f_code.co_name + " " + sys._getframe(2).f_code.co_name)
        return False

    align(volume(1), volume(2, 1.5), "affine", cancelled=asked_by)
    numbers = [number for number, asker in enumerate(askers, start=1) if asker.startswith("_interrupt_if_cancelled")]
    assert len(numbers) > 20
    assert sum("_shrunk" in asker for asker in askers) >= 2
    for at in (numbers[2], numbers[-3]):
        calls = 0

        def cancelled(at: int = at) -> bool:
            nonlocal calls
            calls += 1
            return calls >= at

        with pytest.raises(CancelledError):
            align(volume(1), volume(2, 1.5), "affine", cancelled=cancelled)
        assert calls <= at + 1
    assert capfd.readouterr() == ("", "")


def test_a_network_hears_it_between_its_parts_and_forgets_the_question() -> None:
    network = network_for_inference(build_network(NetworkConfig(channels=2)), "float32", "cpu")
    card = ModelCard(name="m", network=NetworkConfig(channels=2))
    model = ReadyModel(card=card, network=network, device=torch.device("cpu"), precision="float32")
    images = torch.rand(2, 1, 1, 16, 32, 48, generator=torch.Generator().manual_seed(2))
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    predict(model, images[0], images[1], between=count)
    assert calls > 30
    for number in (1, 20, calls):
        with pytest.raises(CancelledError):
            predict(model, images[0], images[1], between=stop_at(number))
    asked = calls
    predict(model, images[0], images[1])
    assert calls == asked


def stop_at(count: int) -> Callable[[], None]:
    calls = 0

    def between() -> None:
        nonlocal calls
        calls += 1
        if calls == count:
            raise CancelledError

    return between


def test_labels_are_carried_and_judged_in_pieces() -> None:
    labels = volume(1).with_array((volume(1).array > 100).astype(np.uint8) + (volume(1).array > 400).astype(np.uint8))
    transform = SpatialTransform(steps=(MatrixStep(matrix_ras=np.eye(4)),))
    with pytest.raises(CancelledError):
        resample_labels(labels, transform, labels, between=stop_at(1))
    for count in (1, 2, 3):
        with pytest.raises(CancelledError):
            hd95_per_label(labels.array, labels.array, labels.spacing_mm, between=stop_at(count))
