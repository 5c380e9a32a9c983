"""A stage that teaches the field alone, and what it learns from known correspondences."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from autofuse_engine.configs import NetworkConfig
from autofuse_engine.data.augmentation import ImageChange
from autofuse_engine.data.image_changes import move_places
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.dataset_correspondences import find_correspondences
from autofuse_engine.errors import FileError
from autofuse_engine.networks.build import build_network
from autofuse_engine.run_folder import RunFolder, read_rows, read_status
from autofuse_engine.spatial.grid import apply_matrix, voxel_grid
from autofuse_engine.training import train
from autofuse_engine.training_configs import AugmentationConfig, LossConfig, Stage, TrainingConfig
from autofuse_engine.training_export import export_model
from autofuse_engine.training_pair_images import PairMaker
from autofuse_engine.training_pairs import ResidentCases
from autofuse_engine.training_state import read_state
from Testing.engine.test_training_processes import run
from Testing.engine.test_training_segmentation_stage import FIRST, changed_parts
from Testing.engine.training_runs import assert_same_run, tiny_config, tiny_dataset

FIELD = Stage(steps=2, pairs="labelled", learning_rate=1e-3, learns="field")
LEARNS_PLACES = LossConfig(correspondence=1.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_dataset(tmp_path_factory.mktemp("vorbereitet"))
    find_correspondences(folder, jobs=1)
    return folder


def test_what_sees_single_images_stays_as_it_is(dataset: Path, tmp_path: Path) -> None:
    config = tiny_config(dataset, stages=(FIELD,), losses=LEARNS_PLACES, validation_every=10)
    train(config, tmp_path / "run")
    assert changed_parts(config, tmp_path / "run") == {"pair_path", "gates", "head"}
    rows = read_rows(RunFolder(tmp_path / "run").metrics)
    for row in rows:
        assert row["warped_labels"] > 0
        left_out = ("moving_segmentation", "fixed_segmentation", "warped_segmentation", "segmentation_of_warped_labels")
        assert {row[name] for name in left_out} == {None}
        assert row["correspondence"] > 0
    assert read_state(RunFolder(tmp_path / "run").last)[1]["dataset"]["correspondences_to"] == "case-0"


def test_a_missing_label_lets_what_the_network_sees_count(dataset: Path, tmp_path: Path) -> None:
    config = tiny_config(dataset, stages=(replace(FIELD, steps=6, pairs="labelled+unlabelled"),), validation_every=10)
    train(config, tmp_path / "run")
    rows = read_rows(RunFolder(tmp_path / "run").metrics)
    both = [row["warped_labels"] is not None for row in rows]
    assert True in both
    assert False in both
    seen = [row["warped_segmentation"] is not None or row["segmentation_of_warped_labels"] is not None for row in rows]
    assert True in seen
    assert not any(one and other for one, other in zip(both, seen, strict=True))
    assert all(row["fixed_segmentation"] is row["moving_segmentation"] is None for row in rows)


def test_it_is_the_same_field_as_where_everything_learns(dataset: Path) -> None:
    network = build_network(NetworkConfig(channels=2, classes=3, align_corners=False))
    fixed, moving = torch.rand(2, 1, 16, 32, 16, generator=torch.Generator().manual_seed(1)).split(1)
    whole = network(fixed, moving)
    network.keep_single_images(True)
    kept = network(fixed, moving)
    torch.testing.assert_close(kept.velocity_mean, whole.velocity_mean, rtol=1e-3, atol=1e-7)
    kept.velocity_mean.sum().backward()
    path = network.get_submodule("single_image_path")
    assert all(parameter.grad is None for parameter in path.parameters())
    network.keep_single_images(False)
    network(fixed, moving).velocity_mean.sum().backward()
    assert any(parameter.grad is not None for parameter in path.parameters())


def test_segmentation_field_and_everything_may_follow_each_other_and_resume_exactly(
    dataset: Path, tmp_path: Path
) -> None:
    last = Stage(steps=1, pairs="labelled", learning_rate=1e-3)
    config = tiny_config(dataset, stages=(replace(FIRST, steps=1), FIELD, last), losses=LEARNS_PLACES)
    train(config, tmp_path / "whole")
    asked = iter([False, False, True])
    assert not train(config, tmp_path / "stopped", stop=lambda: next(asked)).finished
    assert read_status(tmp_path / "stopped").learns == "field"
    train(config, tmp_path / "stopped", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")
    assert {"single_image_path", "pair_path"} <= changed_parts(config, tmp_path / "whole")


def test_a_run_of_segmentation_and_field_predicts_one(dataset: Path, tmp_path: Path) -> None:
    from autofuse_engine.model_card import read_card

    config = tiny_config(dataset, stages=(replace(FIRST, steps=1), replace(FIELD, steps=1)), validation_every=10)
    train(config, tmp_path / "run")
    made = export_model(tmp_path / "run", "made", checkpoint="last", folder=tmp_path)
    assert read_card(made.with_suffix(".json")).predicts_field


@pytest.mark.slow
def test_it_learns_correspondences_of_pairs_that_it_never_saw(dataset: Path, tmp_path: Path) -> None:
    config = tiny_config(
        dataset,
        network=NetworkConfig(channels=4, classes=3, align_corners=False),
        losses=LossConfig(correspondence=1.0, similarity_weight=1e-6, fusion=0.0, kl=1e-4),
        stages=(replace(FIELD, steps=80, learning_rate=2e-3),),
        augmentation=AugmentationConfig(),
        validation_every=80,
        validation_pairs=6,
    )
    train(config, tmp_path / "run")
    losses = [row["correspondence"] for row in read_rows(RunFolder(tmp_path / "run").metrics)]
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:10])
    judged = read_rows(RunFolder(tmp_path / "run").validation)
    assert judged[-1]["dice"] > judged[0]["dice"] + 0.03


@pytest.mark.slow
def test_two_processes_learn_the_field_as_one_does(dataset: Path, tmp_path: Path) -> None:
    config = tiny_config(dataset, batch=2, stages=(FIELD,), losses=LEARNS_PLACES, validation_every=10)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.to_dict()), encoding="utf-8")
    for folder, processes in (("one", 1), ("two", 2)):
        for done in run(path, tmp_path / folder, processes):
            assert done.returncode == 0, done.stderr
    one, two = (read_rows(RunFolder(tmp_path / folder).metrics) for folder in ("one", "two"))
    for first, second in zip(one, two, strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-3)


def test_places_move_with_their_image() -> None:
    shape = (8, 12, 10)
    matrix = np.eye(4)
    matrix[:3] = [[0.9, 0.1, 0.0, 0.7], [0.0, 1.0, -0.1, 0.4], [0.05, 0.0, 1.1, -0.6]]
    slope = torch.tensor([[0.02, 0.0, 0.1], [0.0, -0.05, 0.0], [0.03, 0.0, 0.0]])
    grid = voxel_grid(shape)

    def to_reference(points: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ab,nbdhw->nadhw", slope, points) + 1.5

    moved = move_places(to_reference(grid), ImageChange(source_from_target_vox=matrix))
    source = apply_matrix(matrix, grid)
    inner = ((source >= 0) & (source <= torch.tensor(shape).view(1, 3, 1, 1, 1) - 1)).all(dim=1, keepdim=True)
    expected = source + to_reference(source)
    torch.testing.assert_close(moved[inner.expand_as(moved)], expected[inner.expand_as(moved)], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(move_places(to_reference(grid), ImageChange()), grid + to_reference(grid))


def test_a_pair_of_one_case_joins_its_points_however_it_is_moved(dataset: Path) -> None:
    moves = AugmentationConfig(rotation_degrees=8, scaling=0.1, translation_vox=1, pose_rotation_degrees=9, flips="DHW")
    config = tiny_config(dataset, augmentation=moves, losses=LEARNS_PLACES)
    image = torch.rand(1, 1, 16, 32, 16)
    to_reference = 2 * torch.rand(1, 3, 1, 1, 1).expand(1, 3, 16, 32, 16)
    maker = PairMaker(config=config, spacing_mm=(2.0, 1.0, 1.5), labels=2)
    for step in range(4):
        pair = maker.make((image, image), (None, None), ("a", "a"), step, 0, (to_reference, to_reference))
        assert pair.fixed_places is not None
        assert pair.moving_places is not None
        # Where the places of the fixed image say it came from, the image has its value.
        back = (pair.fixed_places - to_reference).clamp(min=0)
        assert pair.compared is not None
        from scipy.ndimage import map_coordinates

        found = map_coordinates(image[0, 0].numpy(), back[0].numpy(), order=1, mode="nearest")
        seen = pair.compared[0][0, 0].numpy()
        assert np.abs(found - seen)[seen > 0].mean() < 0.02
        assert not torch.equal(pair.fixed_places, pair.moving_places)


def test_cases_in_the_memory_of_the_device_have_theirs_too(dataset: Path) -> None:
    from autofuse_engine.data.correspondences import Correspondences

    prepared = PreparedDataset.open(dataset)
    places = Correspondences.open(prepared)
    resident = ResidentCases(prepared, [0, 1], None, torch.device("cpu"), places)
    found = resident.to_reference(1)
    assert found is not None
    np.testing.assert_array_equal(found[0].numpy(), places.displacement("case-1").astype(np.float32))
    assert ResidentCases(prepared, [1], None, torch.device("cpu")).to_reference(1) is None


def test_a_run_with_resident_cases_is_the_same(dataset: Path, tmp_path: Path) -> None:
    config = tiny_config(dataset, stages=(FIELD,), losses=LEARNS_PLACES, validation_every=10)
    train(config, tmp_path / "read")
    train(replace(config, resident=True), tmp_path / "kept")
    one, two = (read_rows(RunFolder(tmp_path / name).metrics) for name in ("read", "kept"))
    assert [row["loss"] for row in one] == [row["loss"] for row in two]


def test_what_cannot_be_learned_is_refused(tmp_path: Path) -> None:
    plain = tiny_dataset(tmp_path / "plain")
    with pytest.raises(FileError) as caught:
        train(tiny_config(plain, losses=LEARNS_PLACES), tmp_path / "run")
    assert caught.value.code == "correspondences-missing"
    assert "autofuse dataset correspond" in caught.value.hint
    with pytest.raises(ValueError, match="does not segment learn everything"):
        TrainingConfig(dataset="x", network=NetworkConfig(channels=2), stages=(FIELD,))
    with pytest.raises(ValueError, match="no path for single images"):
        build_network(NetworkConfig(kind="voxelmorph-1", channels=4, field="displacement")).keep_single_images(True)
