"""The rows of an evaluation: one for each method and pair, added to a file as each one ends.

Standard library only. ``pairs.jsonl`` in the folder of the evaluation holds one JSON object a line; docs/evaluation.md
describes each field.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from autofuse_engine.errors import FileError
from autofuse_engine.json_lines import append_line, read_lines

ROWS = "pairs.jsonl"
TABLE = "pairs.csv"
_NESTED = ("dice_per_label", "hd95_per_label_mm", "gate_means")


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """How one method did on one pair. None stands for what cannot be told, such as Dice without labels.

    Attributes:
        method: display name of the method.
        fixed: name of the fixed image.
        moving: name of the moving image.
        dice: mean over the labels that both images have.
        dice_before: the same after the shared initial alignment alone; without any for ``none``.
        hd95_mm: 95th percentile of the surface distance, mean over the same labels.
        hd95_before_mm: see ``dice_before``.
        tre_mm: mean distance of the landmarks.
        tre_before_mm: see ``dice_before``.
        ncc: correlation of the fixed with the warped image over the foreground of the fixed image.
        folding_percent: share of cells whose Jacobian determinant is not above 0.
        folding_count: their number.
        sd_log_jacobian: standard deviation of the logarithm of the determinant over the foreground.
        inverse_mean_mm: mean of ``|inverse(forward(x)) - x|``.
        inverse_p99_mm: its 99th percentile.
        seconds: of the method itself, without reading, initial alignment and judging; of a failed pair, until then.
        seconds_alignment: of the shared initial alignment.
        peak_memory_gib: most memory of the method beyond what the process held before.
        dice_per_label: by label value, written as text.
        hd95_per_label_mm: likewise.
        gate_means: ``stage``, ``level`` and ``pair_weight`` of each fusion gate.
        error: why the method failed on this pair, in one sentence; its figures are None then.
    """

    method: str
    fixed: str
    moving: str
    dice: float | None = None
    dice_before: float | None = None
    hd95_mm: float | None = None
    hd95_before_mm: float | None = None
    tre_mm: float | None = None
    tre_before_mm: float | None = None
    ncc: float | None = None
    folding_percent: float | None = None
    folding_count: int | None = None
    sd_log_jacobian: float | None = None
    inverse_mean_mm: float | None = None
    inverse_p99_mm: float | None = None
    seconds: float
    seconds_alignment: float | None = None
    peak_memory_gib: float | None = None
    dice_per_label: Mapping[str, float] = field(default_factory=dict)
    hd95_per_label_mm: Mapping[str, float] = field(default_factory=dict)
    gate_means: tuple[Mapping[str, float], ...] = ()
    error: str | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """Method, fixed, moving: an evaluation has one row of each."""
        return self.method, self.fixed, self.moving


_FIELDS = tuple(item.name for item in fields(PairRow))
_REQUIRED = ("method", "fixed", "moving", "seconds")


def append_row(folder: str | Path, row: PairRow) -> None:
    """Add a row at the end of ``pairs.jsonl`` and see it through to the disk.

    Numbers that are not finite become null, or are left out of the figures per label. A line that a killed process
    left unfinished is removed first.

    Raises:
        FileError: ``output-not-writable``.
    """
    path = Path(folder) / ROWS
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        append_line(path, _finite(asdict(row)))
    except OSError as error:
        raise _not_writable(path) from error


def read_rows(folder: str | Path) -> list[PairRow]:
    """The rows of an evaluation, in the order in which they were first written; none if nothing was written yet.

    Of several rows of one method and pair the last one counts. An unfinished last line is left out.

    Raises:
        FileError: ``evaluation-invalid`` if a line is not a row, or has a field that this version does not know.
    """
    path = Path(folder) / ROWS
    rows: dict[tuple[str, str, str], PairRow] = {}
    try:
        for number, content in read_lines(path):
            row = _row(content, number)
            rows[row.key] = row
    except (OSError, ValueError) as error:
        raise invalid_results(path, str(error)) from error
    return list(rows.values())


def write_csv(folder: str | Path) -> Path:
    """Write ``pairs.csv`` from ``pairs.jsonl``: one line for each row, figures per label in columns of their own.

    Returns:
        The file. Columns ``dice[LABEL]`` and ``hd95_mm[LABEL]`` follow the fields of a row; gates are left out.

    Raises:
        FileError: ``evaluation-invalid`` or ``output-not-writable``.
    """
    rows, path = read_rows(folder), Path(folder) / TABLE
    labels = sorted({label for row in rows for label in row.dice_per_label}, key=_in_numbers)
    names = [name for name in _FIELDS if name not in _NESTED]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, *(f"dice[{label}]" for label in labels), *(f"hd95_mm[{label}]" for label in labels)])
    for row in rows:
        plain = [getattr(row, name) for name in names]
        dice = [row.dice_per_label.get(label) for label in labels]
        hd95 = [row.hd95_per_label_mm.get(label) for label in labels]
        writer.writerow(["" if value is None else value for value in (*plain, *dice, *hd95)])
    temporary = path.with_name(f"{path.name}.part")
    try:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
        temporary.replace(path)
    except OSError as error:
        raise _not_writable(path) from error
    return path


def _row(content: Mapping[str, Any], number: int) -> PairRow:
    if unknown := sorted(set(content) - set(_FIELDS)):
        raise ValueError(f"line {number} has the unknown field {unknown[0]!r}")
    if missing := [name for name in _REQUIRED if content.get(name) is None]:
        raise ValueError(f"line {number} lacks {missing[0]!r}")
    return PairRow(**{**content, "gate_means": tuple(content.get("gate_means") or ())})


def _finite(value: Any) -> Any:
    """None for numbers that are not finite; such entries of a mapping by label are left out."""
    if isinstance(value, dict):
        cleaned = {name: _finite(item) for name, item in value.items()}
        for name in ("dice_per_label", "hd95_per_label_mm"):
            if name in cleaned:
                cleaned[name] = {label: item for label, item in cleaned[name].items() if item is not None}
        return cleaned
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _in_numbers(label: str) -> tuple[bool, float, str]:
    return (False, float(label), "") if label.isdigit() else (True, 0.0, label)


def invalid_results(path: Path, problem: str) -> FileError:
    """The error for a file of an evaluation that does not hold what it should."""
    return FileError(
        "evaluation-invalid",
        f"The results {path} cannot be used: {problem}.",
        "Evaluate into another folder, or use the version that wrote them.",
    )


def _not_writable(path: Path) -> FileError:
    return FileError(
        "output-not-writable", f"The file {path} cannot be written.", "Check that the folder allows writing."
    )
