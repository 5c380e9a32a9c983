"""What is wrong, or worth knowing, about a dataset as a whole: copies, leaks, rare labels, mixed intensities."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from autofuse_engine.data.case_facts import CaseFacts
from autofuse_engine.data.cases import Dataset, Problem

_FEW_CASES = 10
_RARE_SHARE = 0.1
_CT_LOW = -300.0
_SPACING_RATIO = 1.5
_SIZE_RATIO = 2.5
_ANISOTROPY = 3.0
_SCALE_RATIO = 10.0
_SEVERITIES = ("error", "warning", "info")


def problems_of(dataset: Dataset, facts: Sequence[CaseFacts]) -> tuple[Problem, ...]:
    """Every problem of the description, of the cases and of the whole; errors first, alike ones joined."""
    found = [*dataset.problems]
    for case in facts:
        found += case.problems
    found += [*_copies(facts), *_patients_in_two_splits(facts), *_counts(facts), *_labels(dataset, facts)]
    found += [*_geometry(facts), *_intensities(facts)]
    return tuple(sorted(_joined(found), key=lambda problem: _SEVERITIES.index(problem.severity)))


def _joined(problems: Sequence[Problem]) -> list[Problem]:
    """One problem for all cases with the same code and severity; its text is that of the first."""
    groups: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        groups[problem.severity, problem.code].append(problem)
    joined = []
    for members in groups.values():
        cases = tuple(dict.fromkeys(name for member in members for name in member.cases))
        others = cases[len(members[0].cases) :]
        text = members[0].text
        if len(members) > 1 and others:
            text = f"{text} The same holds for {_some(others)}."
        elif len(members) > 1:
            text = " ".join(dict.fromkeys(member.text for member in members))
        joined.append(replace(members[0], text=text, cases=cases))
    return joined


def _some(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _copies(facts: Sequence[CaseFacts]) -> list[Problem]:
    """Images with the same values: harmless in one split at best, a leak across two."""
    same: dict[str, list[CaseFacts]] = defaultdict(list)
    for case in facts:
        if case.image_sha256 is not None:
            same[case.image_sha256].append(case)
    problems = []
    for cases in same.values():
        if len(cases) < 2:
            continue
        names = tuple(case.name for case in cases)
        splits = sorted({case.split for case in cases})
        problems.append(
            Problem(
                severity="warning",
                code="cases-identical",
                text=f"The images of {_some(names)} hold the same values.",
                hint="Keep one of them.",
                cases=names,
            )
            if len(splits) == 1
            else Problem(
                severity="error",
                code="leak-between-splits",
                text=f"The images of {_some(names)} hold the same values, and lie in {' and '.join(splits)}.",
                hint="Keep one of them: a network must not be judged on what it was trained on.",
                cases=names,
            )
        )
    return problems


def _patients_in_two_splits(facts: Sequence[CaseFacts]) -> list[Problem]:
    groups: dict[str, list[CaseFacts]] = defaultdict(list)
    for case in facts:
        groups[case.group].append(case)
    return [
        Problem(
            severity="error",
            code="patient-in-two-splits",
            text=f"The patient {group} lies in {' and '.join(sorted({case.split for case in cases}))}.",
            hint="Move all images of one patient into one split.",
            cases=tuple(case.name for case in cases),
        )
        for group, cases in groups.items()
        if group and len({case.split for case in cases}) > 1
    ]


def _counts(facts: Sequence[CaseFacts]) -> list[Problem]:
    splits = Counter(case.split for case in facts if not case.has_error)
    problems = []
    if splits["train"] < 2:
        problems.append(
            Problem(
                severity="error",
                code="too-few-cases",
                text=f"{splits['train']} training cases can be used, and a pair needs two.",
                hint="Add images, or cure the errors of those that are there.",
            )
        )
    elif splits["train"] < _FEW_CASES:
        problems.append(
            Problem(
                severity="warning",
                code="few-cases",
                text=f"There are only {splits['train']} training cases that can be used.",
                hint="Training works best with some dozens of cases; with so few, watch the validation figures.",
            )
        )
    if splits["validation"] < 2:
        problems.append(
            Problem(
                severity="info",
                code="no-validation-cases",
                text=f"The dataset names {splits['validation']} validation cases, and a pair needs two.",
                hint="Where it names none, 'autofuse dataset prepare' draws them, patient by patient.",
            )
        )
    return problems


def _labels(dataset: Dataset, facts: Sequence[CaseFacts]) -> list[Problem]:
    labelled = [case for case in facts if case.label_voxels is not None]
    usable = [case for case in facts if case.split != "test"]
    without = tuple(case.name for case in usable if case.label_voxels is None)
    problems = []
    if without:
        none = len(without) == len(usable)
        problems.append(
            Problem(
                severity="info",
                code="cases-without-labels",
                text="No case has labels." if none else f"{len(without)} of {len(usable)} cases have no labels.",
                hint="Training can do without; Dice is known for cases with labels only.",
                cases=() if none else without,
            )
        )
    counts = Counter(value for case in labelled for value in case.label_voxels or {})
    most = max(1, int(_RARE_SHARE * len(labelled)))
    rare = {value: count for value, count in sorted(counts.items()) if count <= most and count < len(labelled)}
    if rare:
        shown = [f"{value} ({count})" for value, count in rare.items()]
        problems.append(
            Problem(
                severity="warning",
                code="labels-rare",
                text=f"Label values that occur in few of {len(labelled)} labelmaps: {_some(shown, 12)}.",
                hint="Check whether they are mistakes; drop or merge them with --labels when you prepare.",
                cases=tuple(case.name for case in labelled if set(case.label_voxels or {}) & set(rare)),
            )
        )
    absent = [f"{value} ({len(labelled) - count})" for value, count in sorted(counts.items()) if value not in rare]
    absent = [shown for shown in absent if not shown.endswith("(0)")]
    if absent:
        problems.append(
            Problem(
                severity="info",
                code="labels-absent",
                text=f"Label values that are absent in some of {len(labelled)} labelmaps: {_some(absent, 12)}.",
                hint="Dice leaves out what neither image of a pair shows.",
            )
        )
    unnamed = [str(value) for value in sorted(counts) if value not in dataset.label_names]
    if unnamed:
        problems.append(
            Problem(
                severity="info",
                code="labels-unnamed",
                text=f"Label values without a name: {_some(unnamed, 12)}.",
                hint="Name them in dataset.json or in label_names.csv (value,name).",
            )
        )
    return problems


def _geometry(facts: Sequence[CaseFacts]) -> list[Problem]:
    known = [case for case in facts if case.spacing_mm is not None]
    problems = []
    orientations = Counter(case.orientation for case in known)
    if len(orientations) > 1:
        shown = ", ".join(f"{letters} {count}" for letters, count in orientations.most_common())
        problems.append(
            Problem(
                severity="info",
                code="orientations-mixed",
                text=f"The images are stored in several orientations: {shown}.",
                hint="'autofuse dataset prepare' brings them into one.",
            )
        )
    spacings = np.array([case.spacing_mm for case in known])
    if len(known) > 1 and (spacings.max(axis=0) / spacings.min(axis=0)).max() > _SPACING_RATIO:
        low, high = (" x ".join(f"{side:g}" for side in limit(axis=0)) for limit in (spacings.min, spacings.max))
        problems.append(
            Problem(
                severity="info",
                code="spacings-mixed",
                text=f"Voxel spacings reach from {low} to {high} mm.",
                hint="'autofuse dataset prepare' resamples to one; choose it with --spacing.",
            )
        )
    thick = tuple(
        case.name for case in known if max(case.spacing_mm or (1,)) > _ANISOTROPY * min(case.spacing_mm or (1,))
    )
    if thick:
        problems.append(
            Problem(
                severity="info",
                code="slices-thick",
                text=f"{len(thick)} images have slices more than {_ANISOTROPY:g} times as thick as their pixels.",
                hint="Between such slices registration can only guess; keep the spacing anisotropic with --spacing.",
                cases=thick,
            )
        )
    return problems + _unusual_extents(known)


def _unusual_extents(known: Sequence[CaseFacts]) -> list[Problem]:
    shown = [case for case in known if case.extent_mm is not None and not case.has_error]
    if len(shown) < 3:
        return []
    extents = np.array([case.extent_mm for case in shown])
    ratios = extents / np.median(extents, axis=0)
    unusual = [
        case
        for case, ratio in zip(shown, ratios, strict=True)
        if ratio.max() > _SIZE_RATIO or ratio.min() < 1 / _SIZE_RATIO
    ]
    if not unusual:
        return []
    extent = " x ".join(f"{side:.0f}" for side in unusual[0].extent_mm or ())
    usual = " x ".join(f"{side:.0f}" for side in np.median(extents, axis=0))
    return [
        Problem(
            severity="warning",
            code="extent-unusual",
            text=f"What {unusual[0].name} shows measures {extent} mm; the usual size is {usual} mm.",
            hint="Check its spacing, and that it shows the same part of the body as the others.",
            cases=tuple(case.name for case in unusual),
        )
    ]


def _intensities(facts: Sequence[CaseFacts]) -> list[Problem]:
    kinds: dict[str, list[str]] = defaultdict(list)
    for case in facts:
        if case.lowest is not None and case.low is not None:
            kinds["ct" if case.lowest <= _CT_LOW else "negative" if case.lowest < 0 else "other"].append(case.name)
    ct, other = len(kinds["ct"]), len(kinds["other"])
    problems = []
    if ct and other:
        fewer = min(kinds["ct"], kinds["other"], key=len)
        problems.append(
            Problem(
                severity="warning",
                code="intensities-mixed",
                text=f"{ct} images look like CT (values below {_CT_LOW:g}), {other} do not.",
                hint="Train on one modality at a time, unless you mean to mix them.",
                cases=tuple(fewer),
            )
        )
    elif ct:
        problems.append(
            Problem(
                severity="info",
                code="intensities-like-ct",
                text=f"{ct} images look like CT (values below {_CT_LOW:g}).",
                hint="Prepare them with a window, such as --window -200 300 for soft tissue.",
            )
        )
    highs = [case.high for case in facts if case.high is not None and case.high > 0]
    if not ct and highs and max(highs) > _SCALE_RATIO * min(highs):
        problems.append(
            Problem(
                severity="info",
                code="intensity-scales-mixed",
                text=f"Images differ in scale: 99 percent of voxels lie below {min(highs):.4g} to {max(highs):.4g}.",
                hint="Percentiles, the default of 'autofuse dataset prepare', make up for this; a window does not.",
            )
        )
    if kinds["negative"]:
        problems.append(
            Problem(
                severity="info",
                code="intensities-negative",
                text=f"{len(kinds['negative'])} images hold values below zero without looking like CT.",
                hint="Where they were normalised already, this is in order.",
                cases=tuple(kinds["negative"]),
            )
        )
    return problems
