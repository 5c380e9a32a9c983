"""Training on disturbed and synthesised pairs: repeatable, resumable, the same from memory, and judged as it should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from autofuse_engine.augmentation_configs import AugmentationConfig, SynthesisConfig
from autofuse_engine.configs import NetworkConfig
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.distributed import Processes
from autofuse_engine.networks.network import NetworkOutput
from autofuse_engine.run_folder import RunFolder, read_cells
from autofuse_engine.training import train
from autofuse_engine.training_configs import LossConfig, Stage, TrainingConfig, term_names
from autofuse_engine.training_pair_images import PairMaker, TrainingPair
from autofuse_engine.training_pairs import ClassTable
from autofuse_engine.validation import Validator
from Testing.engine.training_runs import SHAPE, assert_same_run, tiny_config, tiny_dataset

DISTURBED = AugmentationConfig(rotation_degrees=5, warp_vox=0.5, bias=0.2, noise=0.02, slice_mm=4, rim_vox=1, crop=0.3)
SYNTHESIS = SynthesisConfig(probability=0.8, shapes=0.4, shape_labels=4, shape_warp_vox=1.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("prepared Größe"))


def config(dataset: Path, **more: Any) -> TrainingConfig:
    values: dict[str, Any] = {
        "network": NetworkConfig(channels=2, align_corners=False),
        "losses": LossConfig(label_overlap=1.0, labels_a_step=2),
        "stages": (Stage(steps=5, learning_rate=1e-3),),
        "validation_every": 5,
        "augmentation": DISTURBED,
        "synthesis": SYNTHESIS,
    }
    return tiny_config(dataset, **(values | more))


@pytest.fixture(scope="module")
def whole(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert train(config(dataset), folder).finished
    return folder


def test_a_resumed_run_is_the_uninterrupted_one(dataset: Path, whole: Path, tmp_path: Path) -> None:
    asked = iter([False, False, True])
    assert not train(config(dataset), tmp_path / "run", stop=lambda: next(asked)).finished
    assert train(None, tmp_path / "run", resume=True).finished
    assert_same_run(tmp_path / "run", whole)


def test_cases_kept_in_memory_train_the_same_network(dataset: Path, whole: Path, tmp_path: Path) -> None:
    assert train(config(dataset, resident=True), tmp_path / "run").finished
    assert_same_run(tmp_path / "run", whole)


def test_pairs_without_labels_have_no_overlap_and_shapes_no_similarity(dataset: Path, whole: Path) -> None:
    rows = read_cells(RunFolder(whole).metrics)
    shapes = [row for row in rows if row["fixed"] == "shapes"]
    unlabelled = [row for row in rows if not row["label_overlap"]]
    assert shapes
    assert unlabelled
    assert all(not row["similarity"] and 0 <= float(row["label_overlap"]) <= 1 for row in shapes)
    assert all(row["similarity"] for row in unlabelled)
    judged = read_cells(RunFolder(whole).validation)
    for row in judged:
        mean = (float(row["dice"]) + float(row["dice_synthesised"])) / 2
        assert float(row["score"]) == pytest.approx(mean)


class Leaning(torch.nn.Module):
    """Moves everything the further the brighter the moving image is."""

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> NetworkOutput:
        half = [side // 2 for side in fixed.shape[2:]]
        return NetworkOutput(velocity_mean=torch.ones(1, 3, *half) * moving.mean() * 4, velocity_log_variance=None)


def test_validation_shows_the_network_the_same_labels_in_another_contrast(dataset: Path) -> None:
    cases = PreparedDataset.open(dataset)
    table = ClassTable([label.value for label in cases.labels])
    alone = Processes(rank=0, count=1, device=torch.device("cpu"))
    validator = Validator(config(dataset), cases, [(5, 6), (7, 5)], table, alone)
    first, second = (validator.judge(Leaning()).figures for _ in range(2))  # pyright: ignore[reportArgumentType]
    assert first == second
    assert first["dice"] != first["dice_synthesised"]
    plain = Validator(config(dataset, synthesis=None), cases, [(5, 6), (7, 5)], table, alone)
    assert plain.judge(Leaning()).figures["dice"] == first["dice"]  # pyright: ignore[reportArgumentType]


def test_a_stage_of_segmentation_alone_learns_from_synthesised_images(dataset: Path, tmp_path: Path) -> None:
    segments = NetworkConfig(channels=2, align_corners=False, classes=3)
    alone = (Stage(steps=5, learning_rate=1e-3, learns="segmentation"),)
    synthesis = replace(SYNTHESIS, shapes=0.0)
    none = LossConfig(label_overlap=0.0)
    made = config(dataset, network=segments, stages=alone, synthesis=synthesis, losses=none)
    assert train(made, tmp_path / "run").finished
    for row in read_cells(RunFolder(tmp_path / "run").validation):
        kinds = ("dice", "dice_synthesised", "segmentation_dice", "segmentation_dice_synthesised")
        values = [float(row[kind]) for kind in kinds]
        assert float(row["score"]) == pytest.approx(sum(values) / 4)
        assert values[2] != values[3], "the moving image was shown in another contrast"
    seen = read_cells(RunFolder(tmp_path / "run").metrics)
    assert any(row["fixed_segmentation"] for row in seen)
    with pytest.raises(ValueError, match="label_overlap is above 0"):
        replace(made, stages=(*alone, Stage(steps=5)))


def maker(**more: Any) -> PairMaker:
    made = config(Path("prepared"), **more)
    return PairMaker(config=made, spacing_mm=(2.0, 1.0, 1.5), labels=3)


def pair(step: int, **more: Any) -> TrainingPair:
    """Two blocks of three labels each; the images show the labels."""
    labels = torch.zeros(1, 1, *SHAPE, dtype=torch.int64)
    for label in (1, 2, 3):
        labels[:, :, 4:12, 8 * label - 4 : 8 * label + 2, 3:11] = label
    moving = labels.roll(1, 3)
    images = (labels.float() / 4, moving.float() / 4)
    return maker(**more).make(images, (labels, moving), ("a", "b"), step, 0)


def test_the_loss_compares_the_images_before_their_looks_were_disturbed() -> None:
    looks = AugmentationConfig(bias=0.3, noise=0.05, rim_vox=2, crop=0.4, slice_mm=6)
    plain = pair(3, augmentation=AugmentationConfig(), synthesis=None)
    seen = pair(3, augmentation=looks, synthesis=None)
    assert seen.compared is not None
    assert torch.equal(seen.compared[0], plain.fixed)
    assert not torch.equal(seen.fixed, plain.fixed)
    assert torch.equal(seen.compared[1], plain.moving)
    assert seen.fixed_labels is not None
    assert plain.fixed_labels is not None
    assert torch.equal(seen.fixed_labels, plain.fixed_labels)
    both = pair(3, augmentation=replace(looks, rotation_degrees=10.0, flips="H"), synthesis=None)
    assert both.compared is not None
    assert both.fixed_labels is not None
    agree = ((both.compared[0] * 4).round().long() == both.fixed_labels).float().mean()
    assert float(agree) > 0.93, "geometry of image and labels is one"
    assert not torch.equal(both.compared[0], plain.fixed)


def test_a_synthesised_pair_keeps_its_geometry_and_loses_its_contrast() -> None:
    flat = SynthesisConfig(sd=0.0, blur_vox=0.0, background=0.0, mixed=0.0, remapped=0.0)
    for step in range(4):
        made = pair(step, augmentation=AugmentationConfig(), synthesis=flat)
        assert not made.compares_images
        for image, labels in ((made.fixed, made.fixed_labels), (made.moving, made.moving_labels)):
            assert labels is not None
            assert [int(image[labels == label].unique().numel()) for label in range(4)] == [1, 1, 1, 1]
            assert float(image[labels == 0].max()) == 0
        assert made.fixed_labels is not None
        assert made.moving_labels is not None
        levels = [[float(i[one == k].mean()) for k in (1, 2, 3)]
                  for i, one in ((made.fixed, made.fixed_labels), (made.moving, made.moving_labels))]  # fmt: skip
        assert levels[0] != levels[1]
    assert pair(1, synthesis=replace(flat, similarity=True)).compares_images


def test_labels_of_a_step_are_drawn_anew_and_by_the_step_alone() -> None:
    drawn = [pair(step, synthesis=None).overlap_labels for step in range(12)]
    again = pair(5, synthesis=None).overlap_labels
    assert all(one is not None and len(one) == 2 and set(one.tolist()) <= {1, 2, 3} for one in drawn)
    assert again is not None
    assert again.tolist() == drawn[5].tolist() if drawn[5] is not None else False
    assert len({tuple(sorted(one.tolist())) for one in drawn if one is not None}) == 3
    assert pair(2, losses=LossConfig(), synthesis=None).overlap_labels is None


def test_synthesis_needs_labels_in_the_loss_and_shapes_no_segmentation(dataset: Path) -> None:
    with pytest.raises(ValueError, match="label_overlap is above 0"):
        config(dataset, losses=LossConfig())
    with pytest.raises(ValueError, match="that segments is 0"):
        config(dataset, network=NetworkConfig(channels=2, classes=3))
    assert TrainingConfig.from_dict(config(dataset).to_dict()) == config(dataset)
    assert TrainingConfig.from_dict(config(dataset, synthesis=None).to_dict()).synthesis is None
    assert term_names(LossConfig(label_overlap=0.5), NetworkConfig())[-1] == "label_overlap"
