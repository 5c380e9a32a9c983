"""Whether a model's own labels help its refinement: tried on validation pairs, before the model is exported."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autofuse_engine.configs import RefinementConfig
from autofuse_engine.errors import AutoFuseError, CancelledError
from autofuse_engine.evaluation import evaluate
from autofuse_engine.evaluation_configs import EvaluationConfig, MethodSpec
from autofuse_engine.evaluation_rows import PairRow
from autofuse_engine.events import Metric, Progress, Report, Warning, silent

WEIGHTS = (0.0, 0.5, RefinementConfig().labels)
MOST_PAIRS = 4
LONGEST_S = 120.0
"""No further pair begins after that."""
_LEAST_GAIN = 0.002
STAGE = "label trial"


@dataclass(frozen=True, kw_only=True)
class LabelTrial:
    """Mean Dice of the refined model over the pairs, by how much its labels count (:data:`WEIGHTS`), and how far labels
    of both images disagree in the mean; None where there are too few to tell."""

    dice: dict[float, float]
    pairs: int
    disagreement: float | None = None

    @property
    def weight(self) -> float:
        """The one with the highest Dice; 0 where the others gain next to nothing."""
        best = max(self.dice, key=lambda weight: self.dice[weight])
        return best if self.dice[best] >= self.dice[0.0] + _LEAST_GAIN else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For the card: ``pairs``, ``dice`` by weight, and ``disagreement``."""
        dice = {f"{weight:g}": round(value, 4) for weight, value in self.dice.items()}
        told = {} if self.disagreement is None else {"disagreement": round(self.disagreement, 4)}
        return {"pairs": self.pairs, "dice": dice, **told}


def try_labels(
    weights: Path,
    dataset: str | Path,
    *,
    device: str = "auto",
    report: Report = silent,
    cancelled: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> LabelTrial | None:
    """Refine pairs of the validation set with the labels that a model sees in them, and without.

    Args:
        weights: a model's file; its card says by how many steps it is refined.
        dataset: prepared, with labelled validation cases.
        device: where to run.
        report: receives ``Progress``, and the warning ``label-trial-failed`` with the reason where nothing was tried.
        cancelled: asked between and within registrations.
        clock: seconds; no pair begins later than :data:`LONGEST_S` after the first.

    Returns:
        None where the dataset is gone, has no labelled validation pair, or none could be registered.

    Raises:
        CancelledError: if ``cancelled`` says so.
    """
    started, rows, count = clock(), [], 0
    disagreements: list[float] = []

    def tell(event: object) -> None:
        if isinstance(event, Progress):
            fraction = (count - 1 + event.fraction) / MOST_PAIRS
            report(Progress(stage=STAGE, fraction=fraction, text=f"pair {count}"))
        elif isinstance(event, Metric):
            disagreements.append(event.values["disagreement"])

    with tempfile.TemporaryDirectory(prefix="autofuse-trial-", ignore_cleanup_errors=True) as folder:
        try:
            while count < MOST_PAIRS and (count == 0 or clock() - started < LONGEST_S):
                count += 1
                config = EvaluationConfig(
                    dataset=str(dataset),
                    methods=_methods(weights),
                    pairs=count,
                    split="validation",  # of cases that it learned from a model's labels are too good
                    kind="labelled",
                    device=device,
                )
                found = evaluate(config, Path(folder) / "rows", report=tell, cancelled=cancelled)
                if len(found) == len(rows):  # there are no more pairs
                    break
                rows = found
            disagreement = sum(disagreements) / len(disagreements) if disagreements else None
            trial = _trial(rows, disagreement)
            reason = next((row.error for row in rows if row.error), "no pair came to a figure.")
        except CancelledError:
            raise
        except AutoFuseError as error:
            trial, reason = None, error.text
    if trial is None:
        text = f"Whether the model's labels help its refinement could not be tried: {reason}"
        report(Warning(code="label-trial-failed", text=text))
    return trial


def _methods(weights: Path) -> tuple[MethodSpec, ...]:
    return tuple(
        MethodSpec(name=f"{weight:g}", kind="model", model=str(weights), refinement_steps=None, label_weight=weight)
        for weight in WEIGHTS
    )


def _trial(rows: list[PairRow], disagreement: float | None) -> LabelTrial | None:
    """Means over the pairs on which every weight came to a figure."""
    values: dict[tuple[str, str], dict[float, float]] = {}
    for row in rows:
        if row.error is None and row.dice is not None:
            values.setdefault((row.fixed, row.moving), {})[float(row.method)] = row.dice
    complete = [one for one in values.values() if len(one) == len(WEIGHTS)]
    if not complete:
        return None
    return LabelTrial(
        dice={weight: sum(one[weight] for one in complete) / len(complete) for weight in WEIGHTS},
        pairs=len(complete),
        disagreement=disagreement,
    )
