"""How good the network is on pairs that it does not learn from: overlap, surface distance, folding, similarity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.data.augmentation import nearest_index
from autofuse_engine.data.surface_distance import hd95_per_label
from autofuse_engine.distributed import Processes
from autofuse_engine.losses.similarity import local_ncc
from autofuse_engine.metrics import dice_per_label, mean_of
from autofuse_engine.network_displacement import displacement_of
from autofuse_engine.networks.network import RegistrationNetwork
from autofuse_engine.spatial.grid import voxel_grid
from autofuse_engine.spatial.jacobian import folding, jacobian_determinant
from autofuse_engine.spatial.warp import warp
from autofuse_engine.training_configs import TrainingConfig
from autofuse_engine.training_pairs import Cases, ClassTable

FIGURES = ("dice", "hd95_mm", "folding_percent", "folding_count", "similarity", "segmentation_dice")


@dataclass(frozen=True, kw_only=True)
class ValidationFigures:
    """Means over the pairs.

    Attributes:
        score: what the best checkpoint has most of: Dice where there are labels, else the similarity.
        figures: those of :data:`FIGURES`; None where nothing could be judged. ``dice`` and ``hd95_mm`` are means over
            the labels that both images have; ``folding_count`` is a mean too; ``similarity`` is the mean squared local
            correlation, 1 is best; ``segmentation_dice`` judges what a semi-supervised network makes of both images.
    """

    score: float
    figures: dict[str, float | None]


class Validator:
    """Judges a network on a fixed list of pairs, which the processes share among them.

    Args:
        config: of the run.
        cases: the dataset.
        pairs: (fixed, moving) indices.
        table: turns labelmaps into classes.
        processes: all of them call :meth:`judge` at the same point.
    """

    def __init__(
        self,
        config: TrainingConfig,
        cases: Cases,
        pairs: Sequence[tuple[int, int]],
        table: ClassTable,
        processes: Processes,
    ) -> None:
        self._config, self._cases, self._pairs, self._table = config, cases, pairs, table
        self._processes = processes

    def judge(self, network: RegistrationNetwork) -> ValidationFigures:
        """Figures of the network in eval mode: the mean of the velocity, no noise."""
        rows = torch.zeros(len(self._pairs), len(FIGURES), dtype=torch.float64)
        network.eval()
        for number in range(self._processes.rank, len(self._pairs), self._processes.count):
            values = self._judge_pair(network, *self._pairs[number])
            rows[number] = torch.tensor([values.get(name, float("nan")) for name in FIGURES], dtype=torch.float64)
        network.train()
        table = self._processes.summed(rows).numpy()
        means = [mean_of(dict(enumerate(column))) for column in table.T]
        figures: dict[str, float | None] = dict(zip(FIGURES, means, strict=True))
        dice, similarity = figures["dice"], figures["similarity"]
        score = dice if dice is not None else similarity
        return ValidationFigures(score=float("-inf") if score is None else score, figures=figures)

    def _judge_pair(self, network: RegistrationNetwork, fixed_index: int, moving_index: int) -> dict[str, float]:
        config, device = self._config, self._processes.device
        fixed, moving = (
            torch.from_numpy(np.ascontiguousarray(self._cases.image(index)))[None, None].to(device)
            for index in (fixed_index, moving_index)
        )
        half = config.precision == "bfloat16" and device.type == "cuda"
        with torch.no_grad():
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                output = network(fixed, moving)
            displacement = displacement_of(output.velocity_mean, fixed.shape[2:], config.network)
            percent, count = folding(jacobian_determinant(displacement))
            similarity = -float(local_ncc(fixed, warp(moving, displacement), config.losses.similarity_radius))
        values = {"folding_percent": percent, "folding_count": float(count), "similarity": similarity}
        labels = [self._labels(index) for index in (fixed_index, moving_index)]
        if labels[0] is not None and labels[1] is not None:
            values |= self._overlap(labels[0], labels[1], displacement)
        segmented = [
            mean
            for one, logits in zip(labels, (output.fixed_logits, output.moving_logits), strict=True)
            if one is not None and logits is not None
            if (mean := mean_of(dice_per_label(one, logits[0].argmax(dim=0).cpu().numpy()))) is not None
        ]
        return values | ({"segmentation_dice": float(np.mean(segmented))} if segmented else {})

    def _labels(self, index: int) -> NDArray[np.int64] | None:
        labels = self._cases.labelmap(index)
        return None if labels is None else self._table.classes(labels)

    def _overlap(self, fixed: NDArray[np.int64], moving: NDArray[np.int64], displacement: Tensor) -> dict[str, float]:
        warped = carried(moving, displacement.cpu())
        shared = set(np.unique(fixed).tolist()) & set(np.unique(moving).tolist()) - {0}
        dice = mean_of({k: value for k, value in dice_per_label(fixed, warped).items() if k in shared})
        distances = hd95_per_label(fixed, warped, np.array(self._cases.spacing_mm))
        distance = mean_of({k: value for k, value in distances.items() if k in shared})
        values = {"dice": dice, "hd95_mm": distance}
        return {name: value for name, value in values.items() if value is not None}


def carried(labels: NDArray, displacement_vox: Tensor) -> NDArray:
    """A labelmap ``(D, H, W)`` under ``x -> x + displacement(x)``, ``(1, 3, D, H, W)``: the nearest voxel's label."""
    places = voxel_grid(labels.shape) + displacement_vox
    return labels.ravel()[nearest_index(places, labels.shape).numpy()].reshape(labels.shape)
