"""What a training has come to, as a picture: a validation pair warped by a checkpoint of the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from autofuse_engine.configs import NetworkConfig
from autofuse_engine.data.pairs import PairSampler
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.network_displacement import displacement_of
from autofuse_engine.networks.build import build_network
from autofuse_engine.run_folder import RunFolder
from autofuse_engine.spatial.warp import warp
from autofuse_engine.training_state import read_state, restore


@dataclass(frozen=True, kw_only=True)
class PairPreview:
    """One pair on the common grid of the dataset.

    Attributes:
        fixed, moving, warped: ``(D, H, W)``, float32 in [0, 1].
        ras_from_ijk: 4x4, mm, of all three.
        names: of the fixed and the moving case.
        step: of the checkpoint.
        pairs: how many validation pairs there are to choose from.
    """

    fixed: NDArray[np.float32]
    moving: NDArray[np.float32]
    warped: NDArray[np.float32]
    ras_from_ijk: NDArray[np.float64]
    names: tuple[str, str]
    step: int
    pairs: int


def preview_pair(run_folder: str | Path, number: int = 0, checkpoint: Literal["best", "last"] = "last") -> PairPreview:
    """Warp a validation pair on the CPU, so that a training that runs on a GPU keeps its memory.

    Args:
        run_folder: of the run, which may be going on.
        number: which pair; beyond the last one it begins anew.
        checkpoint: ``best`` by validation, or ``last``.

    Raises:
        FileError: ``run-not-found``, ``run-checkpoint-missing``, ``run-checkpoint-invalid``, or as opening the
            dataset raises it.
        InputError: as ``PairSampler`` raises it.
    """
    run = RunFolder(run_folder)
    config = run.read_config()
    path = run.best if checkpoint == "best" else run.last
    tensors, facts = read_state(path)
    dataset = PreparedDataset.open(config.dataset)
    sampler = PairSampler(dataset, config.stages[-1].pairs, "train", config.seed + len(config.stages) - 1)
    pairs = sampler.validation_pairs(config.validation_pairs)
    fixed_index, moving_index = pairs[number % len(pairs)]
    network = build_network(NetworkConfig.from_dict(facts["config"]["network"]))
    restore(path, tensors, network)
    network.eval()
    fixed, moving = (
        torch.from_numpy(np.ascontiguousarray(dataset.image(index)))[None, None]
        for index in (fixed_index, moving_index)
    )
    with torch.no_grad():
        displacement = displacement_of(network(fixed, moving).velocity_mean, fixed.shape[2:], config.network)
        warped = warp(moving, displacement)
    return PairPreview(
        fixed=fixed[0, 0].numpy(),
        moving=moving[0, 0].numpy(),
        warped=warped[0, 0].float().numpy(),
        ras_from_ijk=np.array(dataset.manifest.grid_ras_from_ijk),
        names=(dataset.cases[fixed_index].name, dataset.cases[moving_index].name),
        step=int(facts["place"]["step"]),
        pairs=len(pairs),
    )
