"""From the rows of an evaluation to its report: tables, figures as JSON, and pictures, all in the same folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autofuse_engine.data.atomic import replacing, write_error
from autofuse_engine.errors import FileError
from autofuse_engine.evaluation_configs import MethodSpec
from autofuse_engine.evaluation_label_plot import draw_labels
from autofuse_engine.evaluation_plots import DPI, Palette, draw_boxes, draw_gates, draw_smoothness, draw_time
from autofuse_engine.evaluation_rows import ROWS, PairRow, read_rows
from autofuse_engine.evaluation_statistics import EvaluationSummary, summarise
from autofuse_engine.evaluation_tables import gates_markdown, table_markdown
from autofuse_engine.events import finite
from autofuse_engine.terminal import require_packages

FACTS = "evaluation.json"
_REPORT_FILES = (
    "summary.json", "table.md", "dice.png", "labels.png", "gates.md", "gates.png", "smoothness.png", "time.png",
)  # fmt: skip


def write_report(folder: str | Path, *, reference: str | None = None) -> dict[str, Any]:
    """Write the report of an evaluation into its folder; docs/evaluation.md lists the files.

    A file that the rows give no reason for, such as ``gates.png`` without gates, is not written, and removed where an
    earlier report left it.

    Args:
        folder: of the evaluation, with ``pairs.jsonl``; it may be going on.
        reference: method that all others are compared with; None means the best.

    Returns:
        ``files`` (name to path), and ``summary`` as ``summary.json`` has it.

    Raises:
        FileError: ``evaluation-empty``, ``evaluation-invalid``, ``output-not-writable``, ``disk-full``,
            ``terminal-packages-missing``.
        InputError: ``reference-unknown-method``.
    """
    require_packages("scipy", "matplotlib")
    folder = Path(folder)
    rows, summary = read_summary(folder, reference)
    facts = read_facts(folder)
    content = finite({**summary.to_dict(), "evaluation": facts})
    gates = gates_markdown(summary)
    texts = {
        "summary.json": json.dumps(content, indent=1, ensure_ascii=False) + "\n",
        "table.md": table_markdown(summary, "Evaluation"),
        **({"gates.md": gates} if gates else {}),
    }
    pictures = _pictures(summary, rows, facts)
    written: dict[str, str] = {}
    for name in _REPORT_FILES:
        path = folder / name
        if name in texts:
            with replacing(path) as temporary:
                temporary.write_text(texts[name], encoding="utf-8")
        elif (picture := pictures.get(name)) is not None:
            save_picture(picture, path)
        else:
            path.unlink(missing_ok=True)
            continue
        written[name] = str(path)
    return {"files": written, "summary": content}


def read_summary(folder: str | Path, reference: str | None = None) -> tuple[list[PairRow], EvaluationSummary]:
    """Rows of an evaluation and their summary.

    Raises:
        FileError: ``evaluation-empty`` or ``evaluation-invalid``.
        InputError: ``reference-unknown-method``.
    """
    rows = read_rows(folder)
    if not rows:
        raise FileError(
            "evaluation-empty",
            f"The folder {folder} holds no rows of an evaluation ({ROWS}).",
            "Check the path, or run 'autofuse evaluate' first.",
        )
    return rows, summarise(rows, reference)


def read_facts(folder: Path) -> dict[str, Any]:
    """What ``evaluation.json`` says of methods, data and machine; empty where there is none.

    Raises:
        FileError: ``evaluation-invalid``.
    """
    path = folder / FACTS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _invalid(path, str(error)) from error
    if not isinstance(content, dict):
        raise _invalid(path, "it is not an object")
    return content


def save_picture(figure: Any, path: Path) -> None:
    """Write a matplotlib figure as a PNG, whole or not at all."""
    import warnings

    try:
        with warnings.catch_warnings(), replacing(path) as temporary:
            warnings.filterwarnings("ignore", message="Glyph .* missing from")  # names in scripts without a font here
            figure.savefig(temporary, dpi=DPI, format="png")
    except OSError as error:
        raise write_error(path, error) from error


def smoothness_families(specs: Sequence[MethodSpec]) -> list[tuple[str, dict[str, float]]]:
    """Methods that differ in their smoothness only: a title, and the smoothness by the method's name."""
    groups: dict[tuple[Any, ...], list[MethodSpec]] = {}
    for spec in specs:
        changes = (spec.label_weight, spec.passes, spec.similarity, spec.metric, spec.label_alignment)
        key = (spec.kind, spec.model, spec.refinement_steps, *changes)
        groups.setdefault(key, []).append(spec)
    found = []
    for group in groups.values():
        if len({spec.smoothness for spec in group}) > 1:
            found.append((_title(group[0]), {spec.name: spec.smoothness for spec in group}))
    return found


def _pictures(summary: EvaluationSummary, rows: Sequence[PairRow], facts: Mapping[str, Any]) -> dict[str, Any]:
    palette = Palette(summary)
    pictures: dict[str, Any] = {
        "labels.png": draw_labels(summary, facts.get("label_names")),
        "gates.png": draw_gates(summary, palette),
    }
    if summary.compared is None:
        return pictures
    pictures["dice.png"] = draw_boxes(summary, rows, palette)
    pictures["time.png"] = draw_time(summary, palette)
    present = {method.name for method in summary.methods if summary.compared in method.figures}
    families = smoothness_families([spec for spec in _specs(facts) if spec.name in present])
    if families:
        titles = [title for title, _ in families]
        pictures["smoothness.png"] = draw_smoothness(summary, [family for _, family in families], titles, palette)
    return pictures


def _specs(facts: Mapping[str, Any]) -> list[MethodSpec]:
    try:
        return [MethodSpec.from_dict(method) for method in facts.get("methods", ())]
    except (ValueError, TypeError) as error:
        raise _invalid(Path(FACTS), str(error)) from error


def _title(spec: MethodSpec) -> str:
    parts = [Path(spec.model).stem if spec.model else spec.kind]
    if spec.kind in ("model", "refinement") and spec.refinement_steps != 0:
        steps = "default" if spec.refinement_steps is None else spec.refinement_steps
        parts.append(f"{steps} steps of refinement")
    if spec.similarity != "lncc":
        parts.append(f"similarity {spec.similarity}")
    if spec.metric != "cc":
        parts.append(f"metric {spec.metric}")
    if spec.label_weight is not None:
        parts.append(f"label weight {spec.label_weight:g}")
    if not spec.label_alignment:
        parts.append("not aligned by labels")
    if spec.passes != 1:
        parts.append(f"{spec.passes} passes")
    return ", ".join(parts)


def _invalid(path: Path, problem: str) -> FileError:
    return FileError(
        "evaluation-invalid",
        f"The results {path} cannot be used: {problem}.",
        "Evaluate into another folder, or use the version that wrote them.",
    )
