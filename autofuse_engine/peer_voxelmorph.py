"""VoxelMorph as a method: weights of its own network, the images as our networks see them, its own inverse."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autofuse_engine.data.preprocessing import Grid, anti_aliasing_sigmas_vox, axes_towards, normalised, working_grid
from autofuse_engine.data.transform import GridStep, MatrixStep, SpatialTransform
from autofuse_engine.data.volume import Volume
from autofuse_engine.deformation import taper
from autofuse_engine.devices import resolve_device
from autofuse_engine.evaluation_methods import EvaluationPair, Registered
from autofuse_engine.memory import peak_memory_bytes, reset_peak
from autofuse_engine.model_card import Preprocessing
from autofuse_engine.peer_voxelmorph_network import integrated, predicted_velocity, read_voxelmorph
from autofuse_engine.spatial.grid import voxel_map
from autofuse_engine.spatial.resample import resample
from autofuse_engine.spatial.smooth import smooth_image

_LEAST_MARGIN_VOX = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkImages:
    """A pair as the network sees it: ``(1, 1, D, H, W)`` in [0, 1] on one grid, the moving image initially aligned."""

    grid: Grid
    fixed: Tensor
    aligned: Tensor


class VoxelMorphMethod:
    """One forward pass of a trained VoxelMorph network (Balakrishnan et al., IEEE TMI 2019).

    The working grid, intensities and smoothing are those that ``register`` makes for our networks, with the spacing of
    the training. The inverse is the network's own: minus the velocity, integrated.

    Args:
        name: display name.
        weights: what ``train_voxelmorph`` wrote.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    def __init__(self, name: str, weights: str | Path, *, device: str = "auto") -> None:
        self.name = name
        self._device = resolve_device(device)
        self._weights = read_voxelmorph(Path(weights), self._device)

    def register(self, pair: EvaluationPair) -> Registered:
        """Forward and inverse transform of one pair."""
        reset_peak(self._device)
        started = time.perf_counter()
        images = self.images(pair)
        displacement, inverse = self.fields(images)
        forward = _continued(displacement, images.grid)
        backward = _continued(inverse, images.grid)
        seconds = time.perf_counter() - started
        peak = peak_memory_bytes(self._device) if self._device.type == "cuda" else None
        back = np.linalg.inv(pair.initial_ras).astype(np.float64)
        return Registered(
            forward=SpatialTransform(steps=(forward, MatrixStep(matrix_ras=pair.initial_ras))),
            inverse=SpatialTransform(steps=(MatrixStep(matrix_ras=back), backward)),
            seconds=seconds,
            peak_memory_gib=None if peak is None else peak / 2**30,
        )

    def images(self, pair: EvaluationPair) -> NetworkImages:
        """The pair on the working grid."""
        prepared = self._weights.preprocessing
        multiple = self._weights.config.size_multiple
        grid = working_grid(pair.fixed, prepared.spacing_mm, multiple, prepared.orientation)
        return NetworkImages(
            grid=grid,
            fixed=self._on_grid(pair.fixed, grid, np.eye(4), prepared),
            aligned=self._on_grid(pair.moving, grid, pair.initial_ras, prepared),
        )

    def fields(self, images: NetworkImages) -> tuple[Tensor, Tensor]:
        """Displacement and inverse displacement, ``(1, 3, D, H, W)``, voxels of the grid, on the CPU."""
        network = self._weights.network
        with torch.inference_mode():
            velocity = predicted_velocity(network, images.fixed, images.aligned)
            displacement, inverse = integrated(network, velocity), integrated(network, -velocity)
        return displacement.float().cpu().clone(), inverse.float().cpu().clone()

    def _on_grid(self, image: Volume, grid: Grid, image_from_grid_ras: np.ndarray, prepared: Preprocessing) -> Tensor:
        image = image.reordered(axes_towards(image.ras_from_ijk))
        values = normalised(image.array, prepared.intensity_percentiles, prepared.intensity_window)
        tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None, None].to(self._device)
        smoothed = smooth_image(tensor, anti_aliasing_sigmas_vox(grid.spacing_mm, image.spacing_mm))
        return resample(smoothed, voxel_map(grid.ras_from_ijk, image.ras_from_ijk, image_from_grid_ras), grid.shape)


def _continued(displacement_vox: Tensor, grid: Grid) -> GridStep:
    """The field as a step, falling to zero beyond the grid so slowly that no fold comes from it, as ours do."""
    faces = [displacement_vox.select(axis, index) for axis in (2, 3, 4) for index in (0, -1)]
    longest = max(float(face.abs().amax()) for face in faces)
    margin = max(_LEAST_MARGIN_VOX, math.ceil(math.pi * longest) + 1)
    vectors_ijk = taper(displacement_vox, margin)[0].flip(0).permute(1, 2, 3, 0).double().numpy()
    displacement_ras = np.ascontiguousarray((vectors_ijk @ grid.ras_from_ijk[:3, :3].T).astype(np.float32))
    return GridStep(displacement_ras=displacement_ras, ras_from_ijk=grid.padded(margin).ras_from_ijk)
