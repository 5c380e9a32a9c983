"""Training and using VoxelMorph's network, with stand-ins for its packages that have the same calls."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autofuse_engine import peer_packages, peer_voxelmorph_network, peer_voxelmorph_training
from autofuse_engine.data.volume import map_points
from autofuse_engine.errors import CancelledError, FileError, InputError
from autofuse_engine.evaluation_configs import MethodSpec
from autofuse_engine.evaluation_peers import peer_method
from autofuse_engine.model_card import Preprocessing
from autofuse_engine.peer_voxelmorph import VoxelMorphMethod
from autofuse_engine.peer_voxelmorph_network import VoxelMorphConfig, build_voxelmorph, write_voxelmorph
from autofuse_engine.peer_voxelmorph_training import train_voxelmorph
from Testing.engine.data.prepared_folder import make_prepared
from Testing.engine.peer_pairs import centres_of, egg_pair

SMALL = VoxelMorphConfig(encoder=(2, 2), decoder=(2, 2))


class FakePairwise(nn.Module):
    """Takes source and target in this order, as VxmPairwise does; its velocity is a bias and a little of both."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options
        self.scale = nn.Parameter(torch.tensor([0.01, -0.02]) + 0.001 * torch.rand(2))
        self.shift = nn.Parameter(torch.zeros(3))

    def velocity_field_integrator(self, velocity: Tensor) -> Tensor:
        return velocity

    def forward(
        self, source: Tensor, target: Tensor, return_warped_source: bool = False, return_field_type: str = ""
    ) -> Any:
        assert return_field_type == "velocity"
        images = self.scale[0] * source + self.scale[1] * target
        velocity = self.shift.view(1, 3, 1, 1, 1) + images.expand(-1, 3, -1, -1, -1)
        warped = source + velocity.mean(dim=1, keepdim=True)
        return (velocity, warped) if return_warped_source else velocity


class FakeCorrelation:
    def __init__(self, window_size: int) -> None:
        assert window_size == 9

    def __call__(self, one: Tensor, two: Tensor) -> Tensor:
        return 1 - (one - two).square().mean(dim=(1, 2, 3, 4))


class FakeGradient:
    def __init__(self, penalty: str) -> None:
        assert penalty == "l2"

    def __call__(self, field: Tensor) -> Tensor:
        return field.diff(dim=2).square().mean()


@pytest.fixture(autouse=True)
def fake_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    models = SimpleNamespace(VxmPairwise=FakePairwise)
    losses = SimpleNamespace(NCC=FakeCorrelation, SpatialGradient=FakeGradient)
    modules = {
        None: SimpleNamespace(nn=SimpleNamespace(models=models)),
        "neurite": SimpleNamespace(nn=SimpleNamespace(modules=losses), __version__="0.3.x"),
    }
    for place in (peer_voxelmorph_network, peer_voxelmorph_training):
        monkeypatch.setattr(place, "load_peer", lambda kind, module=None: modules[module])
    monkeypatch.setattr(peer_voxelmorph_training, "installed_version", lambda kind: "0.3.x")


def train(folder: Path, out: Path, **more: Any) -> Any:
    values: dict[str, Any] = {
        "steps": 4,
        "learning_rate": 1e-2,
        "network": SMALL,
        "validation_every": 2,
        "validation_pairs": 1,
    }
    return train_voxelmorph(folder, out, device="cpu", **(values | more))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "Köpfe und Hände"
    make_prepared(folder, train=4, validation=2, shape=(16, 32, 16))
    return folder


def test_a_training_learns_keeps_its_best_weights_and_repeats_bit_for_bit(prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "gewichte mit ö.safetensors"
    events: list[Any] = []
    first = train(prepared, out, report=events.append)
    assert len(first.losses) == 4
    assert [row["step"] for row in first.validations] == [0, 2, 4]
    assert first.best["score"] == max(row["score"] for row in first.validations[1:])
    kept = out.read_bytes()
    assert train(prepared, out).losses == first.losses
    assert out.read_bytes() == kept
    assert train(prepared, tmp_path / "other", seed=1, steps=1).losses[0] != first.losses[0]
    assert {event.stage for event in events} == {"training", "validation"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, "other"]


def test_the_moving_image_is_the_networks_source(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    whole = FakePairwise.forward

    def watched(self: Any, source: Tensor, target: Tensor, **options: Any) -> Any:
        seen.append((source, target))
        return whole(self, source, target, **options)

    monkeypatch.setattr(FakePairwise, "forward", watched)
    network = FakePairwise()
    fixed, moving = torch.zeros(1, 1, 2, 3, 4), torch.ones(1, 1, 2, 3, 4)
    peer_voxelmorph_network.predicted_velocity(network, fixed, moving)
    run = peer_voxelmorph_training._Run(network, None, 1.0, lambda event: None)  # type: ignore[arg-type]
    run.loss(fixed, moving)
    assert all(source is moving and target is fixed for source, target in seen)
    assert len(seen) == 2


def test_the_loss_is_minus_the_correlation_plus_the_weighted_roughness() -> None:
    network = FakePairwise()
    fixed, moving = torch.rand(1, 1, 4, 5, 6), torch.rand(1, 1, 4, 5, 6)
    run = peer_voxelmorph_training._Run(network, None, 3.0, lambda event: None)  # type: ignore[arg-type]
    loss, terms = run.loss(fixed, moving)
    assert float(loss.detach()) == pytest.approx(terms["similarity"] + 3.0 * terms["smoothness"], rel=1e-5)
    assert terms["similarity"] < 0 < terms["smoothness"]


def test_a_cancelled_training_keeps_what_it_wrote(prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "weights.safetensors"
    asked = iter([False] * 3 + [True])
    with pytest.raises(CancelledError):
        train(prepared, out, cancelled=lambda: next(asked))
    assert out.is_file()


def test_sides_that_the_levels_cannot_halve_are_told_first(prepared: Path, tmp_path: Path) -> None:
    deep = VoxelMorphConfig(encoder=(2,) * 5, decoder=(2,) * 5)
    with pytest.raises(InputError) as caught:
        train(prepared, tmp_path / "never.safetensors", network=deep)
    assert caught.value.code == "peer-size-multiple"
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_ends_the_training(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeCorrelation, "__call__", lambda self, one, two: torch.full((1,), float("nan")))
    with pytest.raises(InputError) as caught:
        train(prepared, tmp_path / "never.safetensors")
    assert caught.value.code == "peer-training-diverged"


def weights_that_shift(path: Path, shift_vox: tuple[float, float, float], **preprocessing: Any) -> Path:
    network = build_voxelmorph(SMALL)
    with torch.no_grad():
        network.scale.zero_()
        network.shift.copy_(torch.tensor(shift_vox))
    write_voxelmorph(path, network, SMALL, Preprocessing(**preprocessing), {"best": None})
    return path


def test_a_predicted_shift_moves_points_along_the_working_grid_and_then_by_the_alignment(tmp_path: Path) -> None:
    path = weights_that_shift(tmp_path / "w.safetensors", (1.0, -2.0, 3.0), spacing_mm=(2.0, 2.5, 3.0))
    pair = egg_pair()
    method = VoxelMorphMethod("VoxelMorph", path, device="cpu")
    grid = method.images(pair).grid
    found = method.register(pair)
    points = centres_of(grid.shape, grid.ras_from_ijk)[2:-2, 2:-2, 2:-2].reshape(-1, 3)
    vector_ras = grid.ras_from_ijk[:3, :3] @ np.array([3.0, -2.0, 1.0])  # i, j, k of D H W = 1, -2, 3
    expected = map_points(pair.initial_ras, points + vector_ras)
    np.testing.assert_allclose(found.forward.transform_points(points), expected, atol=1e-4)
    assert found.inverse is not None
    inner = points[len(points) // 2][None]
    back = found.inverse.transform_points(map_points(pair.initial_ras, inner))
    np.testing.assert_allclose(back, inner - vector_ras, atol=1e-4)
    far = np.array([[900.0, 900.0, 900.0]])
    np.testing.assert_allclose(found.forward.transform_points(far), map_points(pair.initial_ras, far), atol=1e-9)
    step = np.diff(found.forward.steps[0].displacement_ras, axis=0)  # type: ignore[union-attr]
    assert np.abs(step).max() < 0.5 * grid.spacing_mm.max()


def test_the_network_sees_the_moving_image_aligned_on_the_grid_of_its_training(tmp_path: Path) -> None:
    path = weights_that_shift(tmp_path / "w.safetensors", (0.0, 0.0, 0.0), spacing_mm=(2.0, 2.5, 3.0))
    images = VoxelMorphMethod("VoxelMorph", path, device="cpu").images(egg_pair(shift_mm=0.0))
    assert all(side % SMALL.size_multiple == 0 for side in images.grid.shape)
    np.testing.assert_allclose(images.grid.spacing_mm, (2.0, 2.5, 3.0), atol=1e-9)
    assert 0 <= float(images.fixed.min()) < 0.01 < 0.9 < float(images.fixed.max()) <= 1
    assert float((images.fixed - images.aligned).abs().mean()) < 0.02


def test_files_that_are_no_weights_of_this_method_are_told(tmp_path: Path) -> None:
    text = tmp_path / "text.safetensors"
    text.write_text("nothing", encoding="utf-8")
    other = weights_that_shift(tmp_path / "other.safetensors", (0.0, 0.0, 0.0))
    other.write_bytes(other.read_bytes().replace(b"voxelmorph-peer", b"voxelmorph-pear"))
    for path in (tmp_path / "absent.safetensors", text, other):
        with pytest.raises(FileError) as caught:
            peer_method(MethodSpec(name="v", kind="voxelmorph", model=str(path)))
        assert caught.value.code == "peer-weights-invalid"


def test_the_network_has_one_width_for_each_level() -> None:
    assert VoxelMorphConfig().size_multiple == 16
    assert build_voxelmorph(SMALL).options["nb_features"] == ((2, 2), (2, 2))
    for wrong in ({"decoder": (8, 8)}, {"encoder": (0, 1, 1, 1)}, {"integration_steps": 0}):
        with pytest.raises(ValueError, match="received"):
            VoxelMorphConfig(**wrong)


def test_training_without_the_package_says_how_to_install_it(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(peer_voxelmorph_network, "load_peer", peer_packages.load_peer)
    with pytest.raises(InputError, match="pip install voxelmorph"):
        train(prepared, tmp_path / "never.safetensors")
