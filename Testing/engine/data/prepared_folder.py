"""Makes small prepared datasets out of nothing, for tests of what reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autofuse_engine.data.manifest import LabelName, Manifest, PreparedCase, StoredArray, write_manifest
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.dataset_configs import PreparationConfig
from autofuse_engine.model_card import Preprocessing

SHAPE = (16, 48, 32)


def store(folder: Path, file: str, array: np.ndarray) -> StoredArray:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=False)
    content = path.read_bytes()
    return StoredArray(file=file, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def blob_case(rng: np.random.Generator, shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """A bright ellipsoid with a darker core at a random place: image and labels, uint8."""
    center = np.array(shape) / 2 + rng.uniform(-0.08, 0.08, 3) * shape
    axes = np.stack(np.indices(shape), axis=-1) - center
    radius = np.linalg.norm(axes / (np.array(shape) * rng.uniform(0.26, 0.36, 3)), axis=-1)
    image = np.where(radius < 0.5, 120, np.where(radius < 1, 220, 10)) + rng.integers(0, 8, shape)
    return image.astype(np.uint8), np.where(radius < 0.5, 2, radius < 1).astype(np.uint8)


def make_prepared(
    folder: Path,
    *,
    train: int = 6,
    validation: int = 3,
    labelled: int | None = None,
    groups: Sequence[str] = (),
    frames: Sequence[str | None] = (),
    pairs: dict[str, tuple[tuple[str, str], ...]] | None = None,
    shape: tuple[int, int, int] = SHAPE,
    seed: int = 0,
) -> PreparedDataset:
    """Cases ``case-0`` ... in ``folder``; the first ``labelled`` ones (default: all) have the labels 1 and 2."""
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(train + validation):
        image, labels = blob_case(rng, shape)
        with_labels = labelled is None or number < labelled
        cases.append(
            PreparedCase(
                name=f"case-{number}",
                split="train" if number < train else "validation",
                image=store(folder, f"images/case-{number}.npy", image),
                labelmap=store(folder, f"labels/case-{number}.npy", labels) if with_labels else None,
                group=groups[number] if groups else f"case-{number}",
                frame=frames[number] if frames else None,
            )
        )
    manifest = Manifest(
        shape=shape,
        grid_ras_from_ijk=((1.5, 0, 0, -20.0), (0, 1.25, 0, 7.0), (0, 0, 2.0, 3.0), (0, 0, 0, 1)),
        preprocessing=Preprocessing(spacing_mm=(1.5, 1.25, 2.0)),
        config=PreparationConfig(seed=seed),
        cases=tuple(cases),
        labels=(LabelName(value=1, name="shell", sources=(4,)), LabelName(value=2, name="core", sources=(7, 9))),
        pairs=pairs or {},
        reference="case-0",
        dataset={"name": "Blobs"},
    )
    write_manifest(folder, manifest)
    return PreparedDataset.open(folder)
