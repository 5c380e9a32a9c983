"""With the packages themselves: their own warped image is ours through the converted transform; else skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from autofuse_engine import peer_elastix, peer_syn
from autofuse_engine.data.resample import resample_image
from autofuse_engine.data.transform import MatrixStep, SpatialTransform
from autofuse_engine.data.volume import Volume
from autofuse_engine.evaluation_methods import EvaluationPair, Registered
from autofuse_engine.evaluation_peers import available_peers
from autofuse_engine.model_card import Preprocessing
from autofuse_engine.peer_elastix import ElastixMethod
from autofuse_engine.peer_packages import PACKAGES
from autofuse_engine.peer_syn import SynMethod
from autofuse_engine.peer_voxelmorph import VoxelMorphMethod
from autofuse_engine.peer_voxelmorph_network import (
    AsOurs,
    VoxelMorphConfig,
    build_voxelmorph,
    predicted_velocity,
    read_voxelmorph,
    write_voxelmorph,
)
from autofuse_engine.peer_voxelmorph_training import train_voxelmorph
from Testing.engine.data.prepared_folder import make_prepared
from Testing.engine.peer_pairs import centres_of, egg_pair

SMALL = VoxelMorphConfig(encoder=(4, 4), decoder=(4, 4))
RANGE = 1000.0


def needs(kind: str) -> pytest.MarkDecorator:
    package = PACKAGES[kind].distribution
    return pytest.mark.skipif(
        available_peers()[kind] is None, reason=f"compares with {package}: pip install {package} to run it"
    )


def assert_same_warp(pair: EvaluationPair, found: Registered, warped: Volume) -> None:
    """Ours through the transform equals the peer's own to a thousandth of the range, and it is worth having."""
    ours = resample_image(pair.moving, found.forward, pair.fixed, background=0)
    assert float(np.abs(ours.array - warped.array).max()) < 1e-3 * RANGE
    alignment = SpatialTransform(steps=(MatrixStep(matrix_ras=pair.initial_ras),))
    before = resample_image(pair.moving, alignment, pair.fixed, background=0).array
    assert float(np.abs(ours.array - pair.fixed.array).mean()) < 0.9 * float(np.abs(before - pair.fixed.array).mean())


def fields_of(found: Registered) -> NDArray:
    return np.concatenate([getattr(step, "displacement_ras", np.zeros(3)).ravel() for step in found.forward.steps])


@needs("syn")
@pytest.mark.slow
def test_syn_warps_as_its_transform_says_and_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_syn, "ITERATIONS", (20, 15, 10, 3))
    pair, method = egg_pair(), SynMethod("SyN", threads=1)
    found, warped = method.register_and_warp(pair)
    assert_same_warp(pair, found, warped)
    points = centres_of(pair.fixed.shape, pair.fixed.ras_from_ijk)[6:-6, 6:-6, 6:-6].reshape(-1, 3)
    assert found.inverse is not None
    back = found.inverse.transform_points(found.forward.transform_points(points))
    assert float(np.linalg.norm(back - points, axis=1).mean()) < 0.1
    np.testing.assert_array_equal(fields_of(method.register(pair)), fields_of(found))


@needs("elastix")
@pytest.mark.slow
def test_elastix_warps_as_its_transform_says_and_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    choices = peer_elastix.parameters

    def fewer(fixed: Volume, seed: int) -> dict[str, Any]:
        return {**choices(fixed, seed), "MaximumNumberOfIterations": ("150",), "NumberOfSpatialSamples": ("1024",)}

    monkeypatch.setattr(peer_elastix, "parameters", fewer)
    pair, method = egg_pair(), ElastixMethod("elastix", threads=1)
    found, warped = method.register_and_warp(pair)
    assert_same_warp(pair, found, warped)
    assert found.inverse is None
    np.testing.assert_array_equal(fields_of(method.register(pair)), fields_of(found))


@needs("voxelmorph")
def test_voxelmorph_warps_as_its_transform_says(tmp_path: Path) -> None:
    torch.manual_seed(2)
    network: Any = build_voxelmorph(SMALL)
    with torch.no_grad():  # a field that is worth looking at: smooth, some voxels long, without any training
        network.flow_layer.conv0.weight.normal_(0, 0.5)
        network.flow_layer.conv0.bias.copy_(torch.tensor([1.5, -1.0, 2.0]))
    path = tmp_path / "weights.safetensors"
    write_voxelmorph(path, network, SMALL, Preprocessing(spacing_mm=(2.0, 2.4, 2.2)), {})
    pair, method = egg_pair(), VoxelMorphMethod("VoxelMorph", path, device="cpu")
    images = method.images(pair)
    with torch.inference_mode():
        warped = network.eval()(images.aligned, images.fixed, return_warped_source=True)[1][0, 0].numpy()
    found = method.register(pair)
    aligned = Volume(array=images.aligned[0, 0].numpy(), ras_from_ijk=images.grid.ras_from_ijk)
    field = SpatialTransform(steps=found.forward.steps[:1])
    ours = resample_image(aligned, field, aligned, background=0).array
    difference = np.abs(ours - warped)[3:-3, 3:-3, 3:-3]  # at the border torch fades out where ITK ends
    assert float(np.abs(warped - aligned.array).max()) > 0.3
    assert float(difference.max()) < 1e-3
    assert found.inverse is not None
    both = found.inverse.transform_points(found.forward.transform_points(np.array([[12.0, -30.0, 45.0]])))
    np.testing.assert_allclose(both, [[12.0, -30.0, 45.0]], atol=0.5)


@needs("voxelmorph")
def test_voxelmorph_trains_with_its_own_losses_and_repeats(tmp_path: Path) -> None:
    make_prepared(tmp_path / "prepared", train=4, validation=2, shape=(16, 32, 16))
    outs = [tmp_path / f"{number}.safetensors" for number in (1, 2)]
    runs = [
        train_voxelmorph(
            tmp_path / "prepared", out, steps=8, learning_rate=1e-3, network=SMALL, validation_pairs=1, device="cpu"
        )
        for out in outs
    ]
    assert runs[0].losses == runs[1].losses
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert min(runs[0].losses[4:]) < runs[0].losses[0] < 0
    read = read_voxelmorph(outs[0], torch.device("cpu"))
    fixed, moving = torch.rand(2, 1, 1, 16, 32, 16)
    with torch.no_grad():
        velocity = predicted_velocity(read.network, fixed, moving)
        displacement = AsOurs(read.network)(fixed, moving).velocity_mean
    assert velocity.shape == displacement.shape == (1, 3, 16, 32, 16)
    assert sum(parameter.numel() for parameter in build_voxelmorph(VoxelMorphConfig()).parameters()) == 305_609
