"""How good the network is on pairs that it does not learn from: overlap, surface distance, folding, similarity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.data.synthesis import draw_contrast, in_contrast
from autofuse_engine.distributed import Processes
from autofuse_engine.losses.similarity import local_ncc
from autofuse_engine.metrics import dice_per_label, mean_of
from autofuse_engine.network_displacement import displacement_of
from autofuse_engine.networks.network import NetworkOutput, RegistrationNetwork
from autofuse_engine.spatial.grid import nearest_index, voxel_grid
from autofuse_engine.spatial.jacobian import folding, jacobian_determinant
from autofuse_engine.spatial.warp import warp
from autofuse_engine.training_configs import SynthesisConfig, TrainingConfig
from autofuse_engine.training_pair_images import seed_of
from autofuse_engine.training_pairs import Cases, ClassTable

FIGURES = ("dice", "hd95_mm", "folding_percent", "folding_count", "similarity", "segmentation_dice")
SYNTHESISED, SEGMENTED_SYNTHESISED = "dice_synthesised", "segmentation_dice_synthesised"


def figure_names(config: TrainingConfig) -> tuple[str, ...]:
    """The figures of a run: :data:`FIGURES`, and Dice on synthesised contrasts where it learns from such."""
    if config.synthesis is None:
        return FIGURES
    return (*FIGURES, SYNTHESISED, SEGMENTED_SYNTHESISED) if config.network.classes else (*FIGURES, SYNTHESISED)


@dataclass(frozen=True, kw_only=True)
class ValidationFigures:
    """Means over the pairs.

    Attributes:
        score: what the best checkpoint has most of: Dice where there are labels, else the similarity. Of a run that
            learns from synthesised images, or has a stage for the segmentation alone, it is the mean with that Dice.
        figures: those of :data:`FIGURES`; None where nothing could be judged. ``dice`` and ``hd95_mm`` are means over
            the labels that both images have; ``folding_count`` is a mean too; ``similarity`` is the mean squared local
            correlation, 1 is best; ``segmentation_dice`` judges what a semi-supervised network makes of both images;
            ``dice_synthesised`` is the Dice of the same pairs with the moving image in a random contrast, always the
            same one for a pair, and ``segmentation_dice_synthesised`` what the network makes of that image.
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
        names = figure_names(self._config)
        rows = torch.zeros(len(self._pairs), len(names), dtype=torch.float64)
        network.eval()
        for number in range(self._processes.rank, len(self._pairs), self._processes.count):
            values = self._judge_pair(network, *self._pairs[number])
            if self._config.synthesis is not None:
                values |= self._judge_synthesised(network, number, self._config.synthesis)
            rows[number] = torch.tensor([values.get(name, float("nan")) for name in names], dtype=torch.float64)
        network.train()
        table = self._processes.summed(rows).numpy()
        means = [mean_of(dict(enumerate(column))) for column in table.T]
        figures: dict[str, float | None] = dict(zip(names, means, strict=True))
        return ValidationFigures(score=self._score(figures), figures=figures)

    def _score(self, figures: dict[str, float | None]) -> float:
        dice, similarity = figures["dice"], figures["similarity"]
        if dice is None:
            return float("-inf") if similarity is None else similarity
        in_turn = any(stage.learns == "segmentation" for stage in self._config.stages)
        names = (SYNTHESISED, "segmentation_dice", SEGMENTED_SYNTHESISED) if in_turn else (SYNTHESISED,)
        others = [value for name in names if (value := figures.get(name)) is not None]
        return float(np.mean([dice, *others]))

    def _judge_pair(self, network: RegistrationNetwork, fixed_index: int, moving_index: int) -> dict[str, float]:
        config = self._config
        fixed, moving = (self._image(index) for index in (fixed_index, moving_index))
        with torch.no_grad():
            output, displacement = self._predicted(network, fixed, moving)
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
            if (mean := _segmented(one, logits)) is not None
        ]
        return values | ({"segmentation_dice": float(np.mean(segmented))} if segmented else {})

    def _judge_synthesised(
        self, network: RegistrationNetwork, number: int, config: SynthesisConfig
    ) -> dict[str, float]:
        """Dice with the moving image in the contrast that belongs to the pair, drawn as those of the training are."""
        fixed_index, moving_index = self._pairs[number]
        fixed_labels, moving_labels = (self._labels(index) for index in (fixed_index, moving_index))
        if fixed_labels is None or moving_labels is None:
            return {}
        count = len(self._table.label_values)
        rng = np.random.default_rng(seed_of("validation", number))
        contrast = draw_contrast(config, count + 2, rng)
        labels = torch.from_numpy(moving_labels)[None, None].to(self._processes.device)
        with torch.no_grad():
            moving = in_contrast(self._image(moving_index), labels, contrast, count)
            output, displacement = self._predicted(network, self._image(fixed_index), moving)
        dice = dice_per_label(fixed_labels, carried(moving_labels, displacement.cpu()))
        shared = set(np.unique(fixed_labels).tolist()) & set(np.unique(moving_labels).tolist()) - {0}
        values = {SYNTHESISED: mean_of({label: value for label, value in dice.items() if label in shared})}
        if output.moving_logits is not None:
            values[SEGMENTED_SYNTHESISED] = _segmented(moving_labels, output.moving_logits)
        return {name: value for name, value in values.items() if value is not None}

    def _predicted(self, network: RegistrationNetwork, fixed: Tensor, moving: Tensor) -> tuple[NetworkOutput, Tensor]:
        """What the network says, and the displacement ``(1, 3, D, H, W)``, voxels."""
        half = self._config.precision == "bfloat16" and fixed.device.type == "cuda"
        with torch.autocast(fixed.device.type, torch.bfloat16, enabled=half):
            output = network(fixed, moving)
        return output, displacement_of(output.velocity_mean, fixed.shape[2:], self._config.network)

    def _image(self, index: int) -> Tensor:
        array = np.ascontiguousarray(self._cases.image(index))
        return torch.from_numpy(array)[None, None].to(self._processes.device)

    def _labels(self, index: int) -> NDArray[np.int64] | None:
        labels = self._cases.labelmap(index)
        return None if labels is None else self._table.classes(labels)

    def _overlap(self, fixed: NDArray[np.int64], moving: NDArray[np.int64], displacement: Tensor) -> dict[str, float]:
        warped = carried(moving, displacement.cpu())
        shared = set(np.unique(fixed).tolist()) & set(np.unique(moving).tolist()) - {0}
        dice = mean_of({k: value for k, value in dice_per_label(fixed, warped).items() if k in shared})
        values = {"dice": dice}
        if self._config.validation_distances:
            from autofuse_engine.data.surface_distance import hd95_per_label  # needs SimpleITK, which GPU servers lack

            distances = hd95_per_label(fixed, warped, np.array(self._cases.spacing_mm))
            values["hd95_mm"] = mean_of({k: value for k, value in distances.items() if k in shared})
        return {name: value for name, value in values.items() if value is not None}


def _segmented(labels: NDArray[np.int64], logits: Tensor) -> float | None:
    """Mean Dice of the most probable classes; None without labels."""
    return mean_of(dice_per_label(labels, logits[0].argmax(dim=0).cpu().numpy()))


def carried(labels: NDArray, displacement_vox: Tensor) -> NDArray:
    """A labelmap ``(D, H, W)`` under ``x -> x + displacement(x)``, ``(1, 3, D, H, W)``: the nearest voxel's label."""
    places = voxel_grid(labels.shape) + displacement_vox
    return labels.ravel()[nearest_index(places, labels.shape).numpy()].reshape(labels.shape)
