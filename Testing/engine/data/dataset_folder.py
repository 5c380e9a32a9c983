"""Makes small datasets of every layout: an egg with two kernels, in oblique, flipped and anisotropic images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from autofuse_engine.data.files import write_image, write_volume
from autofuse_engine.data.volume import Volume, map_points

SHAPE = (22, 28, 25)
HALF_AXES_MM = np.array([17.0, 24.0, 15.0])
KERNELS = {5: np.array([-6.0, 4.0, 1.0]), 9: np.array([7.0, -5.0, -2.0])}
KERNEL_MM = 5.5


def grid(number: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """RAS from ijk of an image about the origin: another tilt, spacing and storage order for each number."""
    spacing = np.array([1.9, 2.1, 2.4]) * (1 + 0.04 * (number % 3))
    angle = np.deg2rad(4.0 * ((number * 7) % 5 - 2))
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    signs = np.diag([(-1.0, -1.0, 1.0), (1.0, 1.0, 1.0), (1.0, -1.0, 1.0)][number % 3])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ signs @ np.diag(spacing)
    matrix[:3, 3] = np.array([1.5, -2.0, 0.7]) * (number % 4 - 1) - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return matrix


def egg(number: int = 0, *, shape: tuple[int, int, int] = SHAPE, scale: float = 1.0) -> tuple[Volume, Volume]:
    """Image (int16, 0 to about 1000) and labels (uint8: kernels 5 and 9, and 2 for the rest of the egg)."""
    matrix = grid(number, shape)
    k, j, i = np.meshgrid(*(np.arange(side) for side in shape), indexing="ij")
    points = map_points(matrix, np.stack([i, j, k], axis=-1)) / scale
    inside = np.linalg.norm(points / HALF_AXES_MM, axis=-1) < 1
    labels = np.where(inside, 2, 0)
    image = np.where(inside, 400.0 + 60 * np.sin(points[..., 1] / 5 + number), 0.0)
    for value, place in KERNELS.items():
        kernel = np.linalg.norm(points - place, axis=-1) < KERNEL_MM
        labels[kernel] = value
        image[kernel] = 100.0 * value
    noise = np.random.default_rng(number).normal(0, 12, shape) * inside
    values = np.clip(image + noise, 0, None).astype(np.int16)
    return (
        Volume(array=values, ras_from_ijk=matrix, name=f"egg {number}"),
        Volume(array=labels.astype(np.uint8), ras_from_ijk=matrix, name=f"labels {number}"),
    )


def plain_folder(root: Path, count: int = 4, *, labelled: int | None = None) -> Path:
    """``images/egg N.nii.gz`` and ``labels/egg N.nii.gz``."""
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for number in range(count):
        image, labels = egg(number)
        write_volume(root / "images" / f"egg {number}.nii.gz", image)
        if labelled is None or number < labelled:
            write_volume(root / "labels" / f"egg {number}.nii.gz", labels)
    return root


def described_folder(root: Path, train: int = 4, validation: int = 0, **fields: Any) -> Path:
    """``imagesTr``, ``labelsTr`` and a ``dataset.json`` of the Decathlon; ``fields`` are added or replaced."""
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir(parents=True)
    entries = []
    for number in range(train + validation):
        image, labels = egg(number)
        name = f"egg_{number:04d}_0000.nii.gz"
        write_volume(root / "imagesTr" / name, image)
        write_volume(root / "labelsTr" / name, labels)
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    content: dict[str, Any] = {
        "name": "Eggs",
        "tensorImageSize": "3D",
        "modality": {"0": "MR"},
        "labels": {"0": "background", "2": "white", "5": "left kernel", "9": "right kernel"},
        "numTraining": train,
        "training": entries[:train],
    }
    if validation:
        content["validation"] = entries[train:]
    content.update(fields)
    write_json(root / "dataset.json", content)
    return root


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def write_series(path: Path, volumes: list[Volume]) -> None:
    """A 4D image with one frame for each volume; the geometry is that of the first."""
    import SimpleITK as sitk

    from autofuse_engine.data.files import to_sitk

    write_image(path, sitk.JoinSeries([to_sitk(volumes[0].with_array(volume.array)) for volume in volumes]))
