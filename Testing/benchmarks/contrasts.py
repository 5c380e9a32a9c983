"""Pairs of different contrast for ``autofuse evaluate``: T1 with T2-like and FLAIR-like images made from labelmaps.

    python Testing/benchmarks/contrasts.py DATASET OUT --tissues TABLE [--pairs 15] [--stride 4]
    autofuse evaluate OUT/T2-like.csv --method affine --method refinement@similarity=mind ... --out RESULTS

DATASET holds a ``dataset.json`` with a list ``validation`` of T1 image and label paths; pair n is (n, n + stride).
TABLE is a CSV with the columns ``old`` (a label value) and ``name`` (of its structure, from which the tissue follows),
such as docs/models/dlmuse-to-36.csv. The moving image is made anew: each voxel has the intensity of its tissue, mixed
at borders, with the measured image's texture at a fifth of its strength, and noise. No real scan looks like that: edges
lie exactly where the labels say, which flatters every method alike.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from autofuse_engine.data.files import read_labelmap, read_volume, write_volume
from autofuse_engine.data.volume import Volume
from autofuse_engine.spatial.smooth import smooth_image

TISSUES = ("outside", "fluid", "grey", "white")
CONTRASTS: Mapping[str, tuple[float, ...]] = {
    "T2-like": (0.0, 0.95, 0.55, 0.35),
    "FLAIR-like": (0.0, 0.12, 0.65, 0.5),
}
"""Intensity of each tissue: fluid is bright on T2 and dark on FLAIR; on both, not on T1, grey matter is brighter than
white."""
BORDER_VOX, TEXTURE, NOISE = 0.5, 0.2, 0.02
STRIDE = 4


def tissue_numbers(names: Mapping[int, str]) -> dict[int, int]:
    """The tissue, as a place in ``TISSUES``, of each label value, by words in the name of its structure."""
    words = {"ventricle": 1, "white matter": 3, "capsule": 3, "callosum": 3, "fornix": 3}
    return {
        value: next((number for word, number in words.items() if word in name.lower()), 2)
        for value, name in names.items()
    }


def names_of(table: Path) -> dict[int, str]:
    """Names by label value."""
    with table.open(encoding="utf-8", newline="") as stream:
        return {int(row["old"]): row["name"] for row in csv.DictReader(stream)}


def made(image: Volume, labels: Volume, tissues: Mapping[int, int], contrast: str, seed: int) -> Volume:
    """An image of another contrast on the same grid; what no label covers within the foreground is fluid.

    Args:
        image: T1; zero outside of the head.
        labels: on its grid.
        tissues: of each label value.
        contrast: key of ``CONTRASTS``.
        seed: of the noise.
    """
    values = image.array.astype(np.float32)
    number = np.where(values > 0, 1, 0).astype(np.uint8)
    for value, tissue in tissues.items():
        number[labels.array == value] = tissue
    means = np.array(CONTRASTS[contrast], dtype=np.float32)
    result = blurred(means[number])
    scale = float(values.max()) or 1.0
    for tissue in range(1, len(TISSUES)):
        inside = number == tissue
        if inside.any():
            result[inside] += TEXTURE * (values[inside] - float(values[inside].mean())) / scale
    noise = np.random.default_rng(seed).normal(0, NOISE, values.shape).astype(np.float32)
    result = np.where(number > 0, np.clip(result + noise, 0.01, 1), 0) * 1000
    return image.with_array(result.astype(np.float32), f"{image.name} {contrast}")


def blurred(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mixed with its neighbours, as a scanner does at borders of tissues."""
    return smooth_image(torch.from_numpy(array)[None, None], BORDER_VOX)[0, 0].numpy()


def write_pairs(dataset: Path, out: Path, tissues: Mapping[int, int], pairs: int, stride: int = STRIDE) -> list[Path]:
    """Images of each contrast, and a list of pairs for each: T1 fixed, the made image moving.

    Args:
        dataset: folder with ``dataset.json``.
        out: gets ``CONTRAST/NAME.nii.gz`` and ``CONTRAST.csv``; files that exist are kept.
        tissues: of each label value.
        pairs: how many; pair n is (n, n + stride) of the validation cases.
        stride: see there.

    Returns:
        The lists.
    """
    cases = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))["validation"]
    lists = []
    for contrast in CONTRASTS:
        folder = out / contrast
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for pair in range(pairs):
            fixed, number = cases[pair % len(cases)], (pair + stride) % len(cases)
            moving = cases[number]
            path = folder / Path(moving["image"]).name
            if not path.exists():
                image, labels = read_volume(dataset / moving["image"]), read_labelmap(dataset / moving["label"])
                write_volume(path, made(image, labels, tissues, contrast, seed=number))
            files = (dataset / fixed["image"], path, dataset / fixed["label"], dataset / moving["label"])
            rows.append([str(file.resolve()) for file in files])
        lists.append(out / f"{contrast}.csv")
        with lists[-1].open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([["fixed", "moving", "fixed_labels", "moving_labels"], *rows])
    return lists


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tissues", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--stride", type=int, default=STRIDE)
    options = parser.parse_args()
    tissues = tissue_numbers(names_of(options.tissues))
    for path in write_pairs(options.dataset, options.out, tissues, options.pairs, options.stride):
        print(path)


if __name__ == "__main__":
    main()
