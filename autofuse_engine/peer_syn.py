"""SyN of ANTs (the package ``antspyx``): four levels, from the shared initial alignment."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from autofuse_engine.data.transform import GridStep, MatrixStep, SpatialTransform
from autofuse_engine.data.transform_files import read_transform, write_transform
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import InputError
from autofuse_engine.evaluation_methods import EvaluationPair, Registered
from autofuse_engine.peer_folder import plain_temporary_folder
from autofuse_engine.peer_geometry import placement_of, values_of
from autofuse_engine.peer_packages import load_peer

ITERATIONS = (100, 70, 50, 20)
"""At the four levels, shrunk by 8, 4, 2, 1 and smoothed by 3, 2, 1, 0 voxels: ANTs' usual full schedule."""
RADIUS = 4
"""Of the windows of the cross correlation, voxels."""
BINS = 32
"""Of the histogram of the mutual information: ANTs' default."""
_METRICS = {"cc": ("CC", RADIUS), "mi": ("mattes", BINS)}


class SynMethod:
    """Symmetric normalization (Avants et al., Medical Image Analysis 2008).

    Each image goes in as it is, in its own geometry. The initial alignment is an ITK affine file that ANTs composes
    with the warp, so nothing is resampled before: ``moving(matrix(warp(x)))``. Masks, where the pair has some,
    restrict the similarity.

    Args:
        name: display name.
        metric: ``cc``, cross correlation, or ``mi``, mutual information (Mattes) for different modalities.
        seed: of ANTs; with these metrics it samples nothing at random, so the seed has no effect on the result.
        threads: of ANTs; None leaves the number to it. ANTs reads it once in a process, from the environment.
    """

    def __init__(self, name: str, *, metric: str = "cc", seed: int = 0, threads: int | None = None) -> None:
        self.name = name
        self._metric, self._sampling = _METRICS[metric]
        self._seed = seed
        if threads is not None:
            os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(threads)
        self._ants = load_peer("syn")

    def register(self, pair: EvaluationPair) -> Registered:
        """Forward and inverse transform of one pair.

        Raises:
            InputError: ``peer-failed``.
            FileError: ``peer-folder``.
        """
        return self.register_and_warp(pair)[0]

    def register_and_warp(self, pair: EvaluationPair) -> tuple[Registered, Volume]:
        """The same, and ANTs' own warped image, float32 on the fixed grid."""
        ants = self._ants
        fixed, moving = (_ants_image(ants, volume) for volume in (pair.fixed, pair.moving))
        masks = {
            role: _ants_image(ants, volume)
            for role, volume in (("mask", pair.fixed_mask), ("moving_mask", pair.moving_mask))
            if volume is not None
        }
        initial = SpatialTransform(steps=(MatrixStep(matrix_ras=pair.initial_ras),))
        seed_before = ants.config._random_seed
        with plain_temporary_folder() as folder:
            write_transform(folder / "initial.tfm", initial)
            started = time.perf_counter()
            try:
                ants.config._random_seed = self._seed + 1  # 0 means the clock
                found = ants.registration(
                    fixed,
                    moving,
                    type_of_transform="SyNOnly",
                    initial_transform=[str(folder / "initial.tfm")],
                    outprefix=str(folder / "found-"),
                    syn_metric=self._metric,
                    syn_sampling=self._sampling,
                    reg_iterations=ITERATIONS,
                    **masks,
                )
            except (RuntimeError, ValueError) as error:
                raise _failed(pair, str(error)) from error
            finally:
                ants.config._random_seed = seed_before
            seconds = time.perf_counter() - started
            warp, inverse_warp = _fields(folder, pair)
        warped = pair.fixed.with_array(np.asarray(found["warpedmovout"].numpy()).T.copy(), pair.moving.name)
        matrix, back = (
            MatrixStep(matrix_ras=one) for one in (pair.initial_ras, np.linalg.inv(pair.initial_ras).astype(np.float64))
        )
        registered = Registered(
            forward=SpatialTransform(steps=(warp, matrix)),
            inverse=SpatialTransform(steps=(back, inverse_warp)),
            seconds=seconds,
        )
        return registered, warped


def _ants_image(ants: Any, volume: Volume) -> Any:
    place = placement_of(volume)
    # from_numpy takes (i, j, k) order, and copies.
    return ants.from_numpy(values_of(volume).T, origin=place.origin, spacing=place.spacing, direction=place.direction)


def _fields(folder: Path, pair: EvaluationPair) -> tuple[GridStep, GridStep]:
    """Warp and inverse warp; the names that ANTs gives hold the number of the stage."""
    grids = []
    for ending in ("Warp.nii.gz", "InverseWarp.nii.gz"):
        inverse = ending.startswith("Inverse")
        paths = [
            path for path in folder.iterdir() if path.name.endswith(ending) and ("InverseWarp" in path.name) == inverse
        ]
        steps = read_transform(paths[0]).steps if len(paths) == 1 else ()
        if len(steps) != 1 or not isinstance(steps[0], GridStep):
            raise _failed(pair, f"{len(paths)} files instead of one are called {ending}")
        grids.append(steps[0])
    return grids[0], grids[1]


def _failed(pair: EvaluationPair, reason: str) -> InputError:
    return InputError(
        "peer-failed",
        f"SyN cannot register {pair.moving.name} to {pair.fixed.name}: {' '.join(reason.split()).rstrip('.')}.",
        "Look at the pair with 'autofuse register', or leave it or the method out.",
    )
