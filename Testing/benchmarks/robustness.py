"""How much Dice a model loses when the moving image is disturbed, beside the affine and the refinement alone.

    python Testing/benchmarks/robustness.py MODEL DATASET OUT [--pairs 3] [--only NAME ...] [--device auto]

MODEL is a name of the catalog, a path, or ``none``. DATASET holds a ``dataset.json`` with a list ``validation`` of
image and label paths; pair n is (n, n + 4). Labels are never disturbed: they follow the patient by the header and are
carried by the transform found. Where the field of view is cropped, the labels that lie wholly in the rest are judged,
in both columns. Results go to OUT/robustness.jsonl as they come (rows that exist are kept) and to OUT/robustness.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from autofuse_engine.catalog import find
from autofuse_engine.configs import RegistrationConfig
from autofuse_engine.data.files import read_labelmap, read_volume
from autofuse_engine.data.resample import resample_labels
from autofuse_engine.data.transform import MatrixStep, SpatialTransform
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.errors import AutoFuseError
from autofuse_engine.metrics import dice_per_label, mean_of
from autofuse_engine.registration import ModelCache, register
from Testing.benchmarks.disturbances import DISTURBANCES

STRIDE = 4
AFFINE, REFINEMENT = "affine", "refinement"
LOSS_ALLOWED = 0.01
AFFINE_LOSS_ALLOWED = 0.02
"""The affine counts as successful where it loses no more than this."""
WHOLLY = 0.999


def configurations(model: str, device: str) -> dict[str, RegistrationConfig]:
    """The registrations to compare; the affine is the initial alignment of the first."""
    found = {REFINEMENT: RegistrationConfig(model="none", device=device)}
    if model != "none":
        name = Path(model).stem
        card = find(model).card
        if card is not None and card.predicts_field:
            found[name] = RegistrationConfig(model=model, refinement_steps=0, device=device)
        found[f"{name} + refinement"] = RegistrationConfig(model=model, device=device)
    return found


def judge_pair(
    case: Mapping[str, Mapping[str, Path]], name: str, config: RegistrationConfig, models: ModelCache
) -> dict[str, Any]:
    """One registration with the moving image disturbed; Dice by label of the affine and of the whole transform."""
    fixed, moving = (read_volume(case[role]["image"]) for role in ("fixed", "moving"))
    fixed_labels, moving_labels = (read_labelmap(case[role]["label"]) for role in ("fixed", "moving"))
    disturbed, matrix_ras = DISTURBANCES[name](moving)
    placed_labels = replace(moving_labels, ras_from_ijk=matrix_ras @ moving_labels.ras_from_ijk)
    started = time.perf_counter()
    try:
        result = register(fixed, disturbed, config, models=models)
    except AutoFuseError as error:
        return {"error": f"{error.code}: {error.text}"}
    seconds = time.perf_counter() - started
    affine = SpatialTransform(steps=(MatrixStep(matrix_ras=np.array(result.report["initial_matrix_ras"])),))
    shared = set(np.unique(fixed_labels.array).tolist()) & labels_inside(placed_labels, disturbed)
    found = {}
    for method, transform in ((AFFINE, affine), ("whole", result.transform)):
        dice = dice_per_label(fixed_labels.array, resample_labels(placed_labels, transform, fixed).array)
        found[method] = {str(label): value for label, value in dice.items() if label in shared}
    return {
        "error": None,
        "seconds": round(seconds, 2),
        "folding_percent": result.report["folding_percent"],
        "warnings": [warning["code"] for warning in result.report["warnings"]],
        **found,
    }


def labels_inside(labels: Volume, image: Volume) -> set[int]:
    """Label values, background left out, of which all voxels lie in the field of view of an image."""
    k, j, i = np.nonzero(labels.array)
    points = map_points(labels.ras_from_ijk, np.stack([i, j, k], axis=1))
    ijk = map_points(np.linalg.inv(image.ras_from_ijk), points)
    within = ((ijk >= -0.5) & (ijk <= np.array(image.shape[::-1]) - 0.5)).all(axis=1)
    values = labels.array[k, j, i]
    return {int(value) for value in np.unique(values) if within[values == value].mean() >= WHOLLY}


def summarise(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each method and disturbance: mean Dice, the change against the undisturbed pairs, failures.

    The change is taken over the labels that the disturbed pair was judged on. A pair fails where its Dice falls by more
    than :data:`LOSS_ALLOWED` although the affine lost no more than :data:`AFFINE_LOSS_ALLOWED`, or with an error.
    """
    table = {(row["pair"], row["method"], row["disturbance"]): row for row in rows}
    methods = list(dict.fromkeys(method for _, method, _ in table))
    entries = []
    for disturbance in [name for name in DISTURBANCES if any(key[2] == name for key in table)]:
        for method in (AFFINE, *methods):
            column = AFFINE if method == AFFINE else "whole"
            dice, changes, failed, errors = [], [], [], []
            for (pair, of, name), row in table.items():
                plain = table.get((pair, of, "none"))
                if (
                    name != disturbance
                    or plain is None
                    or plain["error"]
                    or of != (methods[0] if method == AFFINE else method)
                ):
                    continue
                if row["error"]:
                    errors.append(pair)
                    continue
                dice.append(_mean(row[column], row[column]))
                changes.append(dice[-1] - _mean(plain[column], row[column]))
                affine_change = _mean(row[AFFINE], row[AFFINE]) - _mean(plain[AFFINE], row[AFFINE])
                if method != AFFINE and changes[-1] < -LOSS_ALLOWED and affine_change >= -AFFINE_LOSS_ALLOWED:
                    failed.append(pair)
            if dice or errors:
                entries.append({
                    "disturbance": disturbance, "method": method, "pairs": len(dice) + len(errors),
                    "dice": float(np.mean(dice)) if dice else None,
                    "change": float(np.mean(changes)) if changes else None,
                    "worst": float(np.min(changes)) if changes else None,
                    "failed": failed, "errors": errors,
                })  # fmt: skip
    return entries


def _mean(dice: Mapping[str, float], labels: Iterable[str]) -> float:
    return mean_of({number: dice.get(label, 0.0) for number, label in enumerate(labels)}) or 0.0


def markdown(entries: list[dict[str, Any]]) -> str:
    """The table: a row for each disturbance, a column for each method."""
    methods = list(dict.fromkeys(entry["method"] for entry in entries))
    lines = ["| disturbance | " + " | ".join(methods) + " | failures |", "|---" * (len(methods) + 2) + "|"]
    for name in dict.fromkeys(entry["disturbance"] for entry in entries):
        row = {entry["method"]: entry for entry in entries if entry["disturbance"] == name}
        cells = [_cell(row.get(method), name) for method in methods]
        failures = [
            f"{method}: {len(entry['failed']) + len(entry['errors'])} of {entry['pairs']}"
            for method, entry in row.items()
            if entry["failed"] or entry["errors"]
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {', '.join(failures) or '-'} |")
    lines += [
        "",
        "Dice in percent, mean over pairs; in brackets the change against the undisturbed pairs, mean and worst.",
    ]
    return "\n".join(lines) + "\n"


def _cell(entry: dict[str, Any] | None, name: str) -> str:
    if entry is None or entry["dice"] is None:
        return "-"
    if name == "none":
        return f"{100 * entry['dice']:.1f}"
    return f"{100 * entry['dice']:.1f} ({100 * entry['change']:+.1f}, {100 * entry['worst']:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(DISTURBANCES), default=list(DISTURBANCES))
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    description = json.loads((options.dataset / "dataset.json").read_text(encoding="utf-8"))
    cases = [{kind: options.dataset / case[kind] for kind in ("image", "label")} for case in description["validation"]]
    options.out.mkdir(parents=True, exist_ok=True)
    path, models = options.out / "robustness.jsonl", ModelCache()
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    done = {(row["pair"], row["method"], row["disturbance"]) for row in rows}
    names = ["none", *(name for name in options.only if name != "none")]
    for number in range(options.pairs):
        case = {"fixed": cases[number % len(cases)], "moving": cases[(number + STRIDE) % len(cases)]}
        for name in names:
            for method, config in configurations(options.model, options.device).items():
                if (number, method, name) in done:
                    continue
                row = {"pair": number, "method": method, "disturbance": name}
                row |= judge_pair(case, name, config, models)
                rows.append(row)
                with path.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")
                print(
                    number,
                    name,
                    method,
                    row["error"] or f"{mean_of(dict(enumerate(row['whole'].values()))):.4f}",
                    flush=True,
                )
    text = markdown(summarise(rows))
    (options.out / "robustness.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
