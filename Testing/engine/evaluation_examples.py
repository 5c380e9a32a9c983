"""Made-up evaluations for the tests of reports: rows of several methods, written as an evaluation writes them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autofuse_engine.evaluation_configs import MethodSpec
from autofuse_engine.evaluation_rows import PairRow, append_row


def row(method: str, number: int, **figures: Any) -> PairRow:
    """The row of one method on the pair of that number."""
    return PairRow(method=method, fixed=f"case {number}", moving=f"case {number + 1}", **({"seconds": 1.5} | figures))


def rows_of(method: str, dice: Sequence[float | None], **figures: Any) -> list[PairRow]:
    """Rows of a method by its Dice; None is a pair on which it failed."""
    return [
        row(method, number, error="It ran out of memory.")
        if value is None
        else row(method, number, dice=value, **figures)
        for number, value in enumerate(dice)
    ]


def make_evaluation(
    folder: Path, specs: Sequence[MethodSpec], *, pairs: int = 8, labels: int = 3, gates: int = 4
) -> Path:
    """A folder with ``pairs.jsonl`` and ``evaluation.json``; every later method is a little better."""
    rng = random.Random(1)
    for place, spec in enumerate(specs):
        for number in range(pairs):
            dice = 0.6 + 0.01 * number + 0.02 * place + rng.gauss(0, 0.005)
            weights = (
                [0.4 + 0.05 * stage + rng.gauss(0, 0.01) for stage in range(gates)] if spec.kind == "model" else []
            )
            append_row(
                folder,
                row(
                    spec.name,
                    number,
                    seconds=0.0 if spec.kind == "none" else 0.3 * 2.0**place,
                    dice=dice,
                    dice_before=0.6,
                    hd95_mm=3 - dice,
                    folding_percent=0.001 * place,
                    folding_count=place,
                    dice_per_label={str(label): dice - 0.002 * label for label in range(1, labels + 1)},
                    gate_means=tuple(
                        {"stage": stage, "level": abs(stage - 2), "pair_weight": weight}
                        for stage, weight in enumerate(weights, start=1)
                    ),
                ),
            )
    content = {"methods": [spec.to_dict() for spec in specs]}
    (folder / "evaluation.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return folder
