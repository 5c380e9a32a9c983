"""Time frames of 4D images: which one, or the two at the end of diastole and systole, as users count them, from 1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from autofuse_engine.data.cases import CaseSource
from autofuse_engine.data.tables import read_table, whole_number

ROLES = ("ed", "es")
_INFO_LINE = re.compile(r"^\s*(ED|ES)\s*:\s*(\d+)\s*$", re.MULTILINE)


def frame_sources(
    source: CaseSource,
    labels: Path | Mapping[str, Path] | None,
    frame: Any = None,
    frames: Any = None,
) -> list[CaseSource]:
    """The case itself, or one case for each named frame.

    Args:
        source: name, image, split and group; its name becomes the group of its frames where they have none.
        labels: the labelmap, or one for each role; one file for two frames has to be 4D.
        frame: number of the one frame to use, from 1.
        frames: numbers by role, {"ed": 1, "es": 12}.

    Raises:
        ValueError: if a number or role is none.
    """
    if frames is None:
        if isinstance(labels, Mapping):
            raise ValueError("labels by frame go with 'frames'")
        number = None if frame is None else _index(frame, "frame")
        return [replace(source, label=labels, frame=number)]
    if frame is not None or not isinstance(frames, Mapping) or set(frames) - set(ROLES) or not frames:
        raise ValueError(f'frames is like {{"ed": 1, "es": 12}}, without frame, received {frames!r}')
    numbers = {role: _index(frames[role], role) for role in ROLES if role in frames}
    if len(set(numbers.values())) < len(numbers):
        raise ValueError(f"ed and es are two frames, received {frames!r}")
    made = []
    for role, number in numbers.items():
        shared = not isinstance(labels, Mapping)
        label = labels if not isinstance(labels, Mapping) else labels.get(role)
        made.append(
            replace(
                source,
                name=f"{source.name}_{role}",
                group=source.group or source.name,
                frame=number,
                role=role,
                label=label,
                label_frame=number if shared and label is not None else None,
            )
        )
    return made


def read_frames_table(path: Path) -> dict[str, dict[str, int]]:
    """``frames.csv`` with the columns case, ed, es (from 1): numbers by role, by case.

    Raises:
        FileError: ``table-invalid``.
    """
    rows = read_table(path, (("case", "name"), ("ed",), ("es",)))
    return {
        row["case"]: {role: whole_number(row[role], path, number, lowest=1) for role in ROLES}
        for number, row in enumerate(rows, start=1)
    }


def read_info_cfg(path: Path) -> dict[str, int]:
    """The lines ``ED: 1`` and ``ES: 12`` of ACDC's ``Info.cfg``; empty where they are missing."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    found = {role.lower(): int(number) for role, number in _INFO_LINE.findall(text)}
    return found if set(found) == set(ROLES) else {}


def _index(value: Any, name: str) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} is a whole number of at least 1, received {value!r}")
    return value - 1
