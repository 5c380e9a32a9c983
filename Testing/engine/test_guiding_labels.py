"""Which labels guide a refinement: classes as they are where the grids are one, probabilities looked up where not."""

from __future__ import annotations

import numpy as np
import torch

from autofuse_engine.data.preprocessing import Grid
from autofuse_engine.guidance import GivenOnGrid
from autofuse_engine.guiding_labels import guiding_labels
from autofuse_engine.networks.segmentation import GivenClasses
from autofuse_engine.prediction import Prediction

SHAPE = (4, 5, 6)
GRID = Grid(shape=SHAPE, ras_from_ijk=np.eye(4))
GENERATOR = torch.Generator().manual_seed(7)
FIXED, MOVING = (torch.softmax(3 * torch.randn(1, 4, *SHAPE, generator=GENERATOR), dim=1) for _ in range(2))


def _classes_last_in_memory(probabilities: torch.Tensor) -> torch.Tensor:
    """The same values, as networks leave them."""
    return probabilities.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)


def seen() -> Prediction:
    return Prediction(
        velocity_vox=torch.zeros(1, 3, *SHAPE),
        samples_vox=(),
        gate_means=[],
        fixed_classes=FIXED[0].argmax(dim=0).to(torch.uint8),
        moving_classes=MOVING[0].argmax(dim=0).to(torch.uint8),
        fixed_probabilities=_classes_last_in_memory(FIXED),
        moving_probabilities=MOVING,
    )


def test_on_the_models_own_grid_they_are_its_classes() -> None:
    labels = guiding_labels(seen(), None, GRID, GRID)
    assert labels is not None
    for found, probabilities in zip(labels, (FIXED, MOVING), strict=True):
        assert found.dtype == torch.int16
        assert torch.equal(found, probabilities.argmax(dim=1, keepdim=True).short())


def test_on_another_grid_probabilities_are_looked_up() -> None:
    matrix = np.eye(4)
    matrix[0, 3] = 1.0  # one voxel along i, the last axis of the tensors
    labels = guiding_labels(seen(), None, Grid(shape=(4, 5, 5), ras_from_ijk=matrix), GRID)
    assert labels is not None
    assert torch.equal(labels[0], FIXED[..., 1:].argmax(dim=1, keepdim=True).short())


def test_a_class_that_the_user_gives_is_nowhere_else() -> None:
    told = torch.zeros(1, 1, *SHAPE, dtype=torch.int64)
    told[..., 0] = 2
    given = GivenOnGrid(fixed=GivenClasses(labels=told, classes=(2,)), moving=None)
    labels = guiding_labels(seen(), given, GRID, GRID)
    assert labels is not None
    rest = FIXED.clone()
    rest[:, 2] = 0
    assert torch.equal(labels[0], torch.where(told > 0, told, rest.argmax(dim=1, keepdim=True)).short())
    assert torch.equal(labels[1], MOVING.argmax(dim=1, keepdim=True).short())
