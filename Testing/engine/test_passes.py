"""Several passes of a model over one pair: what each sees, in which order their fields follow, and the inverse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from autofuse_engine.checkpoint import save_checkpoint
from autofuse_engine.configs import NetworkConfig, RegistrationConfig
from autofuse_engine.data.synthetic import SyntheticPair, make_pair
from autofuse_engine.data.volume import map_points
from autofuse_engine.deformation import deform, transforms, uncertainty
from autofuse_engine.model_card import ModelCard, Preprocessing
from autofuse_engine.networks.build import build_network
from autofuse_engine.networks.segmentation import GivenClasses
from autofuse_engine.passes import given_after, moving_after, predict_in_passes
from autofuse_engine.prediction import Prediction
from autofuse_engine.refinement import RefinementPair
from autofuse_engine.registration import ModelCache, RegistrationResult, register
from autofuse_engine.spatial.parts import Part, composed, composed_inverse
from Testing.engine.test_deformation import FIXED, GRID, geometry, velocity

SLOPE = 0.08


def sheared() -> torch.Tensor:
    """Displacement and velocity alike, as the shear is along i and depends on k: tensor axis 2 by axis 0."""
    field = torch.zeros(1, 3, *GRID.shape)
    field[0, 2] = SLOPE * (torch.arange(GRID.shape[0]) - 10.0)[:, None, None]
    return field


def lifted() -> torch.Tensor:
    field = torch.zeros(1, 3, *GRID.shape)
    field[0, 0] = 2.0
    return field


def looked(fields: list[torch.Tensor], *, is_displacement: bool) -> tuple[list[torch.Tensor | None], object]:
    seen: list[torch.Tensor | None] = []

    def look(displacement: torch.Tensor | None) -> Prediction:
        seen.append(displacement)
        field = fields[len(seen) - 1]
        return Prediction(
            velocity_vox=torch.zeros_like(field) if is_displacement else field,
            samples_vox=(),
            gate_means=[{"stage": len(seen)}],
            displacement_vox=field if is_displacement else None,
        )

    return seen, look


@pytest.mark.parametrize("is_displacement", [False, True])
def test_points_go_through_the_last_pass_first(is_displacement: bool) -> None:
    seen, look = looked([sheared(), lifted()], is_displacement=is_displacement)
    passes = predict_in_passes(2, look, GRID.spacing_mm)
    assert seen[0] is None
    torch.testing.assert_close(seen[1], sheared())
    deformation = deform(passes.last.velocity_vox, GRID, passes.following)
    forward, _ = transforms(deformation, np.eye(4))
    start = np.array([8.0, 12.0, 9.0])  # i, j, k: two up first, then the shear of where it is now
    expected = start + np.array([SLOPE * (9.0 + 2.0 - 10.0), 0.0, 2.0])
    moved = forward.transform_points(map_points(geometry(), start[None]))
    assert np.allclose(moved, map_points(geometry(), expected[None]), atol=1e-3)
    base = passes.following_vox
    assert base is not None
    whole = composed(
        [Part(field_vox=passes.last.velocity_vox, is_velocity=True), Part(field_vox=base, is_velocity=False)]
    )
    found = whole[0, :, 9, 12, 8].flip(0).numpy()
    assert np.allclose(found, expected - start, atol=1e-3)
    assert passes.first.gate_means == [{"stage": 1}]
    along_k, along_i = GRID.spacing_mm[2], GRID.spacing_mm[0]
    shear_mm = along_i * SLOPE * np.abs(np.arange(GRID.shape[0]) - 10.0).mean()
    assert passes.lengths_mm == pytest.approx((shear_mm, 2.0 * along_k), rel=1e-4)


def test_a_single_pass_is_the_prediction_and_measures_nothing_more() -> None:
    for is_displacement, expected in ((False, 0), (True, 1)):
        _, look = looked([sheared()], is_displacement=is_displacement)
        passes = predict_in_passes(1, look, GRID.spacing_mm)
        assert passes.first is passes.last
        assert len(passes.following) == expected
        assert (passes.following_vox is None) == (not is_displacement)
        assert passes.lengths_mm == ()


def test_three_passes_see_all_that_was_found_before() -> None:
    seen, look = looked([sheared(), lifted(), sheared()], is_displacement=False)
    passes = predict_in_passes(3, look, GRID.spacing_mm)
    third = seen[2]
    assert third is not None
    # Two up, then the shear there: at k = 9 it is that of k = 11.
    assert torch.allclose(third[0, :, 9, 12, 8], torch.tensor([2.0, 0.0, SLOPE]), atol=1e-4)
    assert [part.field_vox[0, 0].amax().item() for part in passes.following] == [2.0, 0.0]


def test_the_inverse_of_parts_undoes_them_in_reverse_order() -> None:
    parts = [
        Part(field_vox=lifted() * 0.4, is_velocity=False),
        Part(field_vox=sheared(), is_velocity=True),
        Part(field_vox=sheared().transpose(2, 3).contiguous()[:, [1, 2, 0]].transpose(2, 3) * 0.5, is_velocity=True),
    ]
    there, back = composed(parts), composed_inverse(parts)
    k, j, i = 9, 12, 8
    landed = np.array([k, j, i]) + there[0, :, k, j, i].numpy()
    returned = [map_coordinates(back[0, axis].numpy(), landed[:, None], order=1)[0] for axis in range(3)]
    assert np.allclose(landed + returned, (k, j, i), atol=5e-3)
    with pytest.raises(ValueError, match="at least one part"):
        composed([])


def test_the_next_pass_looks_the_moving_image_up_in_its_own_voxels() -> None:
    random = np.random.default_rng(2)
    moving = random.random((22, 18, 26)).astype(np.float32)
    angle = 0.4
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, -1.3]])
    matrix[:3, 3] = (4.0, 0.5, 23.0)
    displacement = (random.random((1, 3, *GRID.shape)).astype(np.float32) - 0.5) * 4
    pair = RefinementPair(
        fixed=torch.zeros(1, 1, *GRID.shape),
        moving=torch.from_numpy(moving)[None, None],
        moving_from_fixed_vox=matrix,
        moving_voxels_per_fixed=(1.0, 1.0, 1.0),
    )
    found = moving_after(pair, torch.from_numpy(displacement))[0, 0].numpy()
    places = np.stack(np.meshgrid(*(np.arange(side) for side in GRID.shape), indexing="ij")) + displacement[0]
    places = np.einsum("ab,b...->a...", matrix[:3, :3], places) + matrix[:3, 3, None, None, None]
    limits = np.array(moving.shape)[:, None, None, None]
    near_the_edge = ((np.abs(places + 0.5) < 1e-3) | (np.abs(places - limits + 0.5) < 1e-3)).any(axis=0)
    inside = ((places >= -0.5) & (places < limits - 0.5)).all(axis=0)
    expected = map_coordinates(moving, places, order=1, mode="nearest") * inside
    assert 0.2 < inside.mean() < 0.9
    assert np.abs(found - expected)[~near_the_edge].max() < 1e-4


def test_given_classes_are_carried_along_by_whole_voxels() -> None:
    labels = torch.zeros(1, 1, 4, 5, 6, dtype=torch.uint8)
    labels[0, 0, 2, 3, 4] = 2
    displacement = torch.zeros(1, 3, 4, 5, 6)
    displacement[0, 0], displacement[0, 1], displacement[0, 2] = 1.2, -0.8, 2.4
    carried = given_after(GivenClasses(labels=labels, classes=(2,)), displacement)
    assert carried is not None
    assert carried.classes == (2,)
    assert torch.nonzero(carried.labels[0, 0]).tolist() == [[1, 4, 2]]
    outside = given_after(GivenClasses(labels=torch.full_like(labels, 2), classes=(2,)), displacement)
    assert outside is not None
    assert outside.labels[0, 0, 3].sum() == 0
    assert given_after(None, displacement) is None


def test_uncertainty_counts_what_follows_the_flow() -> None:
    draws = tuple(
        0.4 * torch.randn(1, 3, 1, 1, 1, generator=torch.Generator().manual_seed(seed)).expand(1, 3, *GRID.shape)
        for seed in range(6)
    )
    none = torch.zeros(1, 3, *GRID.shape)
    alone = uncertainty(draws, none, GRID, FIXED)
    steep = torch.zeros(1, 3, *GRID.shape)
    steep[0, 2] = 0.5 * (torch.arange(GRID.shape[2]) - 8.0)
    stretched = uncertainty(draws, none, GRID, FIXED, [Part(field_vox=steep, is_velocity=False)])
    assert alone is not None
    assert stretched is not None
    spread = np.stack([draw[0, :, 0, 0, 0].numpy() for draw in draws]).std(axis=0, ddof=1)
    expected = np.linalg.norm(spread * GRID.spacing_mm[::-1] * (1.0, 1.0, 1.5))
    assert alone.array[9, 10, 10] == pytest.approx(np.linalg.norm(spread * GRID.spacing_mm[::-1]), rel=1e-3)
    assert stretched.array[9, 10, 10] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("wrong", [0, 5, 2.0, True])
def test_passes_are_one_to_four(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"passes is a whole number of 1\.\.4"):
        RegistrationConfig(model="some", passes=wrong)  # type: ignore[arg-type]


def test_passes_without_a_model_are_refused() -> None:
    with pytest.raises(ValueError, match="passes above 1 need a model"):
        RegistrationConfig(model="none", passes=2)


@pytest.mark.parametrize("is_velocity", [True, False])
def test_the_inverse_of_three_passes_is_no_worse_than_that_of_one_as_long(is_velocity: bool) -> None:
    def error_and_length(parts: list[Part]) -> tuple[float, float]:
        deformation = deform(torch.zeros(1, 3, *GRID.shape), GRID, parts)
        forward, inverse = transforms(deformation, np.eye(4))
        places = np.random.default_rng(0).uniform((-3, -3, -3), (18, 26, 22), (2000, 3))
        points = map_points(geometry(), places)
        there = forward.transform_points(points)
        error = np.linalg.norm(inverse.transform_points(there) - points, axis=1).mean()
        return float(error), float(np.linalg.norm(there - points, axis=1).mean())

    fields = [velocity(1.2, seed) for seed in (3, 4, 5)]
    whole = composed([Part(field_vox=field, is_velocity=is_velocity) for field in fields])
    one = whole if not is_velocity else sum(fields, torch.zeros_like(whole))
    several = error_and_length([Part(field_vox=field, is_velocity=is_velocity) for field in fields])
    single = error_and_length([Part(field_vox=one, is_velocity=is_velocity)])
    assert several[1] == pytest.approx(single[1], rel=0.2)
    assert several[0] < 1.25 * single[0]


@pytest.fixture(scope="module")
def pair() -> SyntheticPair:
    return make_pair(2, (24, 32, 28))


@pytest.fixture(scope="module", params=["velocity", "displacement"])
def model_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    config = NetworkConfig(channels=2, field=request.param)
    network = build_network(config)
    with torch.no_grad():
        network.head.mean.weight.normal_(std=0.01)
    card = ModelCard(name="tiny", network=config, preprocessing=Preprocessing(spacing_mm=(10.0, 9.0, 9.0)))
    return str(save_checkpoint(network, card, tmp_path_factory.mktemp("models")))


def test_passes_go_through_registration_to_transform_figures_and_report(pair: SyntheticPair, model_path: str) -> None:
    single, double, refined = (
        register(
            pair.fixed,
            pair.moving,
            RegistrationConfig(model=model_path, initial="centers", refinement_steps=steps, passes=passes),
            models=ModelCache(),
        )
        for passes, steps in ((1, 0), (2, 0), (2, 4))
    )
    assert single.report["passes"] == []
    lengths = [entry["mean_displacement_mm"] for entry in double.report["passes"]]
    assert len(lengths) == 2
    assert min(lengths) > 0.1
    assert double.displacement_magnitude.array.mean() > 1.2 * single.displacement_magnitude.array.mean()
    folds = jacobian_determinants(double) <= 0
    assert double.report["folding_count"] == pytest.approx(folds.sum(), abs=2)
    assert refined.report["metrics"]["after"]["ncc"] > double.report["metrics"]["after"]["ncc"] + 0.01


def jacobian_determinants(result: RegistrationResult) -> np.ndarray:
    """Forward differences of the points themselves, from the transform alone, over the voxels of the fixed image."""
    matrix, shape = result.warped.ras_from_ijk, result.warped.shape
    k, j, i = np.indices(shape)
    points = map_points(matrix, np.stack([i, j, k], axis=-1).reshape(-1, 3).astype(float))
    moved = result.transform.transform_points(points).reshape(*shape, 3)
    inner = tuple(slice(0, side - 1) for side in shape)
    steps = [np.diff(moved, axis=axis)[inner] for axis in (2, 1, 0)]
    return np.linalg.det(np.stack(steps, axis=-1)) / np.linalg.det(matrix[:3, :3])
