"""Measure the initial alignment on validation pairs: Dice of the labels, seconds, and recovery from known moves.

Run: python Testing/benchmarks/affine_pairs.py ixi_brain_2mm --pairs 10 [--kind affine] [--move]
The data sets are looked for in $AUTOFUSE_DATA or in ../shared/data beside the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from autofuse_engine.data.affine import align  # noqa: E402
from autofuse_engine.data.files import read_labelmap, read_volume  # noqa: E402
from autofuse_engine.data.resample import resample_labels  # noqa: E402
from autofuse_engine.data.transform import MatrixStep, SpatialTransform  # noqa: E402
from autofuse_engine.data.volume import Volume  # noqa: E402

LARGEST_TURN_DEG, LARGEST_SHIFT_MM = 30.0, 60.0


def cases(name: str) -> list[tuple[Volume, Volume]]:
    """Image and labelmap of every validation case."""
    folder = Path(os.environ.get("AUTOFUSE_DATA", ROOT.parent / "shared" / "data")) / name
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    return [
        (read_volume(folder / case["image"]), read_labelmap(folder / case["label"])) for case in content["validation"]
    ]


def mean_dice(first: np.ndarray, second: np.ndarray) -> float:
    """Mean over the labels above 0 that one of both holds."""
    size = int(max(first.max(), second.max())) + 1
    counts = [np.bincount(array.ravel(), minlength=size) for array in (first, second, first[first == second])]
    present = np.flatnonzero(counts[0] + counts[1])[1:]
    return float((2 * counts[2][present] / (counts[0] + counts[1])[present]).mean())


def random_move(generator: np.random.Generator, center: np.ndarray) -> np.ndarray:
    """A turn of exactly 30 degrees about a random axis through the centre, and a shift of exactly 60 mm."""
    axis, direction = (vector / np.linalg.norm(vector) for vector in generator.normal(size=(2, 3)))
    cross = np.cross(np.eye(3), axis)
    angle = np.deg2rad(LARGEST_TURN_DEG)
    move = np.eye(4)
    move[:3, :3] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    move[:3, 3] = center - move[:3, :3] @ center + LARGEST_SHIFT_MM * direction
    return move


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--kind", default="affine")
    parser.add_argument("--move", action="store_true", help="turn the moving image by 30 degrees, shift it by 60 mm")
    options = parser.parse_args()
    found = cases(options.dataset)
    generator = np.random.default_rng(0)
    dice, seconds = [], []
    for number in range(options.pairs):
        (fixed, fixed_labels), (moving, moving_labels) = (
            found[number % len(found)],
            found[(number + 1 + number // len(found)) % len(found)],
        )
        if options.move:
            matrix = random_move(generator, moving.center_ras) @ moving.ras_from_ijk
            moving, moving_labels = (replace(volume, ras_from_ijk=matrix) for volume in (moving, moving_labels))
        result = align(fixed, moving, options.kind)
        step = MatrixStep(matrix_ras=result.moving_from_fixed_ras)
        warped = resample_labels(moving_labels, SpatialTransform(steps=(step,)), fixed_labels, nearest=True)
        dice.append(mean_dice(warped.array, fixed_labels.array))
        seconds.append(result.seconds)
        print(
            f"{moving.name:>22} to {fixed.name:<22} dice {dice[-1]:.3f}  information {result.information_before:.3f}"
            f" to {result.information_after:.3f}  overlap {result.overlap:.2f}  {seconds[-1]:.2f} s"
        )
    print(f"mean dice {np.mean(dice):.4f}, lowest {min(dice):.3f}")
    print(f"mean {np.mean(seconds):.2f} s, longest {max(seconds):.2f} s")


if __name__ == "__main__":
    main()
