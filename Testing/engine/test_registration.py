"""The whole chain on small pairs, judged by SimpleITK, by known moves, and by runs that must be equal."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from autofuse_engine.checkpoint import save_checkpoint
from autofuse_engine.configs import NetworkConfig, RegistrationConfig
from autofuse_engine.data.files import to_sitk
from autofuse_engine.data.synthetic import SyntheticPair, make_pair
from autofuse_engine.data.transform_files import read_transform, write_transform
from autofuse_engine.data.volume import AxisOrder, Volume, map_points
from autofuse_engine.errors import AutoFuseError, CancelledError, DeviceError
from autofuse_engine.events import Event, Progress, Warning
from autofuse_engine.initial_transform import InitialTransform
from autofuse_engine.memory_ladder import search_with_less_and_less_memory
from autofuse_engine.model_card import ModelCard, Preprocessing
from autofuse_engine.networks import lean
from autofuse_engine.networks.build import build_network
from autofuse_engine.registration import ModelCache, RegistrationResult, register
from autofuse_engine.search_records import Attempt, Found

SHAPE = (36, 48, 40)
QUICK = RegistrationConfig(refinement_steps=12, spacing_mm=5.0)


@pytest.fixture(scope="module")
def pair() -> SyntheticPair:
    return make_pair(2, SHAPE)


def run(pair: SyntheticPair, config: RegistrationConfig = QUICK, **more: object) -> RegistrationResult:
    return register(
        pair.fixed,
        pair.moving,
        config,
        fixed_labels=pair.fixed_labels,
        moving_labels=pair.moving_labels,
        fixed_points_ras=pair.fixed_points_ras,
        moving_points_ras=pair.moving_points_ras,
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def result(pair: SyntheticPair) -> RegistrationResult:
    return run(pair)


def test_every_figure_improves_and_nothing_folds(result: RegistrationResult) -> None:
    metrics = result.report["metrics"]
    assert metrics["after"]["dice_mean"] > metrics["initial"]["dice_mean"] > metrics["before"]["dice_mean"]
    assert metrics["after"]["ncc"] > metrics["before"]["ncc"]
    assert metrics["after"]["hd95_mean_mm"] < metrics["before"]["hd95_mean_mm"]
    assert metrics["after"]["tre_mean_mm"] < 0.5 * metrics["before"]["tre_mean_mm"]
    assert result.report["folding_count"] == 0
    assert result.report["inverse_consistency_mm"]["mean"] < 0.1


def test_the_report_is_json_and_names_what_was_done(pair: SyntheticPair, result: RegistrationResult) -> None:
    report = json.loads(json.dumps(result.report))
    assert set(report["seconds"]) == {
        "check", "initial alignment", "refinement", "integration", "outputs", "total"}  # fmt: skip
    assert report["provenance"]["config"]["spacing_mm"] == 5.0
    assert report["provenance"]["fixed"] == pair.fixed.name
    assert report["provenance"]["model"] == "none"
    assert report["peak_memory_gib"] > 0.1
    assert report["working_grid"]["spacing_mm"] == pytest.approx([5.0] * 3)


def test_itk_reproduces_the_warped_image_from_the_written_transform(
    pair: SyntheticPair, result: RegistrationResult, tmp_path
) -> None:
    path = tmp_path / "Überführung 1.h5"
    write_transform(path, result.transform)
    moving = sitk.Cast(to_sitk(pair.moving), sitk.sitkFloat64)
    expected = sitk.Resample(moving, to_sitk(pair.fixed), sitk.ReadTransform(str(path)), sitk.sitkLinear, 0.0)
    difference = np.abs(sitk.GetArrayFromImage(expected) - result.warped.array).max()
    assert difference < 1e-5 * np.ptp(pair.moving.array)
    again = read_transform(path).transform_points(pair.fixed_points_ras)
    assert np.abs(again - result.transform.transform_points(pair.fixed_points_ras)).max() < 1e-6


def test_all_outputs_lie_on_the_fixed_grid(pair: SyntheticPair, result: RegistrationResult) -> None:
    assert result.warped_labels is not None
    volumes = (result.warped, result.warped_labels, result.jacobian, result.displacement_magnitude)
    assert all(volume.same_grid(pair.fixed) for volume in volumes)
    assert result.warped_labels.array.dtype == pair.moving_labels.array.dtype


def test_two_runs_are_equal_bit_for_bit(pair: SyntheticPair, result: RegistrationResult) -> None:
    again = run(pair)
    assert np.array_equal(again.warped.array, result.warped.array)
    assert np.array_equal(again.jacobian.array, result.jacobian.array)
    assert again.report["metrics"] == result.report["metrics"]


@pytest.mark.parametrize(
    "axes",
    [AxisOrder(order=(1, 2, 0), flips=(True, False, True)), AxisOrder(order=(0, 1, 2), flips=(False, True, False))],
)
def test_the_stored_order_of_axes_has_no_influence(pair: SyntheticPair, axes: AxisOrder) -> None:
    config = replace(QUICK, initial="centers", refinement_steps=6)
    straight = register(pair.fixed, pair.moving, config)
    turned = register(pair.fixed.reordered(axes), pair.moving.reordered(AxisOrder(order=(2, 0, 1))), config)
    points = pair.fixed_points_ras
    difference = straight.transform.transform_points(points) - turned.transform.transform_points(points)
    assert np.abs(difference).max() < 1e-3
    assert np.abs(turned.warped.reordered(axes.inverse).array - straight.warped.array).max() < 1e-3 * 1000


def moved(volume: Volume, matrix: np.ndarray) -> Volume:
    """The same voxels at another place: what lay at x lies at ``matrix @ x``."""
    return replace(volume, array=volume.array.copy(), ras_from_ijk=matrix @ volume.ras_from_ijk, name="moved")


@pytest.mark.parametrize("initial", ["rigid", "affine"])
def test_a_known_move_is_found_in_sign_and_size(pair: SyntheticPair, initial: str) -> None:
    angle = np.deg2rad(12.0)
    matrix = np.eye(4)
    matrix[:3, :3] = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    if initial == "affine":
        matrix[:3, :3] = matrix[:3, :3] @ np.diag([1.08, 0.95, 1.04])
    matrix[:3, 3] = (11.0, -7.0, 5.0)
    found = register(
        pair.fixed,
        moved(pair.fixed, matrix),
        RegistrationConfig(initial=initial, refinement_steps=0),  # type: ignore[arg-type]
    )
    points = pair.fixed_points_ras
    assert np.linalg.norm(found.transform.transform_points(points) - map_points(matrix, points), axis=1).max() < 1.0
    assert np.linalg.norm(found.inverse.transform_points(map_points(matrix, points)) - points, axis=1).max() < 1.0


def test_a_given_matrix_is_used_as_it_is(pair: SyntheticPair) -> None:
    matrix = np.eye(4)
    matrix[:3, 3] = (3.0, -4.0, 1.0)
    config = RegistrationConfig(
        initial="matrix", initial_matrix_ras=tuple(tuple(row) for row in matrix.tolist()), refinement_steps=0
    )
    found = register(pair.fixed, moved(pair.fixed, matrix), config)
    assert np.allclose(found.transform.matrix_ras, matrix)
    inner = (slice(2, -2),) * 3
    assert np.abs(found.warped.array - pair.fixed.array)[inner].max() < 1e-3 * pair.fixed.array.max()


def test_more_smoothness_makes_a_stiffer_transform(pair: SyntheticPair) -> None:
    config = replace(QUICK, initial="centers", refinement_steps=8)
    spread = [
        float(register(pair.fixed, pair.moving, replace(config, smoothness=factor)).jacobian.array.std())
        for factor in (0.1, 1.0, 10.0)
    ]
    assert spread[0] > 1.05 * spread[1] > 1.05 * 1.05 * spread[2]


def test_masks_confine_what_counts(pair: SyntheticPair) -> None:
    config = replace(QUICK, initial="centers", refinement_steps=8)
    half = np.zeros(SHAPE, np.uint8)
    half[:, :, : SHAPE[2] // 2] = 1
    mask = pair.fixed.with_array(half)
    rigid = register(pair.fixed, pair.moving, replace(config, refinement_steps=0)).displacement_magnitude.array
    masked = register(pair.fixed, pair.moving, config, fixed_mask=mask).displacement_magnitude.array
    change = np.abs(masked - rigid)
    assert change[:, :, 4:16].mean() > 1.5 * change[:, :, -12:].mean()


def test_events_rise_and_a_cancelled_run_says_so(pair: SyntheticPair) -> None:
    events: list[Event] = []
    run(pair, report=events.append)
    fractions = [event.fraction for event in events if isinstance(event, Progress)]
    assert fractions == sorted(fractions)
    for stage in ("check", "initial alignment", "refinement", "integration", "outputs"):
        with pytest.raises(CancelledError):
            run(pair, report=events.append, cancelled=lambda wanted=stage: events[-1:] != [] and any(
                isinstance(event, Progress) and event.stage == wanted for event in events[-1:]))  # fmt: skip


def test_finishing_early_keeps_the_best_field(pair: SyntheticPair) -> None:
    seen: list[Event] = []
    early = run(
        pair,
        replace(QUICK, refinement_steps=200),
        report=seen.append,
        finish_early=lambda: sum(isinstance(e, Progress) and e.stage == "refinement" for e in seen) > 12,
    )
    assert early.report["refinement"]["stopped_early"]
    metrics = early.report["metrics"]
    assert metrics["after"]["dice_mean"] > metrics["initial"]["dice_mean"]


BAD_INPUT = {
    "same-image-twice": lambda p: {"moving": p.fixed},
    "image-not-finite": lambda p: {"moving": p.moving.with_array(np.where(p.moving.array > 500, np.nan, 1.0))},
    "image-constant": lambda p: {"fixed": p.fixed.with_array(np.ones(SHAPE))},
    "labels-grid-differs": lambda p: {"fixed_labels": p.moving_labels, "moving_labels": p.moving_labels},
    "mask-empty": lambda p: {"fixed_mask": p.fixed.with_array(np.zeros(SHAPE, np.uint8))},
    "mask-grid-differs": lambda p: {"moving_mask": p.fixed_labels},
    "points-differ": lambda p: {"fixed_points_ras": p.fixed_points_ras},
    "device-absent": lambda p: {"config": RegistrationConfig(device="cuda:7")},
    "device-unknown": lambda p: {"config": RegistrationConfig(device="gpu")},
    "model-not-found": lambda p: {"config": RegistrationConfig(model="no-such-model")},
    "no-overlap": lambda p: {
        "moving": replace(p.moving, ras_from_ijk=p.moving.ras_from_ijk + np.array([[0, 0, 0, 900.0]] + [[0] * 4] * 3)),
        "config": RegistrationConfig(initial="none"),
    },
    "matrix-not-invertible": lambda p: {
        "config": RegistrationConfig(initial="matrix", initial_matrix_ras=((0.0,) * 4,) * 3 + ((0.0, 0.0, 0.0, 1.0),))
    },
}


def test_the_same_file_read_twice_is_refused(pair: SyntheticPair) -> None:
    with pytest.raises(AutoFuseError) as caught:
        register(pair.fixed, pair.fixed.with_array(pair.fixed.array.copy(), "copy"), QUICK)
    assert caught.value.code == "same-image-twice"


@pytest.mark.parametrize("code", BAD_INPUT)
def test_bad_input_is_refused_with_a_sentence_and_a_cure(pair: SyntheticPair, code: str) -> None:
    arguments = {"fixed": pair.fixed, "moving": pair.moving, "config": QUICK} | BAD_INPUT[code](pair)
    with pytest.raises(AutoFuseError) as caught:
        register(**arguments)
    assert caught.value.code == code
    assert caught.value.text.endswith(".")
    assert caught.value.hint.endswith(".")


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    config = NetworkConfig(channels=2)
    network = build_network(config)
    with torch.no_grad():
        network.head.mean.weight.normal_(std=0.05)
        network.head.log_variance.bias.fill_(-2.0)
    card = ModelCard(name="tiny", network=config, preprocessing=Preprocessing(spacing_mm=(6.0, 6.0, 6.0)))
    return str(save_checkpoint(network, card, tmp_path_factory.mktemp("models")))


def test_a_model_predicts_and_says_how_sure_it_is(pair: SyntheticPair, model_path: str) -> None:
    cache = ModelCache()
    config = RegistrationConfig(model=model_path, refinement_steps=0, samples=3)
    first = run(pair, config, models=cache)
    assert first.uncertainty is not None
    assert first.uncertainty.same_grid(pair.fixed)
    assert first.uncertainty.array.max() > 0.05
    assert [gate["stage"] for gate in first.report["gate_means"]] == [2, 3, 4, 5, 6, 7, 8]
    assert len(first.report["provenance"]["model_sha256"]) == 64
    assert first.report["provenance"]["model"] == "tiny"
    assert all(side % 16 == 0 for side in first.report["working_grid"]["shape"])
    again = run(pair, config, models=cache)
    assert np.array_equal(first.warped.array, again.warped.array)
    assert np.array_equal(first.uncertainty.array, again.uncertainty.array)


def test_refinement_improves_on_a_poor_prediction(pair: SyntheticPair, model_path: str) -> None:
    plain = run(pair, RegistrationConfig(model=model_path, refinement_steps=0))
    refined = run(pair, RegistrationConfig(model=model_path, refinement_steps=10))
    dice = [item.report["metrics"]["after"]["dice_mean"] for item in (plain, refined)]
    assert dice[1] > dice[0] + 0.01


@pytest.mark.skipif(not lean.has_fast_bfloat16(), reason="needs a CPU with bfloat16")
def test_half_precision_stays_close(pair: SyntheticPair, model_path: str) -> None:
    fields = [
        run(pair, RegistrationConfig(model=model_path, refinement_steps=0, precision=precision)).displacement_magnitude
        for precision in ("float32", "bfloat16")
    ]
    assert np.abs(fields[0].array - fields[1].array).mean() < 0.05 * fields[0].array.mean()


def test_memory_is_tried_from_plenty_to_little_and_every_step_is_announced() -> None:
    tried: list[Attempt] = []
    events: list[Event] = []

    def find(attempt: Attempt) -> Found:
        tried.append(attempt)
        if attempt.coarser < 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 8 GiB")
        return Found(
            start=InitialTransform(matrix_ras=np.eye(4)),
            segmented_under_ras=np.eye(4),
            velocity_vox=None,
            grid=None,
            model_grid=None,
            samples_vox=(),
            gate_means=None,
            steps=0,
            levels=(),
            labels=0,
            model_name="m",
            model_sha256=None,  # type: ignore[arg-type]
        )

    config = RegistrationConfig(model="m", device="cuda:0")
    _, device = search_with_less_and_less_memory(config, torch.device("cuda:0"), find, events.append)
    assert [(a.precision, a.coarser) for a in tried] == [
        ("float32", 1.0), ("bfloat16", 1.0), ("bfloat16", 1.5), ("bfloat16", 2.0)]  # fmt: skip
    assert device == torch.device("cuda:0")
    warnings = [event for event in events if isinstance(event, Warning)]
    assert len(warnings) == 3
    assert "half" not in warnings[0].text
    assert "2 times coarser" in warnings[-1].text


def test_when_no_step_suffices_the_error_names_a_cure_and_other_errors_pass_through() -> None:
    def starve(attempt: Attempt) -> Found:
        raise MemoryError("about 90 GiB needed")

    with pytest.raises(DeviceError) as caught:
        search_with_less_and_less_memory(RegistrationConfig(), torch.device("cpu"), starve, lambda event: None)
    assert caught.value.code == "out-of-memory"
    assert "--spacing" in caught.value.hint

    def broken(attempt: Attempt) -> Found:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        search_with_less_and_less_memory(RegistrationConfig(), torch.device("cpu"), broken, lambda event: None)
