"""Markups of 3D Slicer (.mrk.json): control points read and replaced, every other field kept."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.errors import InputError

_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_SPACES = {"RAS": "RAS", "LPS": "LPS", "0": "RAS", "1": "LPS"}
_WITH_OWN_FRAME = ("ROI", "Plane")  # their size and axes would not follow the control points


@dataclass(frozen=True, kw_only=True, eq=False)
class Markups:
    """What a file held.

    Attributes:
        content: the JSON document.
        space: ``RAS`` or ``LPS``: that of the first markup; positions of all are given in it.
    """

    content: dict[str, Any]
    space: str
    ending: str = ".mrk.json"

    @property
    def positions(self) -> NDArray[np.float64]:
        """``(N, 3)``, mm, of all defined control points of all markups, in :attr:`space`."""
        found = [_flipped(point["position"], space, self.space) for point, space in _placed(self.content)]
        return np.array(found, dtype=np.float64).reshape(-1, 3)

    @property
    def labels(self) -> list[str]:
        """One per defined control point."""
        return [str(point.get("label", "")) for point, _ in _placed(self.content)]

    def text(self, positions: NDArray[np.float64], space: str | None) -> str:
        """The file with other positions ``(N, 3)``, given in ``space``; each markup keeps its own space."""
        content = copy.deepcopy(self.content)
        for (point, own_space), position in zip(_placed(content), positions.tolist(), strict=True):
            point["position"] = _flipped(position, space or self.space, own_space)
        return json.dumps(content, indent=4, ensure_ascii=False) + "\n"


def parse(text: str, path: Path) -> Markups:
    """Read the text of a markups file; ``path`` is what errors name.

    Raises:
        InputError: ``points-invalid``, ``points-space-unknown`` or ``markups-not-points``.
    """
    try:
        content = json.loads(text)
        markups = content["markups"]
        if not isinstance(markups, list):
            raise TypeError("markups is not a list")
        for markup in markups:
            _check(markup, path)
        for point, _ in _placed(content):
            if len([float(value) for value in point["position"]]) != 3:
                raise ValueError("a position has three numbers")
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            "points-invalid",
            f"The file {path} is not a markups file of 3D Slicer.",
            "Save the points again in 3D Slicer, as Markups JSON.",
        ) from error
    return Markups(content=content, space=_space(markups[0]) if markups else "LPS")


def new(labels: Sequence[str], space: str, ending: str) -> Markups:
    """A point list for points without a file; its positions are to be given to :meth:`Markups.text`."""
    points = [
        {"id": str(number), "label": label or f"F-{number}", "position": [0.0, 0.0, 0.0], "positionStatus": "defined"}
        for number, label in enumerate(labels, start=1)
    ]
    markup = {"type": "Fiducial", "coordinateSystem": space, "coordinateUnits": "mm", "controlPoints": points}
    return Markups(content={"@schema": _SCHEMA, "markups": [markup]}, space=space, ending=ending)


def _check(markup: dict[str, Any], path: Path) -> None:
    if markup.get("type") in _WITH_OWN_FRAME:
        raise InputError(
            "markups-not-points",
            f"The file {path} holds a markup of the type {markup['type']}.",
            "Only points, lines, angles and curves can be carried through a transform.",
        )
    unit = markup.get("coordinateUnits", "mm")
    if _space(markup) == "" or unit not in ("mm", ["mm", "mm", "mm"]):
        raise InputError(
            "points-space-unknown",
            f"The points {path} state the space {markup.get('coordinateSystem')!r} and the unit {unit!r}.",
            "Only RAS and LPS in mm are known.",
        )


def _space(markup: dict[str, Any]) -> str:
    return _SPACES.get(str(markup.get("coordinateSystem", "LPS")).upper(), "")


def _placed(content: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Control points that have a place, with the space of their markup."""
    for markup in content["markups"]:
        for point in markup.get("controlPoints") or ():
            if point.get("positionStatus", "defined") == "defined" and point.get("position"):
                yield point, _space(markup)


def _flipped(position: Sequence[float], space: str, wanted: str) -> list[float]:
    sign = 1.0 if space == wanted else -1.0
    right, anterior, superior = (float(value) for value in position)
    return [sign * right + 0.0, sign * anterior + 0.0, superior + 0.0]
