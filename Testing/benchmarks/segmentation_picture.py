"""What models see in images: one row an image, one column a model, labels in colour over a slice, as a PNG.

    python Testing/benchmarks/segmentation_picture.py OUT.png --model brain-t1 --model brain-any IMAGE [IMAGE ...]
        [--labels FILE ...] [--title TEXT ...]

With ``--labels``, one for each image and in the same order, the first column shows them, merged as ``--merge TABLE``
says (columns ``old`` and ``new``, such as docs/models/dlmuse-to-36.csv), and Dice against them stands under each model.
The slice is the axial one through the middle of the foreground.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
matplotlib.use("Agg")
from matplotlib import pyplot

from autofuse_engine.configs import RegistrationConfig
from autofuse_engine.data.files import read_labelmap, read_volume
from autofuse_engine.data.preprocessing import axes_towards
from autofuse_engine.data.volume import Volume
from autofuse_engine.metrics import dice_per_label, mean_of
from autofuse_engine.registration import ModelCache, register

_SIDE_INCHES = 2.6


def seen_by(model: str, image: Volume, models: ModelCache) -> Volume:
    """The labels that a model sees in an image, on its grid. A registration wants two: here also the mirrored."""
    other = image.with_array(np.ascontiguousarray(image.array[:, :, ::-1]))
    config = RegistrationConfig(model=model, initial="none", refinement_steps=0, device="cpu")
    found = register(image, other, config, models=models).fixed_segmentation
    if found is None:
        raise SystemExit(f"The model {model} does not segment.")
    return found


def merged(labels: Volume, table: Path | None) -> Volume:
    """Labels with the values that a table gives them; those that it does not name are background."""
    if table is None:
        return labels
    with table.open(encoding="utf-8", newline="") as stream:
        new = {int(row["old"]): int(row["new"]) for row in csv.DictReader(stream)}
    lookup = np.zeros(int(labels.array.max()) + 1, np.uint8)
    for old, value in new.items():
        if old < len(lookup):
            lookup[old] = value
    return labels.with_array(lookup[labels.array])


def slice_of(volume: Volume, place: int | None = None) -> tuple[NDArray, int]:
    """An axial slice with the front of the head on top, and its number."""
    volume = volume.reordered(axes_towards(volume.ras_from_ijk))
    if place is None:
        places = np.flatnonzero((volume.array > 0).any(axis=(1, 2)))
        place = int(places[len(places) // 2])
    return volume.array[place, ::-1, ::-1], place


def colours(labels: NDArray) -> NDArray:
    """``(H, W, 4)``: a colour of its own for each label, clear where none is."""
    table = matplotlib.colormaps["turbo"](np.random.default_rng(1).permutation(256))
    shown = table[labels.astype(int) % 256]
    shown[..., 3] = np.where(labels > 0, 0.55, 0)
    return shown


def draw(out: Path, images: list[Volume], truths: list[Volume] | None, models: list[str], titles: list[str]) -> None:
    """Write the picture."""
    cache = ModelCache()
    columns = ["labels", *models] if truths is not None else ["image", *models]
    figure, axes = pyplot.subplots(
        len(images), len(columns), squeeze=False, layout="constrained",
        figsize=(_SIDE_INCHES * len(columns), _SIDE_INCHES * 1.2 * len(images)),
    )  # fmt: skip
    for row, image in enumerate(images):
        grey, place = slice_of(image)
        for column, name in enumerate(columns):
            panel = axes[row][column]
            panel.imshow(grey, cmap="gray", interpolation="nearest")
            panel.set_xticks([])
            panel.set_yticks([])
            labels = None if column == 0 else seen_by(name, image, cache)
            if column == 0 and truths is not None:
                labels = truths[row]
            if labels is not None:
                panel.imshow(colours(slice_of(labels, place)[0]), interpolation="nearest")
            if column and labels is not None and truths is not None:
                dice = mean_of(dice_per_label(truths[row].array, labels.array))
                panel.set_xlabel(f"Dice {dice:.2f}" if dice is not None else "")
            if row == 0:
                panel.set_title(Path(name).stem)
            if column == 0:
                panel.set_ylabel(titles[row] if titles else image.name)
    figure.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--labels", type=Path, action="append")
    parser.add_argument("--merge", type=Path)
    parser.add_argument("--title", action="append", default=[])
    options = parser.parse_args()
    if options.labels and len(options.labels) != len(options.images):
        parser.error("give labels for each image, or for none")
    truths = [merged(read_labelmap(path), options.merge) for path in options.labels] if options.labels else None
    draw(options.out, [read_volume(path) for path in options.images], truths, options.model, options.title)


if __name__ == "__main__":
    main()
