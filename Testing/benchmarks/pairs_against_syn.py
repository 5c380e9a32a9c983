"""Register pairs of a dataset with this engine and with SyN (antspyx), in turn, and judge both alike.

    python Testing/benchmarks/pairs_against_syn.py DATASET OUT.csv [--pairs 10] [--stride 4] [--without-syn]

DATASET holds a ``dataset.json`` with a list ``validation`` of image and label paths; pair n is (n, n + stride).
Needs ``antspyx`` unless ``--without-syn``. Each pair is one row, written as it ends; rows that exist are kept.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from autofuse_engine.configs import RegistrationConfig
from autofuse_engine.data.files import read_labelmap, read_volume
from autofuse_engine.metrics import dice_per_label, mean_of
from autofuse_engine.registration import register

FULL_ITERATIONS = (100, 70, 50, 20)


def ours(fixed: dict[str, Path], moving: dict[str, Path]) -> dict[str, float]:
    """One registration without a model, with all its outputs; seconds are those of the whole call."""
    volumes = {role: read_volume(case["image"]) for role, case in (("fixed", fixed), ("moving", moving))}
    labels = {f"{role}_labels": read_labelmap(case["label"]) for role, case in (("fixed", fixed), ("moving", moving))}
    started = time.perf_counter()
    result = register(**volumes, **labels, config=RegistrationConfig(model="none"))
    seconds = time.perf_counter() - started
    report = result.report
    metrics = report["metrics"]
    return {
        "before": metrics["before"]["dice_mean"],
        "affine": metrics["initial"]["dice_mean"],
        "ours": metrics["after"]["dice_mean"],
        "ours_folding_percent": report["folding_percent"],
        "ours_inverse_mean_mm": report["inverse_consistency_mm"]["mean"],
        "ours_inverse_p99_mm": report["inverse_consistency_mm"]["p99"],
        "ours_affine_s": report["seconds"]["initial alignment"],
        "ours_s": seconds,
    }


def syn(fixed: dict[str, Path], moving: dict[str, Path]) -> dict[str, float]:
    """Affine, then SyN with cross correlation (radius 4) and full iterations; labels by linear votes."""
    import ants

    images = {"fixed": fixed["image"], "moving": moving["image"], "fl": fixed["label"], "ml": moving["label"]}
    images = {key: ants.image_read(str(path)) for key, path in images.items()}
    started = time.perf_counter()
    found = ants.registration(
        images["fixed"], images["moving"], type_of_transform="SyN", syn_metric="CC", syn_sampling=4,
        reg_iterations=FULL_ITERATIONS,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    warped = ants.apply_transforms(images["fl"], images["ml"], found["fwdtransforms"], interpolator="genericLabel")
    dice = dice_per_label(images["fl"].numpy().astype(np.int64), warped.numpy().astype(np.int64))
    warp = next(path for path in found["fwdtransforms"] if path.endswith(".nii.gz"))
    jacobian = ants.create_jacobian_determinant_image(images["fixed"], warp, do_log=False).numpy()
    return {
        "syn": mean_of(dice) or 0.0,
        "syn_folding_percent": 100 * float((jacobian <= 0).mean()),
        "syn_s": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--without-syn", action="store_true")
    options = parser.parse_args()
    description = json.loads((options.dataset / "dataset.json").read_text(encoding="utf-8"))
    cases = [{kind: options.dataset / case[kind] for kind in ("image", "label")} for case in description["validation"]]
    rows: list[dict[str, Any]] = []
    if options.out.exists():
        with options.out.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    for number in range(len(rows), options.pairs):
        fixed, moving = cases[number % len(cases)], cases[(number + options.stride) % len(cases)]
        row: dict[str, Any] = {"fixed": fixed["image"].name, "moving": moving["image"].name} | ours(fixed, moving)
        if not options.without_syn:
            row |= syn(fixed, moving)
        rows.append(row)
        with options.out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerows(rows)
        print({key: value if isinstance(value, str) else round(value, 4) for key, value in row.items()}, flush=True)
    for key in rows[0]:
        if key not in ("fixed", "moving"):
            print(f"{key:22s} {np.mean([float(row[key]) for row in rows]):.4f}")


if __name__ == "__main__":
    main()
