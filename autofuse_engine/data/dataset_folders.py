"""Datasets without a description: a folder with ``images`` and ``labels``, or patients' folders as ACDC has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from autofuse_engine.data.cases import CaseSource, Dataset, Problem, is_image_name, stem_of
from autofuse_engine.data.frames import ROLES, frame_sources, read_frames_table, read_info_cfg
from autofuse_engine.data.pairs import read_pairs
from autofuse_engine.data.tables import read_table, table_invalid
from autofuse_engine.dataset_configs import SPLITS, Split
from autofuse_engine.errors import FileError

_FOLDERS: tuple[tuple[str, str, Split], ...] = (
    ("images", "labels", "train"),
    ("imagesTr", "labelsTr", "train"),
    ("imagesVal", "labelsVal", "validation"),
    ("imagesTs", "labelsTs", "test"),
)
_INFO = "Info.cfg"
_ACDC_PARTS: tuple[tuple[str, Split], ...] = (("", "train"), ("training", "train"), ("testing", "test"))
_ACDC_LABELS = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}


def is_plain_folder(root: Path) -> bool:
    """Whether there is a folder with images under one of the known names."""
    return any((root / images).is_dir() for images, _, _ in _FOLDERS)


def is_acdc(root: Path) -> bool:
    """Whether there are patients' folders with ``Info.cfg``."""
    return any(_patients(root / part) for part, _ in _ACDC_PARTS)


def read_plain_folder(root: Path) -> Dataset:
    """``images/NAME.nii.gz`` with ``labels/NAME.nii.gz`` where there are labels, and optional tables.

    ``cases.csv`` (case, patient, split), ``frames.csv`` (case, ed, es), ``pairs.csv`` (fixed, moving).

    Raises:
        FileError: ``table-invalid``, ``dataset-empty``.
    """
    problems: list[Problem] = []
    table = root / "frames.csv"
    frames = read_frames_table(table) if table.is_file() else {}
    cases: dict[str, CaseSource] = {}
    listed: set[str] = set()
    for images, labels, split in _FOLDERS:
        images_of, labels_of = _files(root / images, problems), _files(root / labels, problems)
        listed |= set(images_of)
        for name, image in images_of.items():
            unique = name if name not in cases and f"{name}_ed" not in cases else f"{images}_{name}"
            source = CaseSource(name=unique, image=image, split=split)
            for case in _with_frames(source, name, labels_of, frames, table):
                cases[case.name] = case
        used = {case.label for case in cases.values()}
        problems += _labels_without_image([path for path in labels_of.values() if path not in used])
    if not cases:
        raise FileError(
            "dataset-empty",
            f"The folder {root} holds no images.",
            "Put .nii.gz, .nii, .nrrd or .mha files into its folder 'images'.",
        )
    if missing := sorted(set(frames) - listed):
        raise table_invalid(table, f"it names {missing[0]!r}, of which there is no image")
    cases = _with_patients_and_splits(root / "cases.csv", cases)
    return Dataset(
        root=root,
        layout="folder",
        cases=tuple(cases.values()),
        pairs=_pairs(root / "pairs.csv", cases),
        about={"name": root.resolve().name},
        problems=tuple(problems),
    )


def read_acdc(root: Path) -> Dataset:
    """``training/patient001/Info.cfg`` with the frames' own files (``patient001_frame01.nii.gz`` and ``..._gt...``)
    or the 4D image (``patient001_4d.nii.gz``); ``testing`` likewise."""
    cases: list[CaseSource] = []
    problems: list[Problem] = []
    for part, split in _ACDC_PARTS:
        for folder in _patients(root / part):
            numbers = read_info_cfg(folder / _INFO)
            if not numbers:
                problems.append(
                    Problem(
                        severity="error",
                        code="frames-unknown",
                        text=f"The file {folder / _INFO} does not say which frames are ED and ES.",
                        hint="It needs one line 'ED: 1' and one line 'ES: 12', counted from 1.",
                        cases=(folder.name,),
                    )
                )
                continue
            made = _acdc_cases(folder, numbers, split)
            cases += made
            if len(made) < len(ROLES):
                problems.append(
                    Problem(
                        severity="error",
                        code="file-not-found",
                        text=f"The folder {folder} lacks the images of the frames {numbers['ed']} and {numbers['es']}.",
                        hint=f"Complete it, or put {folder.name}_4d.nii.gz there.",
                        cases=(folder.name,),
                    )
                )
    return Dataset(
        root=root,
        layout="acdc",
        cases=tuple(cases),
        label_names=_ACDC_LABELS,
        about={"name": root.resolve().name},
        problems=tuple(problems),
    )


def _acdc_cases(folder: Path, numbers: Mapping[str, int], split: Split) -> list[CaseSource]:
    name = folder.name
    series = next((path for path in sorted(folder.glob("*_4d.nii*")) if path.is_file()), None)
    cases = []
    for role in ROLES:
        own = _first_file(folder, f"{name}_frame{numbers[role]:02d}.nii")
        image = own or series
        if image is not None:
            cases.append(
                CaseSource(
                    name=f"{name}_{role}",
                    image=image,
                    label=_first_file(folder, f"{name}_frame{numbers[role]:02d}_gt.nii"),
                    split=split,
                    group=name,
                    frame=None if own else numbers[role] - 1,
                    role=role,
                )
            )
    return cases


def _first_file(folder: Path, name: str) -> Path | None:
    return next((folder / found for found in (f"{name}.gz", name) if (folder / found).is_file()), None)


def _patients(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"*/{_INFO}")) if folder.is_dir() else []


def _files(folder: Path, problems: list[Problem]) -> dict[str, Path]:
    """Image files of a folder by stem, sorted; of two with one stem the first counts."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_file() and is_image_name(path):
            if stem_of(path) in found:
                problems.append(
                    Problem(
                        severity="warning",
                        code="case-listed-twice",
                        text=f"The files {found[stem_of(path)].name} and {path.name} in {folder} have one name.",
                        hint="Keep one of them; only the first one counts.",
                        cases=(stem_of(path),),
                    )
                )
            found.setdefault(stem_of(path), path)
    return found


def _with_frames(
    source: CaseSource, name: str, labels: Mapping[str, Path], frames: Mapping[str, dict[str, int]], table: Path
) -> list[CaseSource]:
    by_role = {role: labels[f"{name}_{role}"] for role in ROLES if f"{name}_{role}" in labels}
    numbers = frames.get(name)
    try:
        if numbers is None:
            return frame_sources(source, labels.get(name))
        return frame_sources(source, by_role or labels.get(name), frames=numbers)
    except ValueError as error:
        raise table_invalid(table, str(error)) from error


def _labels_without_image(paths: list[Path]) -> list[Problem]:
    return [
        Problem(
            severity="warning",
            code="labels-without-image",
            text=f"The labelmap {path} belongs to no image.",
            hint="Give it the name of its image, or take it away.",
            cases=(stem_of(path),),
        )
        for path in paths
    ]


def _with_patients_and_splits(path: Path, cases: dict[str, CaseSource]) -> dict[str, CaseSource]:
    """Fill in groups, by default each case its own, and splits from ``cases.csv``."""
    made = {name: case if case.group else replace(case, group=name) for name, case in cases.items()}
    if not path.is_file():
        return made
    for number, row in enumerate(read_table(path, (("case", "name"), ("patient", "group", ""), ("split", ""))), 1):
        names = [name for name, case in made.items() if row["case"] in (name, stem_of(case.image))]
        if not names:
            raise table_invalid(path, f"entry {number} names {row['case']!r}, of which there is no image")
        split = row["split"].lower() or made[names[0]].split
        split = {"training": "train", "val": "validation", "testing": "test"}.get(split, split)
        if split not in SPLITS:
            raise table_invalid(path, f"entry {number} has the split {row['split']!r}, not one of {', '.join(SPLITS)}")
        for name in names:
            made[name] = replace(made[name], group=row["patient"] or made[name].group, split=split)
    return made


def _pairs(path: Path, cases: Mapping[str, CaseSource]) -> dict[str, tuple[tuple[str, str], ...]]:
    """The pairs of ``pairs.csv`` by the split of their cases; a pair across splits belongs to none."""
    if not path.is_file():
        return {}
    pairs = read_pairs(path)
    if strangers := [name for pair in pairs for name in pair if name not in cases]:
        raise table_invalid(path, f"it names {strangers[0]!r}, of which there is no image")
    found = {
        split: tuple(pair for pair in pairs if all(cases[name].split == split for name in pair)) for split in SPLITS
    }
    return {split: listed for split, listed in found.items() if listed}
