"""What one case of a dataset looks like: sizes, intensities, labels, and everything that is wrong with it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.data.cases import CaseSource, Problem
from autofuse_engine.data.checks import check_image, check_labelmap
from autofuse_engine.data.preprocessing import axes_towards, foreground
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import AutoFuseError, InputError

_MOST_LABEL_VALUES = 65_535
_AXES = ("RL", "AP", "SI")


@dataclass(frozen=True, kw_only=True)
class CaseFacts:
    """Facts about one case, ready for JSON; those of an unreadable image are None.

    Attributes:
        size: voxels along i, j, k as stored.
        spacing_mm: along i, j, k as stored.
        orientation: towards which side of the patient i, j, k grow, such as ``LPS``; the nearest one where oblique.
        oblique_deg: largest angle between a voxel axis and that side.
        data_type: of the stored values.
        lowest, low, high, highest: 0, 1, 99 and 100 percent of the intensities lie below.
        extent_mm: size of the foreground's box to the right, anterior and superior.
        image_sha256: of the values, not of the file, so that copies under other names and in other formats agree.
        label_voxels: number of voxels by label value, background left out; None without a labelmap.
        voxel_mm3: volume of one voxel.
        problems: what is wrong.
    """

    name: str
    split: str
    group: str
    role: str | None = None
    size: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    orientation: str | None = None
    oblique_deg: float | None = None
    data_type: str | None = None
    lowest: float | None = None
    low: float | None = None
    high: float | None = None
    highest: float | None = None
    extent_mm: tuple[float, float, float] | None = None
    image_sha256: str | None = None
    label_voxels: Mapping[int, int] | None = None
    voxel_mm3: float | None = None
    problems: tuple[Problem, ...] = field(default=())

    @property
    def has_error(self) -> bool:
        """Whether the case cannot be used."""
        return any(problem.severity == "error" for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON; :meth:`from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> CaseFacts:
        """Read back what JSON stored, where keys are texts and tuples are lists."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in content.items()}
        if values.get("label_voxels") is not None:
            values["label_voxels"] = {int(value): int(count) for value, count in values["label_voxels"].items()}
        values["problems"] = tuple(
            Problem(**{**problem, "cases": tuple(problem["cases"])}) for problem in content.get("problems", ())
        )
        return cls(**values)


def look_at_case(source: CaseSource) -> CaseFacts:
    """Read image and labelmap and tell what they are; what is wrong with them is told too, never raised."""
    facts = CaseFacts(name=source.name, split=source.split, group=source.group, role=source.role)
    problems: list[Problem] = []
    image = labels = None
    try:
        image = source.read_image()
        facts = _with_image(facts, image)
        check_image(image, "image")
    except AutoFuseError as error:
        problems.append(_named(error, source.image, source.name))
    try:
        labels = source.read_labelmap()
        if labels is not None:
            facts = replace(facts, label_voxels=label_voxels(labels.array), voxel_mm3=float(labels.spacing_mm.prod()))
            if (labels.array < 0).any():
                raise InputError(
                    "labels-negative",
                    f"The labelmap {source.label} holds values below zero, for instance {labels.array.min()}.",
                    "Give every structure a whole number above zero, and the background zero.",
                )
            if image is not None:
                check_labelmap(labels, image, "labelmap")
    except AutoFuseError as error:
        problem = _named(error, source.label or source.image, source.name)
        problems.append(replace(problem, severity="warning" if error.code == "labels-empty" else "error"))
    return replace(facts, problems=tuple(problems))


def label_voxels(labels: NDArray[np.integer]) -> dict[int, int]:
    """Number of voxels by label value, background left out.

    Raises:
        InputError: ``labels-too-many`` where it is an image rather than a labelmap.
    """
    values, counts = np.unique(labels, return_counts=True)
    if len(values) > _MOST_LABEL_VALUES:
        raise InputError(
            "labels-too-many",
            f"The labelmap holds {len(values)} different values.",
            "Choose a labelmap: this file looks like an image.",
        )
    return {int(value): int(count) for value, count in zip(values, counts, strict=True) if value != 0}


def nearest_orientation(ras_from_ijk: NDArray[np.float64]) -> tuple[str, float]:
    """Towards which sides i, j, k grow, such as ``LPS``, and the largest angle to them in degrees."""
    axes = axes_towards(ras_from_ijk)
    letters = [""] * 3
    directions = ras_from_ijk[:3, :3] / np.linalg.norm(ras_from_ijk[:3, :3], axis=0)
    cosines = []
    for ras, ijk in enumerate(axes.order):
        letters[ijk] = _AXES[ras][1 if axes.flips[ras] else 0]
        cosines.append(abs(directions[ras, ijk]))
    return "".join(letters), float(np.degrees(np.arccos(min(1.0, min(cosines)))))


def content_sha256(array: NDArray) -> str:
    """Checksum of shape and values; integers and floats of equal values agree where float64 holds them exactly."""
    digest = hashlib.sha256(repr(array.shape).encode("ascii"))
    for part in array:
        digest.update(np.ascontiguousarray(part, dtype="<f8").tobytes())
    return digest.hexdigest()


def _with_image(facts: CaseFacts, image: Volume) -> CaseFacts:
    orientation, angle = nearest_orientation(image.ras_from_ijk)
    finite = image.array[np.isfinite(image.array)]
    limits = np.percentile(finite, (0, 1, 99, 100)) if finite.size else [None] * 4
    lowest, low, high, highest = (None if value is None else float(value) for value in limits)
    width, height, depth = image.shape[::-1]
    x, y, z = (round(float(value), 6) for value in image.spacing_mm)
    return replace(
        facts,
        size=(width, height, depth),
        spacing_mm=(x, y, z),
        orientation=orientation,
        oblique_deg=round(angle, 2),
        data_type=str(image.array.dtype),
        lowest=lowest,
        low=low,
        high=high,
        highest=highest,
        extent_mm=_extent_mm(image),
        image_sha256=content_sha256(image.array),
    )


def _extent_mm(image: Volume) -> tuple[float, float, float]:
    """Size of the foreground's box to the right, anterior and superior."""
    canonical = image.reordered(axes_towards(image.ras_from_ijk))
    mask = foreground(np.nan_to_num(canonical.array))
    sides = []
    for axis, spacing in zip((2, 1, 0), canonical.spacing_mm, strict=True):
        shown = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        sides.append(round(float((shown[-1] - shown[0] + 1) * spacing), 3))
    return sides[0], sides[1], sides[2]


def _named(error: AutoFuseError, path: Path, case: str) -> Problem:
    """The error as a problem of the case; a text that names neither file nor case gets the case in front."""
    problem = Problem.from_error(error, case)
    if case in problem.text or str(path) in problem.text:
        return problem
    return replace(problem, text=f"{case}: {problem.text}")
