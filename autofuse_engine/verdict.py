"""One plain sentence on whether a registration helped, from the figures of its report. Standard library only.

The figures cannot prove an alignment, they can only disprove it: the sentence always sends the reader to the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from autofuse_engine.model_fit import CONTRAST_TRANSFERRED, DOUBT_CODES, LABELS_DISAGREE

Level = Literal["good", "check", "bad"]

_MOST_NAMES, _NAMES_OF_MANY = 5, 3
_DICE_MARGIN = 0.005
_NCC_MARGIN = 0.005
_TRE_MARGIN_MM = 0.05
_FOLDING_LIMIT_PERCENT = 0.5
_INVERSE_LIMIT_MM = 1.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``level`` for a traffic light, ``text`` for the reader."""

    level: Level
    text: str


@dataclass(frozen=True, kw_only=True)
class _Evidence:
    name: str
    before: float
    after: float
    gain: float
    margin: float
    decimals: int
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.before:.{self.decimals}f} -> {self.after:.{self.decimals}f}{self.unit}"


def judge(report: Mapping[str, Any]) -> Verdict:
    """Weigh landmarks before labels before intensities, then folding and the error of the inverse.

    Args:
        report: of a ``RegistrationResult``; reads ``metrics``, ``folding_percent``, ``folding_count``,
            ``worst_fold_ras``, ``inverse_consistency_mm``, ``guidance``, and ``provenance`` for the similarity.
            Labels that guided the result prove nothing when they lie better, but something when they lie worse.
    """
    evidence = _evidence(report)
    worse = [item for item in evidence if item.gain < -item.margin]
    better = [item for item in evidence if item.gain > item.margin]
    doubts = _doubts(report)
    if worse:
        figures = ", ".join(map(str, worse))
        text = f"Worse aligned than before ({figures}): do not use this result.{_guidance_text(report)}"
        return Verdict(level="bad", text=text)
    if not evidence:
        sentence, level = "Finished, but no figure can tell whether it helped", "check"
    elif better:
        sentence, level = f"Better aligned ({', '.join(map(str, better))})", "good"
    else:
        sentence, level = f"Hardly changed ({', '.join(map(str, evidence))})", "check"
    if doubts:
        link = "but" if evidence else "and"
        text = f"{sentence}, {link} {' and '.join(doubts)}: look at the pictures closely.{_guidance_text(report)}"
        return Verdict(level="check", text=text)
    text = f"{sentence}; {_folding_text(report)}. Look at the pictures before you rely on it.{_guidance_text(report)}"
    return Verdict(level=level, text=text)


def _evidence(report: Mapping[str, Any]) -> list[_Evidence]:
    """The strongest kinds of figures that there are; intensities count only where nothing else does."""
    metrics = report.get("metrics") or {}
    before, after = metrics.get("before") or {}, metrics.get("after") or {}

    def pair(key: str) -> tuple[float, float] | None:
        values = before.get(key), after.get(key)
        finite = all(isinstance(value, (int, float)) and value == value for value in values)
        return (float(values[0]), float(values[1])) if finite else None  # type: ignore[arg-type]

    found: list[_Evidence] = []
    if (tre := pair("tre_mean_mm")) is not None:
        gain = tre[0] - tre[1]
        found.append(_Evidence(name="landmark error", before=tre[0], after=tre[1], gain=gain, margin=_TRE_MARGIN_MM,
                               decimals=2, unit=" mm"))  # fmt: skip
    if not _guidance(report):
        found += _dice("Dice", pair("dice_mean"))
    else:
        guided = {str(label) for label in _guidance(report).get("labels") or ()}
        of_others, of_guided = (_mean_dice(before, after, guided, inside) for inside in (False, True))
        found += _dice("Dice of the other segments", of_others)
        found += [item for item in _dice("Dice of the guiding segments", of_guided) if item.gain < -item.margin]
    one_modality = ((report.get("provenance") or {}).get("config") or {}).get("similarity") != "mind"
    two_contrasts = _warns_of(report, LABELS_DISAGREE, CONTRAST_TRANSFERRED)  # whose NCC says nothing
    one_modality = one_modality and not two_contrasts
    if not found and one_modality and (ncc := pair("ncc")) is not None:
        gain = ncc[1] - ncc[0]
        found.append(_Evidence(name="NCC", before=ncc[0], after=ncc[1], gain=gain, margin=_NCC_MARGIN, decimals=3))
    return found


def _dice(name: str, values: tuple[float, float] | None) -> list[_Evidence]:
    if values is None:
        return []
    gain = values[1] - values[0]
    return [_Evidence(name=name, before=values[0], after=values[1], gain=gain, margin=_DICE_MARGIN, decimals=3)]


def _mean_dice(
    before: Mapping[str, Any], after: Mapping[str, Any], guided: set[str], inside: bool
) -> tuple[float, float] | None:
    """Mean Dice before and after over the labels that both have, guided ones or the others; None without any."""
    first, last = ({str(label): value for label, value in (at.get("dice") or {}).items()} for at in (before, after))
    pairs = [(first[label], last[label]) for label in first if label in last and (label in guided) == inside]
    numbers = [pair for pair in pairs if all(isinstance(value, (int, float)) and value == value for value in pair)]
    if not numbers:
        return None
    return sum(pair[0] for pair in numbers) / len(numbers), sum(pair[1] for pair in numbers) / len(numbers)


def _guidance(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """What guided the registration; empty where nothing did."""
    return report.get("guidance") or {}


def _guidance_text(report: Mapping[str, Any]) -> str:
    """A sentence of its own, with a space before it; empty where nothing guided the registration."""
    guidance = _guidance(report)
    if not guidance:
        return ""
    names = [str(name) for name in guidance.get("classes") or ()]
    if len(names) > _MOST_NAMES:
        names = [*names[:_NAMES_OF_MANY], f"{len(names) - _NAMES_OF_MANY} more"]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    sides = [side for side in ("fixed", "moving") if guidance.get(side)]
    where = "both images" if len(sides) == 2 else f"the {''.join(sides)} image"
    whose = "its Dice is" if len(names) == 1 else "their Dice is"
    return f" The segmentation of {listed} in {where} guided this result: {whose} no independent judge."


def _doubts(report: Mapping[str, Any]) -> list[str]:
    doubts: list[str] = []
    folding = report.get("folding_percent") or 0.0
    if folding > _FOLDING_LIMIT_PERCENT:
        doubts.append(f"{folding:.2f} % of the cells fold{_place_text(report)}")
    inverse = (report.get("inverse_consistency_mm") or {}).get("p99") or 0.0
    if inverse > _INVERSE_LIMIT_MM:
        doubts.append(f"the inverse is off by {inverse:.1f} mm in places")
    if _warns_of(report, *DOUBT_CODES, LABELS_DISAGREE):
        doubts.append("the model was not trained on such images")
    return doubts


def _warns_of(report: Mapping[str, Any], *codes: str) -> bool:
    return any(warning.get("code") in codes for warning in report.get("warnings") or ())


def _folding_text(report: Mapping[str, Any]) -> str:
    count = report.get("folding_count") or 0
    if not count:
        return "nothing folds"
    percent = report.get("folding_percent") or 0.0
    cells = "1 cell folds" if count == 1 else f"{count} cells fold"
    return f"{cells} ({percent:.3f} %){_place_text(report)}"


def _place_text(report: Mapping[str, Any]) -> str:
    """Where the worst fold is, in the patient's directions; empty where the report does not say."""
    place = report.get("worst_fold_ras")
    if not place:
        return ""
    sides = (("R", "L"), ("A", "P"), ("S", "I"))
    words = [f"{side[value < 0]} {abs(value):.0f}" for side, value in zip(sides, place, strict=True)]
    return f", worst near {', '.join(words)} mm"
