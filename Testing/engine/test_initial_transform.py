"""Starting from a transform that was found elsewhere: how it is divided, what becomes of it, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from autofuse_engine.cli import main
from autofuse_engine.configs import RegistrationConfig
from autofuse_engine.data.files import write_volume
from autofuse_engine.data.preprocessing import Grid
from autofuse_engine.data.synthetic import SyntheticPair, make_pair
from autofuse_engine.data.transform import GridStep, MatrixStep, SpatialTransform, compose
from autofuse_engine.data.transform_files import read_transform, write_transform
from autofuse_engine.data.volume import map_points
from autofuse_engine.errors import InputError
from autofuse_engine.initial_transform import InitialTransform, initial_transform
from autofuse_engine.registration import RegistrationResult, register
from Testing.engine.guided_models import save_guided_model

TURNED = np.array([[0.96, -0.28, 0.0, 14.0], [0.28, 0.96, 0.0, -9.0], [0.0, 0.0, 1.1, 6.0], [0.0, 0.0, 0.0, 1.0]])
STRAIGHT = RegistrationConfig(model="none", initial="transform", refinement_steps=0, spacing_mm=5.0)
QUICK = RegistrationConfig(model="none", refinement_steps=12, spacing_mm=5.0)


@pytest.fixture(scope="module")
def pair() -> SyntheticPair:
    return make_pair(2, (36, 48, 40))


@pytest.fixture(scope="module")
def found(pair: SyntheticPair) -> RegistrationResult:
    return register(pair.fixed, pair.moving, QUICK)


def wave(pair: SyntheticPair, height_mm: float = 4.0) -> GridStep:
    """A smooth displacement over the fixed image and beyond, along R and dependent on A."""
    depth, height, width = pair.fixed.shape
    shape = (depth + 40, height + 40, width + 40)
    place = pair.fixed.ras_from_ijk.copy()
    place[:3, 3] = map_points(place, np.array([-20.0, -20.0, -20.0]))
    k, j, i = np.indices(shape)
    points = map_points(place, np.stack([i, j, k], axis=-1))
    vectors = np.zeros((*shape, 3))
    vectors[..., 0] = height_mm * np.sin(points[..., 1] / 25.0)
    return GridStep(displacement_ras=vectors, ras_from_ijk=place)


def somewhere(pair: SyntheticPair, count: int = 200) -> np.ndarray:
    rng = np.random.default_rng(3)
    inner = rng.uniform(6, np.array(pair.fixed.shape[::-1]) - 7, (count, 3))
    return map_points(pair.fixed.ras_from_ijk, inner)


def test_a_chain_is_divided_at_its_trailing_matrices(pair: SyntheticPair) -> None:
    half = np.diag([1.0, 1.0, 0.5, 1.0])
    steps = (wave(pair), MatrixStep(matrix_ras=TURNED), MatrixStep(matrix_ras=half))
    start = initial_transform(SpatialTransform(steps=steps), pair.fixed)
    np.testing.assert_allclose(start.matrix_ras, half @ TURNED)
    assert start.deformation is not None
    assert len(start.deformation.steps) == 1
    points = somewhere(pair)
    expected = SpatialTransform(steps=steps).transform_points(points)
    np.testing.assert_allclose(start.whole.transform_points(points), expected, atol=1e-9)


@pytest.mark.parametrize("chain", [(), (TURNED,), (TURNED, np.diag([2.0, 1.0, 1.0, 1.0]))])
def test_a_linear_chain_is_its_matrix(pair: SyntheticPair, chain: tuple[np.ndarray, ...]) -> None:
    whole = SpatialTransform(steps=tuple(MatrixStep(matrix_ras=one) for one in chain))
    start = initial_transform(whole, pair.fixed)
    assert start.deformation is None
    np.testing.assert_allclose(start.matrix_ras, whole.matrix_ras)
    grid = Grid(ras_from_ijk=np.eye(4), shape=(4, 4, 4))
    assert start.displacement_vox(grid, torch.device("cpu")) is None


def test_of_a_grid_that_holds_everything_the_matrix_is_fitted(pair: SyntheticPair) -> None:
    chain = SpatialTransform(steps=(wave(pair), MatrixStep(matrix_ras=TURNED)))
    flat = SpatialTransform(steps=(chain.flattened(wave(pair).ras_from_ijk, wave(pair).shape),))
    start = initial_transform(flat, pair.fixed)
    assert np.abs(start.matrix_ras[:3, :3] - TURNED[:3, :3]).max() < 0.1
    assert start.deformation is not None
    points = somewhere(pair)
    np.testing.assert_allclose(start.whole.transform_points(points), flat.transform_points(points), atol=1e-6)
    bent = np.linalg.norm(start.deformation.transform_points(points) - points, axis=1)
    assert bent.mean() < 4.0  # the translation of 18 mm and the rotation are in the matrix


def test_the_field_is_in_voxels_and_axes_of_the_working_grid(pair: SyntheticPair) -> None:
    place = np.array([[0.0, -2.0, 0.0, 30.0], [3.0, 0.0, 0.0, -40.0], [0.0, 0.0, 4.0, -20.0], [0.0, 0.0, 0.0, 1.0]])
    grid = Grid(ras_from_ijk=place, shape=(9, 11, 13))
    start = InitialTransform(matrix_ras=TURNED, deformation=SpatialTransform(steps=(wave(pair),)))
    field = start.displacement_vox(grid, torch.device("cpu"))
    assert field is not None
    assert field.shape == (1, 3, 9, 11, 13)
    assert field.dtype == torch.float32
    i, j, k = 5.0, 7.0, 3.0
    centre = map_points(place, np.array([[i, j, k]]))
    moved_ijk = map_points(np.linalg.inv(place), wave(pair).transform_points(centre))[0]
    found = field[0, :, int(k), int(j), int(i)].flip(0).numpy()
    np.testing.assert_allclose(found, moved_ijk - (i, j, k), atol=1e-5)
    asked: list[int] = []
    start.displacement_vox(grid, torch.device("cpu"), lambda: asked.append(1))
    assert len(asked) == 9


def test_beyond_the_fixed_image_the_deformation_goes_on_as_at_its_border(pair: SyntheticPair) -> None:
    """A grid ends with the image, and is the identity outside: no jump of its 18 mm may reach the working grid."""
    chain = SpatialTransform(steps=(wave(pair), MatrixStep(matrix_ras=TURNED)))
    own = SpatialTransform(steps=(chain.flattened(pair.fixed.ras_from_ijk, pair.fixed.shape),))
    start = initial_transform(own, pair.fixed)
    place = pair.fixed.ras_from_ijk.copy()
    place[:3, 3] = map_points(place, np.array([-8.0, -8.0, -8.0]))
    depth, height, width = pair.fixed.shape
    grid = Grid(ras_from_ijk=place, shape=(depth + 16, height + 16, width + 16))
    field = start.displacement_vox(grid, torch.device("cpu"))
    assert field is not None
    steepest = max(float(field.diff(dim=axis).abs().max()) for axis in (2, 3, 4))
    assert steepest < 0.5
    torch.testing.assert_close(field[..., 0, :, :], field[..., 8, :, :], atol=1e-5, rtol=0)
    torch.testing.assert_close(field[..., -1], field[..., -9], atol=1e-5, rtol=0)


def test_without_a_search_the_result_is_what_it_started_from(pair: SyntheticPair, found: RegistrationResult) -> None:
    same = register(pair.fixed, pair.moving, STRAIGHT, start_from=found.transform)
    points = somewhere(pair)
    np.testing.assert_allclose(
        same.transform.transform_points(points), found.transform.transform_points(points), atol=0.02
    )
    back = same.inverse.transform_points(same.transform.transform_points(points))
    assert np.linalg.norm(back - points, axis=1).mean() < 0.1
    figures = same.report["metrics"]
    assert figures["initial"]["ncc"] == pytest.approx(figures["after"]["ncc"], abs=1e-3)
    assert figures["initial"]["ncc"] > figures["before"]["ncc"]
    assert same.report["initial_deformation"] is True
    assert found.report["initial_deformation"] is False
    assert same.report["provenance"]["config"]["initial"] == "transform"
    np.testing.assert_allclose(same.report["initial_matrix_ras"], found.report["initial_matrix_ras"])


def test_the_search_goes_on_from_there(pair: SyntheticPair) -> None:
    """A wave too much: the search undoes it, and comes to what it finds without it."""
    straight = register(pair.fixed, pair.moving, QUICK)
    matrix = np.array(straight.report["initial_matrix_ras"])
    bent = SpatialTransform(steps=(wave(pair, 6.0), MatrixStep(matrix_ras=matrix)))
    result = register(
        pair.fixed,
        pair.moving,
        RegistrationConfig(model="none", initial="transform", refinement_steps=30, spacing_mm=5.0),
        start_from=bent,
        fixed_points_ras=pair.fixed_points_ras,
        moving_points_ras=pair.moving_points_ras,
    )
    errors = result.report["metrics"]
    assert errors["after"]["tre_mean_mm"] < 0.5 * errors["initial"]["tre_mean_mm"]
    assert len(result.report["refinement"]["levels"]) == len(straight.report["refinement"]["levels"])  # all of them
    assert result.report["folding_count"] == 0
    assert result.report["inverse_consistency_mm"]["mean"] < 0.1


def test_a_model_sees_the_moving_image_as_it_was_warped(pair: SyntheticPair, tmp_path: Path) -> None:
    """Of the images a model says the same; the classes of the moving image lie on it, however it was warped."""
    model = str(save_guided_model(tmp_path))
    config = RegistrationConfig(model=model, initial="matrix", initial_matrix_ras=_rows(np.eye(4)), refinement_steps=0)
    alone = register(pair.fixed, pair.moving, config)
    start = SpatialTransform(steps=(wave(pair, 8.0), MatrixStep(matrix_ras=np.eye(4))))
    further = register(
        pair.fixed,
        pair.moving,
        RegistrationConfig(model=model, initial="transform", refinement_steps=0),
        start_from=start,
    )
    assert alone.moving_segmentation is not None
    assert further.moving_segmentation is not None
    assert np.array_equal(alone.moving_segmentation.array, further.moving_segmentation.array)
    points = somewhere(pair)
    own = further.transform.transform_points(points)
    apart = np.linalg.norm(own - alone.transform.transform_points(points), axis=1)
    assert apart.mean() > 1.0  # the wave is in the result
    whole = compose(alone.transform, start).transform_points(points)
    assert np.linalg.norm(own - whole, axis=1).max() > 1e-3  # and the model answered to what it saw


def test_what_cannot_be_started_from_is_refused(pair: SyntheticPair) -> None:
    grid = SpatialTransform(steps=(wave(pair),))
    empty = GridStep(displacement_ras=np.full((4, 4, 4, 3), np.nan), ras_from_ijk=pair.fixed.ras_from_ijk)
    flat = MatrixStep(matrix_ras=np.diag([1.0, 1.0, 0.0, 1.0]))
    for config, start, code in (
        (QUICK, grid, "initial-transform-unclear"),
        (STRAIGHT, None, "initial-transform-unclear"),
        (STRAIGHT, SpatialTransform(steps=(empty,)), "initial-transform-invalid"),
        (STRAIGHT, SpatialTransform(steps=(empty, MatrixStep(matrix_ras=np.eye(4)))), "initial-transform-invalid"),
        (STRAIGHT, SpatialTransform(steps=(wave(pair), flat)), "initial-transform-invalid"),
        (STRAIGHT, SpatialTransform(steps=(MatrixStep(matrix_ras=_moved(900.0)),)), "no-overlap"),
    ):
        with pytest.raises(InputError) as caught:
            register(pair.fixed, pair.moving, config, start_from=start)
        assert caught.value.code == code
        assert caught.value.hint


def test_the_terminal_starts_from_a_file(
    pair: SyntheticPair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "Größe 1"
    folder.mkdir()
    for name, volume in (("fixed", pair.fixed), ("moving", pair.moving)):
        write_volume(folder / f"{name}.nii.gz", volume)
    start = SpatialTransform(steps=(wave(pair), MatrixStep(matrix_ras=np.eye(4))))
    write_transform(folder / "start.h5", start)
    images = [str(folder / f"{name}.nii.gz") for name in ("fixed", "moving")]
    out = folder / "out"
    choices = ["--initial", str(folder / "start.h5"), "--model", "none", "--refine", "0"]
    assert main(["register", *images, "-o", str(out), *choices, "--no-overview", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    assert report["initial_deformation"] is True
    points = somewhere(pair)
    written = read_transform(out / "transform.h5").transform_points(points)
    np.testing.assert_allclose(written, start.transform_points(points), atol=0.05)


def _moved(distance_mm: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[0, 3] = distance_mm
    return matrix


def _rows(matrix: np.ndarray) -> tuple[tuple[float, float, float, float], ...]:
    return tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in matrix)
