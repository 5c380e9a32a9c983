"""How well images of different contrast are registered: T1 with T2-like and FLAIR-like images made from labelmaps.

    python Testing/benchmarks/contrasts.py DATASET OUT --tissues TABLE [--model NAME ...] [--pairs 3] [--stride 4]

DATASET holds a ``dataset.json`` with a list ``validation`` of T1 image and label paths; pair n is (n, n + stride).
TABLE is a CSV with the columns ``old`` (a label value) and ``name`` (of its structure, from which the tissue follows),
such as docs/models/dlmuse-to-36.csv. The moving image is made anew: each voxel has the intensity of its tissue, mixed
at borders, with the measured image's texture at a fifth of its strength, and noise. No real scan looks like that: edges
lie exactly where the labels say, which flatters every method alike. Methods: the initial alignment, the refinement with
``mind`` and with ``lncc``, and models alone and with ``mind`` after them. Rows go to OUT/contrasts.jsonl as they come
(rows that exist are kept), the table to OUT/contrasts.md. Seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from autofuse_engine.configs import RegistrationConfig
from autofuse_engine.data.files import read_labelmap, read_volume
from autofuse_engine.data.volume import Volume
from autofuse_engine.registration import ModelCache, register
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


def configurations(models: Iterable[str]) -> dict[str, RegistrationConfig]:
    """Methods by name."""
    methods = {
        f"refinement, {similarity}": RegistrationConfig(model="none", similarity=similarity)
        for similarity in ("mind", "lncc")
    }
    for model in models:
        methods[f"{Path(model).stem}, alone"] = RegistrationConfig(model=model, similarity="mind", refinement_steps=0)
        methods[f"{Path(model).stem}, mind"] = RegistrationConfig(model=model, similarity="mind")
    return methods


def table(rows: list[dict[str, Any]]) -> str:
    """Means and standard deviations over the pairs, as Markdown."""
    lines = ["| contrast | method | pairs | Dice | folding, % | seconds |", "|---|---|---|---|---|---|"]
    for contrast in CONTRASTS:
        for method in dict.fromkeys(row["method"] for row in rows):
            found = [row for row in rows if (row["contrast"], row["method"]) == (contrast, method)]
            if found:
                dice = np.array([row["dice"] for row in found])
                spread = f" +- {dice.std(ddof=1):.3f}" if len(dice) > 1 else ""
                folding = np.mean([row["folding_percent"] for row in found])
                seconds = np.median([row["seconds"] for row in found])
                cells = (contrast, method, len(found), f"{dice.mean():.3f}{spread}", f"{folding:.4f}", f"{seconds:.1f}")
                lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tissues", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--stride", type=int, default=STRIDE)
    options = parser.parse_args()
    cases = json.loads((options.dataset / "dataset.json").read_text(encoding="utf-8"))["validation"]
    tissues, models = tissue_numbers(names_of(options.tissues)), ModelCache()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "contrasts.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    for pair in range(options.pairs):
        fixed_case, moving_case = cases[pair % len(cases)], cases[(pair + options.stride) % len(cases)]
        fixed, moving = (read_volume(options.dataset / case["image"]) for case in (fixed_case, moving_case))
        fixed_labels, moving_labels = (
            read_labelmap(options.dataset / case["label"]) for case in (fixed_case, moving_case)
        )
        for contrast in CONTRASTS:
            other = made(moving, moving_labels, tissues, contrast, seed=pair)
            for method, config in configurations(options.model).items():
                if any((row["pair"], row["contrast"], row["method"]) == (pair, contrast, method) for row in rows):
                    continue
                started = time.process_time()
                result = register(
                    fixed, other, config, fixed_labels=fixed_labels, moving_labels=moving_labels, models=models
                )
                seconds, report = time.process_time() - started, result.report
                facts = {"pair": pair, "contrast": contrast, "fixed": fixed.name, "moving": moving.name}
                for name, stage in (("affine", "initial"), (method, "after")):
                    if name == "affine" and any(
                        (row["pair"], row["contrast"], row["method"]) == (pair, contrast, name) for row in rows
                    ):
                        continue
                    rows.append({
                        **facts, "method": name, "dice": report["metrics"][stage]["dice_mean"],
                        "folding_percent": 0.0 if name == "affine" else report["folding_percent"],
                        "seconds": report["seconds"]["initial alignment"] if name == "affine" else round(seconds, 1),
                    })  # fmt: skip
                path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
                (options.out / "contrasts.md").write_text(table(rows), encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
