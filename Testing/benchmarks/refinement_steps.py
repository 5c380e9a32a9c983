"""What each further step of the refinement brings, with and without a model: Dice and seconds over steps per level.

    python Testing/benchmarks/refinement_steps.py DATASET OUT [--model NAME ...] [--steps 0 5 10 20 40] [--pairs 5]
        [--stride 4] [--device cpu]

DATASET holds a ``dataset.json`` with a list ``validation`` of image and label paths; pair n is (n, n + stride). Each
pair is aligned once, and every method starts from there. ``none`` (no model) always runs; several models can be
compared, for instance one stored as float16 and as float32 with ``--steps 0``. Rows go to OUT/refinement.jsonl as they
come (rows that exist are kept), the table to OUT/refinement.md. Seconds are those of the processor on ``cpu``, so that
other programs on the computer hardly count, and of the clock on a GPU; the initial alignment is not among them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from autofuse_engine.configs import NO_MODEL, RegistrationConfig
from autofuse_engine.data.affine import align
from autofuse_engine.data.files import read_labelmap, read_volume
from autofuse_engine.devices import resolve_device
from autofuse_engine.registration import ModelCache, register

STEPS = (0, 5, 10, 20, 40)
Row = Mapping[str, Any]


def pair_rows(
    case: Mapping[str, Mapping[str, Path]],
    methods: Sequence[tuple[str, int]],
    device: str,
    cache: ModelCache,
) -> Iterator[Row]:
    """A row for each model and number of steps."""
    names = {role: case[role]["image"].name for role in ("fixed", "moving")}
    images = {role: read_volume(case[role]["image"]) for role in ("fixed", "moving")}
    labels = {f"{role}_labels": read_labelmap(case[role]["label"]) for role in ("fixed", "moving")}
    matrix = align(images["fixed"], images["moving"], "affine").moving_from_fixed_ras.tolist()
    clock = time.process_time if device == "cpu" else time.perf_counter
    for model, count in methods:
        config = RegistrationConfig.from_dict(
            {"model": model, "refinement_steps": count, "initial": "matrix", "initial_matrix_ras": matrix,
             "device": device}
        )  # fmt: skip
        if model != NO_MODEL:
            cache.get(model, resolve_device(device), "float32")  # loading is not counted: the worker keeps models
        started = clock()
        result = register(**images, **labels, config=config, models=cache)
        seconds = clock() - started
        metrics = result.report["metrics"]
        yield {
            **names,
            "model": model,
            "steps": count,
            "device": device,
            "affine": metrics["initial"]["dice_mean"],
            "dice": metrics["after"]["dice_mean"],
            "folding_percent": result.report["folding_percent"],
            "seconds": round(seconds, 3),
        }


def table(rows: Sequence[Row]) -> str:
    """Means over the pairs that every method has, as Markdown; gain per second against the row above."""
    methods = list(dict.fromkeys((row["model"], row["steps"], row["device"]) for row in rows))
    pairs_of = {
        method: {(row["fixed"], row["moving"]) for row in rows if (row["model"], row["steps"], row["device"]) == method}
        for method in methods
    }
    common = set.intersection(*pairs_of.values())
    lines = [
        f"Means over {len(common)} pairs.",
        "",
        "| model | steps | device | Dice | folding, % | seconds | points per further second |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    shared = [row for row in rows if (row["fixed"], row["moving"]) in common]
    lines.append(f"| affine | - | - | {_mean(shared, 'affine'):.4f} | - | - | - |")
    last: tuple[str, str, float, float] | None = None
    for model, steps, device in sorted(methods, key=lambda method: (method[0], method[2], method[1])):
        own = [row for row in shared if (row["model"], row["steps"], row["device"]) == (model, steps, device)]
        dice, seconds = _mean(own, "dice"), _mean(own, "seconds")
        gain = "-"
        if last is not None and last[:2] == (model, device) and seconds > last[3]:
            gain = f"{100 * (dice - last[2]) / (seconds - last[3]):.2f}"
        last = (model, device, dice, seconds)
        folding = _mean(own, "folding_percent")
        lines.append(
            f"| {Path(model).stem} | {steps} | {device} | {dice:.4f} | {folding:.4f} | {seconds:.2f} | {gain} |"
        )
    return "\n".join(lines) + "\n"


def _mean(rows: Sequence[Row], name: str) -> float:
    return sum(row[name] for row in rows) / len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", action="append", default=[], dest="models", metavar="NAME")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    description = json.loads((options.dataset / "dataset.json").read_text(encoding="utf-8"))
    cases = [{kind: options.dataset / case[kind] for kind in ("image", "label")} for case in description["validation"]]
    methods = [(model, count) for model in (NO_MODEL, *options.models) for count in options.steps]
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "refinement.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    cache = ModelCache()
    for number in range(options.pairs):
        pair = {"fixed": cases[number % len(cases)], "moving": cases[(number + options.stride) % len(cases)]}
        names = {role: case["image"].name for role, case in pair.items()}
        known = {(row["model"], row["steps"], row["device"]) for row in rows if names.items() <= row.items()}
        left = [method for method in methods if (*method, options.device) not in known]
        for row in pair_rows(pair, left, options.device, cache) if left else ():
            rows.append(row)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)
        (options.out / "refinement.md").write_text(table(rows), encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
