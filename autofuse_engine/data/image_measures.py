"""Measures the facts of an image by which a model is chosen and judged; see ``image_facts.py`` for their meaning."""

from __future__ import annotations

import numpy as np

from autofuse_engine.data.preprocessing import axes_towards, foreground, normalised
from autofuse_engine.data.volume import Volume
from autofuse_engine.image_facts import INTENSITY_PERCENTILES, ImageFacts
from autofuse_engine.model_card import Preprocessing

_MOST_VOXELS = 1_000_000


def measure_image(image: Volume, preprocessing: Preprocessing) -> ImageFacts:
    """Facts of an image, the same for every order in which its voxels may be stored.

    Large images are measured on every second, third ... voxel of each axis, so that this takes a fraction of a second.

    Args:
        image: finite and not constant.
        preprocessing: of the model: how intensities become [0, 1].
    """
    image = image.reordered(axes_towards(image.ras_from_ijk))
    stride = max(1, int(np.ceil((image.array.size / _MOST_VOXELS) ** (1 / 3))))
    array = np.ascontiguousarray(image.array[::stride, ::stride, ::stride])
    mask = foreground(array)
    values = normalised(array, preprocessing.intensity_percentiles, preprocessing.intensity_window)[mask]
    share = float(mask.mean())
    x, y, z = (float(side) for side in image.spacing_mm)
    width, height, depth = (float(side) for side in image.spacing_mm * image.shape[::-1])
    percentiles = np.percentile(values, INTENSITY_PERCENTILES)
    intensities = {"mean": float(values.mean(dtype=np.float64)), "sd": float(values.std(dtype=np.float64))}
    intensities |= {f"p{p}": float(value) for p, value in zip(INTENSITY_PERCENTILES, percentiles, strict=True)}
    return ImageFacts(
        name=image.name,
        spacing_mm=(x, y, z),
        field_of_view_mm=(width, height, depth),
        foreground_ml=share * width * height * depth / 1000,
        foreground_share=share,
        intensities={name: round(value, 5) for name, value in intensities.items()},
    )
