"""Reads ``dataset.json`` as Learn2Reg and the Medical Segmentation Decathlon write it.

Fields read: ``training``, ``validation``, ``test`` (lists of {"image": ..., "label": ...} or of paths),
``registration_val``, ``registration_test``, ``training_paired_images`` (lists of {"fixed": ..., "moving": ...}),
``labels``, ``numTraining``, name, description, licence, reference, modality. Of our own, each case may have
``patient``, ``frame`` and ``frames`` ({"ed": 1, "es": 12}, counted from 1). Paths are relative to the file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from autofuse_engine.data.cases import CaseSource, Dataset, Problem, stem_of
from autofuse_engine.data.frames import frame_sources
from autofuse_engine.dataset_configs import Split
from autofuse_engine.errors import FileError

_LISTS: tuple[tuple[str, Split], ...] = (("training", "train"), ("validation", "validation"), ("test", "test"))
_PAIR_LISTS: tuple[tuple[str, Split], ...] = (
    ("training_paired_images", "train"),
    ("registration_val", "validation"),
    ("registration_test", "test"),
)
_ABOUT = ("name", "description", "licence", "license", "reference", "release")
_SCAN_OF_PATIENT = re.compile(r"(.+_\d{4})_\d{4}")
"""Learn2Reg's names end with patient and scan, ``NLST_0012_0000``."""


def read_dataset_json(path: Path) -> Dataset:
    """Read a description; images themselves are not opened.

    Raises:
        FileError: ``dataset-json-invalid``, ``file-not-readable``.
    """
    content = _content(path)
    reader = _Reader(path.parent, learn2reg=any(name in content for name, _ in _PAIR_LISTS))
    for name, split in _LISTS:
        for entry in _list(content, name, path):
            reader.add(entry, split, path)
    pairs = {split: reader.pairs(_list(content, name, path), split, path) for name, split in _PAIR_LISTS}
    reader.compare_count(content.get("numTraining"))
    about = {name: str(content[name]) for name in _ABOUT if isinstance(content.get(name), str)}
    modality = content.get("modality")
    if isinstance(modality, dict):
        about["modality"] = ", ".join(str(value) for value in modality.values())
    return Dataset(
        root=path.parent,
        layout="learn2reg" if reader.learn2reg else "decathlon",
        cases=tuple(reader.cases.values()),
        label_names=_label_names(content.get("labels")),
        pairs={split: listed for split, listed in pairs.items() if listed},
        about=about,
        problems=tuple(reader.problems),
    )


class _Reader:
    """Collects cases by name and what is wrong with their entries."""

    def __init__(self, root: Path, *, learn2reg: bool) -> None:
        self.root = root
        self.learn2reg = learn2reg
        self.cases: dict[str, CaseSource] = {}
        self.problems: list[Problem] = []
        self._names_of_file: dict[Path, list[str]] = {}
        self._absent: set[Path] = set()
        self._training_entries = 0

    def add(self, entry: Any, split: Split, path: Path) -> None:
        """Take one entry of a list of cases."""
        self._training_entries += split == "train"
        entry = {"image": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, Mapping) or not isinstance(entry.get("image"), str):
            raise _invalid(path, f"a case of '{split}' has no text under 'image': {str(entry)[:80]}")
        image = self._path(entry["image"])
        name = stem_of(image)
        if not self._is_there(image, split, f"The image of the case {name}"):
            return
        if image in self._names_of_file:
            self._listed_twice(image, split)
            return
        if name in self.cases or f"{name}_ed" in self.cases:
            name = f"{image.parent.name}_{name}"
        source = CaseSource(name=name, image=image, split=split, group=self._group(entry, name))
        try:
            made = frame_sources(source, self._labels(entry, split, name), entry.get("frame"), entry.get("frames"))
        except ValueError as error:
            raise _invalid(path, f"the case {name}: {error}") from error
        self._names_of_file[image] = [case.name for case in made]
        self.cases.update({case.name: case for case in made})

    def pairs(self, entries: list[Any], split: Split, path: Path) -> tuple[tuple[str, str], ...]:
        """Pairs of known cases; the images of validation and test pairs move to that split, as Learn2Reg means it."""
        found = []
        for entry in entries:
            if not isinstance(entry, Mapping) or not all(isinstance(entry.get(n), str) for n in ("fixed", "moving")):
                raise _invalid(path, f"a pair has no texts under 'fixed' and 'moving': {str(entry)[:80]}")
            images = [self._path(entry[role]) for role in ("fixed", "moving")]
            for image in images:
                if image not in self._names_of_file and image not in self._absent:
                    self.add(str(image), split, path)
            names = [self._names_of_file.get(image, []) for image in images]
            if len(names[0]) == len(names[1]) == 1:
                found.append((names[0][0], names[1][0]))
        if split != "train":
            for name in {name for pair in found for name in pair}:
                self.cases[name] = replace(self.cases[name], split=split)
        return tuple(pair for pair in found if {self.cases[name].split for name in pair} == {split})

    def compare_count(self, stated: Any) -> None:
        """Note where the description counts another number of cases than it lists."""
        if type(stated) is int and stated != self._training_entries:
            self.problems.append(
                Problem(
                    severity="warning",
                    code="case-count-differs",
                    text=f"numTraining is {stated}, but {self._training_entries} training cases are listed.",
                    hint="Check whether the list is complete, then correct the number.",
                )
            )

    def _labels(self, entry: Mapping[str, Any], split: Split, name: str) -> Path | dict[str, Path] | None:
        """The label file of an entry, or one for each frame; those that are missing are noted and left out."""
        stated = entry.get("label")
        if isinstance(stated, Mapping):
            files = {str(role): self._path(str(file)) for role, file in stated.items()}
            return {
                role: file
                for role, file in files.items()
                if self._is_there(file, split, f"The labelmap of the case {name} ({role})")
            }
        if not isinstance(stated, str) or not stated:
            return None
        file = self._path(stated)
        return file if self._is_there(file, split, f"The labelmap of the case {name}") else None

    def _path(self, stated: str) -> Path:
        """Where a file is; links keep their own names."""
        return Path(os.path.normpath(self.root / stated))

    def _is_there(self, file: Path, split: Split, what: str) -> bool:
        if file.is_file():
            return True
        self._absent.add(file)
        self.problems.append(
            Problem(
                severity="warning" if split == "test" else "error",
                code="file-not-found",
                text=f"{what} is missing: {file}.",
                hint="Complete the folder, or take the entry out of dataset.json.",
                cases=(stem_of(file),),
            )
        )
        return False

    def _listed_twice(self, image: Path, split: Split) -> None:
        before = self.cases[self._names_of_file[image][0]]
        leak = before.split != split
        self.problems.append(
            Problem(
                severity="error" if leak else "warning",
                code="leak-between-splits" if leak else "case-listed-twice",
                text=f"The image {image.name} is listed twice: in '{before.split}' and in '{split}'.",
                hint="Keep one of the entries; only the first one counts.",
                cases=(before.name,),
            )
        )

    def _group(self, entry: Mapping[str, Any], name: str) -> str:
        if (stated := entry.get("patient")) not in (None, ""):
            return str(stated)
        match = _SCAN_OF_PATIENT.fullmatch(name) if self.learn2reg else None
        return match.group(1) if match else name


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise FileError(
            "file-not-readable", f"The file {path} cannot be opened.", "Check that you may read it."
        ) from error
    except ValueError as error:
        raise _invalid(path, f"it is not JSON ({error})") from error
    if not isinstance(content, dict) or not any(name in content for name, _ in (*_LISTS, *_PAIR_LISTS)):
        raise _invalid(path, "it has no list 'training', 'validation', 'test' or 'registration_val'")
    return content


def _list(content: Mapping[str, Any], name: str, path: Path) -> list[Any]:
    value = content.get(name, [])
    if not isinstance(value, list):
        raise _invalid(path, f"'{name}' is not a list")
    return value


def _label_names(labels: Any) -> dict[int, str]:
    """Names by value from {"1": "liver"}, {"liver": 1} or, with one dictionary for each modality, their union."""
    names: dict[int, str] = {}
    if isinstance(labels, Mapping):
        for key, value in labels.items():
            if isinstance(value, Mapping):
                names |= _label_names(value)
            elif isinstance(value, str) and str(key).isdigit():
                names[int(key)] = value
            elif type(value) is int:
                names[value] = str(key)
    return {value: name for value, name in names.items() if value > 0}


def _invalid(path: Path, reason: str) -> FileError:
    return FileError(
        "dataset-json-invalid",
        f"The description {path} cannot be used: {reason}.",
        "Correct it; docs/datasets.md shows what it may hold.",
    )
