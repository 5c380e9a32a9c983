"""What a model predicts on a coarse grid is refined on the images' own: fields keep their place and their length."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from autofuse_engine.carried_fields import CarriedFields
from autofuse_engine.catalog import find
from autofuse_engine.checkpoint import save_checkpoint
from autofuse_engine.configs import NETWORKS, NetworkConfig, RegistrationConfig
from autofuse_engine.data.preprocessing import Grid, suitable_spacing_mm
from autofuse_engine.data.synthetic import SyntheticPair, make_pair
from autofuse_engine.data.volume import map_points
from autofuse_engine.errors import ModelError
from autofuse_engine.model_card import ModelCard, Preprocessing
from autofuse_engine.model_description import describe_model
from autofuse_engine.networks.build import build_network
from autofuse_engine.networks.heads import FieldHead
from autofuse_engine.registration import RegistrationResult, register
from autofuse_engine.search import FINEST_STEPS_WITHOUT_MODEL, STEPS_WITH_MODEL, STEPS_WITHOUT_MODEL
from autofuse_engine.spatial.parts import Part

SLOPE = np.array([[0.05, -0.02, 0.01], [0.03, 0.04, -0.05], [-0.02, 0.06, 0.03]])
OFFSET_MM = np.array([3.0, -2.0, 5.0])


def oblique(shape: tuple[int, int, int], spacing: tuple[float, ...], center: tuple[float, ...], turn: float) -> Grid:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("zyx", [turn, 12, -7], degrees=True).as_matrix() * spacing
    matrix[:3, 3] = center - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return Grid(shape=shape, ras_from_ijk=matrix)


def points_of(grid: Grid) -> np.ndarray:
    k, j, i = np.indices(grid.shape)
    return map_points(grid.ras_from_ijk, np.stack([i, j, k], axis=-1))


def field_of(grid: Grid, scale: float = 1.0) -> torch.Tensor:
    """A linear field of vectors in mm, in the grid's own voxels and tensor order."""
    vectors_mm = scale * (points_of(grid) @ SLOPE.T + OFFSET_MM)
    vectors_ijk = vectors_mm @ np.linalg.inv(grid.ras_from_ijk[:3, :3]).T
    return torch.from_numpy(vectors_ijk[..., ::-1].copy()).permute(3, 0, 1, 2)[None].float()


def test_all_fields_keep_place_and_length_between_oblique_grids() -> None:
    own = oblique((20, 24, 18), (4.0, -3.5, 4.5), (5, -8, 11), 25)
    grid = oblique((28, 26, 30), (1.5, 1.2, -1.7), (8, -6, 9), -14)
    fields = CarriedFields(
        velocity_vox=field_of(own),
        samples_vox=(field_of(own, 0.5),),
        following=(Part(field_vox=field_of(own, -2.0), is_velocity=False),),
        following_vox=field_of(own, 3.0),
    )
    carried = fields.onto(grid, own)
    pairs = (
        (carried.velocity_vox, 1.0),
        (carried.samples_vox[0], 0.5),
        (carried.following[0].field_vox, -2.0),
        (carried.following_vox, 3.0),
    )
    for found, scale in pairs:
        assert found is not None
        torch.testing.assert_close(found, field_of(grid, scale), atol=2e-3, rtol=1e-4)
    assert carried.following[0].is_velocity is False


def test_beyond_its_own_grid_a_field_goes_on_as_at_the_border() -> None:
    own = oblique((10, 12, 9), (4.0, 4.0, 4.0), (0, 0, 0), 0)
    wider = oblique((14, 16, 13), (4.0, 4.0, 4.0), (0, 0, 0), 0)
    carried = CarriedFields(velocity_vox=field_of(own)).onto(wider, own).velocity_vox
    expected = torch.nn.functional.pad(field_of(own), (2, 2) * 3, mode="replicate")
    torch.testing.assert_close(carried, expected, atol=1e-4, rtol=1e-5)


def test_nothing_predicted_is_nothing_carried() -> None:
    grid = oblique((8, 9, 10), (1, 1, 1), (0, 0, 0), 0)
    assert CarriedFields().onto(grid, grid) == CarriedFields() or CarriedFields().onto(grid, grid).velocity_vox is None


@pytest.fixture(scope="module")
def pair() -> SyntheticPair:
    return make_pair(3, (28, 40, 34))


def saved(config: NetworkConfig, folder: Path, pair: SyntheticPair, steps: int | None = None) -> str:
    """A model at twice the working spacing of the pair, whose smooth field has a length of some voxels."""
    torch.manual_seed(1)
    network = build_network(config)
    with torch.no_grad():
        head = next(module for module in network.modules() if isinstance(module, FieldHead))
        head.mean.weight.zero_()
        head.mean.bias.copy_(torch.tensor([0.5, -0.3, 0.4]))
    side = 2 * suitable_spacing_mm(pair.fixed)
    card = ModelCard(
        name="coarse", network=config, preprocessing=Preprocessing(spacing_mm=(side,) * 3), refinement_steps=steps
    )
    return str(save_checkpoint(network, card, folder))


def run(pair: SyntheticPair, model: str, **fields: object) -> RegistrationResult:
    config = RegistrationConfig(model=model, initial="centers", **fields)  # type: ignore[arg-type]
    return register(pair.fixed, pair.moving, config)


def steps_of(result: RegistrationResult) -> list[int]:
    return [level["steps"] for level in result.report["refinement"]["levels"]]


@pytest.mark.parametrize("name", ["autofuse", "autofuse-disp"])
def test_the_refinement_goes_on_from_the_prediction_on_a_finer_grid(
    name: str, pair: SyntheticPair, tmp_path: Path
) -> None:
    model = saved(replace(NETWORKS[name], channels=4), tmp_path, pair)
    alone, begun = run(pair, model, refinement_steps=0), run(pair, model, refinement_steps=1)
    assert alone.report["working_grid"] == alone.report["model_grid"] == begun.report["model_grid"]
    sides = [result.report["working_grid"]["spacing_mm"][0] for result in (alone, begun)]
    assert sides[0] == pytest.approx(2 * sides[1], rel=1e-6)
    inner = (slice(8, -8), slice(8, -8), slice(8, -8))
    lengths = [result.displacement_magnitude.array[inner] for result in (alone, begun)]
    assert lengths[0].mean() > sides[1]
    # A step moves a point by 0.3 voxels along each axis, at two levels: sqrt(3) * 0.3 * (2 + 1) voxels together.
    # Half or twice the predicted field, 4 voxels long, would differ by 2 voxels or more.
    assert np.abs(lengths[0] - lengths[1]).max() < 1.6 * sides[1]
    assert begun.report["inverse_consistency_mm"]["mean"] < 0.2 * sides[1]


def test_a_spacing_that_was_asked_for_holds_for_both(pair: SyntheticPair, tmp_path: Path) -> None:
    model = saved(replace(NETWORKS["autofuse"], channels=4), tmp_path, pair)
    result = run(pair, model, refinement_steps=1, spacing_mm=7.0)
    assert result.report["working_grid"] == result.report["model_grid"]
    assert result.report["working_grid"]["spacing_mm"] == pytest.approx([7.0] * 3)


def test_the_card_says_how_many_steps_follow_by_default(pair: SyntheticPair, tmp_path: Path) -> None:
    config = replace(NETWORKS["autofuse"], channels=2)
    models = {steps: saved(config, tmp_path / str(steps), pair, steps) for steps in (None, 0, 3)}
    assert steps_of(run(pair, models[0])) == []
    assert max(steps_of(run(pair, models[3]))) == 3
    assert steps_of(run(pair, models[3], refinement_steps=0)) == []
    assert max(steps_of(run(pair, models[0], refinement_steps=2))) == 2
    assert 3 < max(steps_of(run(pair, models[None]))) <= STEPS_WITH_MODEL


def test_without_a_model_the_finest_level_takes_fewer_steps_on_a_cpu_unless_asked(pair: SyntheticPair) -> None:
    usual, asked = run(pair, "none"), run(pair, "none", refinement_steps=13)
    assert steps_of(usual)[-1] <= FINEST_STEPS_WITHOUT_MODEL["cpu"] < max(steps_of(usual)) <= STEPS_WITHOUT_MODEL
    assert steps_of(asked)[-1] == max(steps_of(asked)) == 13
    assert usual.report["refinement"]["steps"] == STEPS_WITHOUT_MODEL


def test_a_card_keeps_its_steps_and_refuses_nonsense(pair: SyntheticPair, tmp_path: Path) -> None:
    model = saved(replace(NETWORKS["autofuse"], channels=2), tmp_path, pair, 4)
    described = describe_model(model, lambda card: {"refinement_steps": 0})
    assert described.card is not None
    assert described.card.refinement_steps == 0
    path = find(model).card_path
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["refinement_steps"] == 0
    path.write_text(json.dumps(content | {"refinement_steps": -1}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"refinement_steps is 0\.\.1000"):
        describe_model(model, lambda card: {})


def test_a_smoothness_that_changes_nothing_is_told(pair: SyntheticPair, tmp_path: Path) -> None:
    fixed_steps = saved(replace(NETWORKS["autofuse"], channels=2), tmp_path / "a", pair, 0)
    conditional = saved(replace(NETWORKS["autofuse-conditional"], channels=2), tmp_path / "b", pair, 0)
    told = {
        (model, smoothness, steps): [warning["code"] for warning in result.report["warnings"]]
        for model in (fixed_steps, conditional)
        for smoothness, steps in ((1.0, None), (2.0, None), (2.0, 1))
        if (result := run(pair, model, smoothness=smoothness, refinement_steps=steps))
    }
    assert [key for key, codes in told.items() if "smoothness-unused" in codes] == [(fixed_steps, 2.0, None)]
