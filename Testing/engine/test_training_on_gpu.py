"""Training on a GPU: a stopped run goes on, and pairs made there are those made on the CPU. Needs no SimpleITK."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from autofuse_engine.augmentation_configs import AugmentationConfig, SynthesisConfig
from autofuse_engine.configs import NetworkConfig
from autofuse_engine.run_folder import RunFolder, read_cells
from autofuse_engine.training import train
from autofuse_engine.training_configs import LossConfig, Stage, TrainingConfig
from autofuse_engine.training_pair_images import PairMaker
from Testing.engine.training_runs import SHAPE, tiny_dataset

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def config(dataset: Path) -> TrainingConfig:
    return TrainingConfig(
        dataset=str(dataset),
        network=NetworkConfig(channels=4, align_corners=False),
        losses=LossConfig(label_overlap=1.0, labels_a_step=2),
        augmentation=AugmentationConfig(
            rotation_degrees=5, warp_vox=0.5, bias=0.2, noise=0.02, slice_mm=4, rim_vox=1, crop=0.3
        ),
        synthesis=SynthesisConfig(shapes=0.3, shape_labels=4),
        stages=(Stage(steps=8, learning_rate=1e-3),),
        device="cuda",
        precision="bfloat16",
        channels_last=True,
        validation_every=4,
        validation_pairs=2,
        validation_distances=False,
    )


def test_a_stopped_run_goes_on_from_the_memory_of_the_gpu(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path / "prepared")
    asked = iter([False] * 5 + [True])
    assert not train(config(dataset), tmp_path / "run", stop=lambda: next(asked)).finished
    assert train(None, tmp_path / "run", resume=True).finished
    rows = read_cells(RunFolder(tmp_path / "run").metrics)
    assert [int(row["step"]) for row in rows] == list(range(1, 9))
    assert all(math.isfinite(float(row["loss"])) and row["skipped"] == "0" for row in rows)


def test_a_pair_made_on_the_gpu_is_the_one_made_on_the_cpu(tmp_path: Path) -> None:
    made = config(tmp_path)
    smooth = AugmentationConfig(rotation_degrees=5, warp_vox=1.0, bias=0.3, gamma=0.3, slice_mm=4, rim_vox=1, crop=0.3)
    values = made.to_dict() | {"augmentation": smooth.to_dict(), "synthesis": SynthesisConfig(remapped=1.0).to_dict()}
    maker = PairMaker(config=TrainingConfig.from_dict(values), spacing_mm=(2.0, 1.0, 1.5), labels=3)
    labels = torch.zeros(1, 1, *SHAPE, dtype=torch.int64)
    labels[:, :, 4:12, 4:20, 3:11] = 2
    image = torch.rand(1, 1, 4, 8, 4, generator=torch.Generator().manual_seed(1))
    image = torch.nn.functional.interpolate(image, size=SHAPE, mode="trilinear") * (labels > 0)
    for step in range(6):
        here, there = (
            maker.make((image.to(d), image.flip(3).to(d)), (labels.to(d), labels.to(d)), ("a", "b"), step, 0)
            for d in ("cpu", "cuda")
        )
        for one, two in ((here.fixed, there.fixed), (here.moving, there.moving)):
            assert float((one - two.cpu()).abs().mean()) < 2e-3
        assert here.fixed_labels is not None
        assert there.fixed_labels is not None
        assert float((here.fixed_labels != there.fixed_labels.cpu()).float().mean()) < 2e-3
