"""What Slicer's own process needs to know of a prepared dataset, from its manifest; docs/datasets.md describes it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from slicer.i18n import tr as _

from autofuse_engine.errors import FileError

MANIFEST = "manifest.json"
FORMAT = "autofuse-prepared-dataset"


@dataclass(frozen=True, kw_only=True)
class PreparedFolder:
    """A summary.

    Attributes:
        path: the folder.
        name: what the dataset calls itself, or the folder's name.
        labels: names of the labels, background left out.
        splits: number of cases by split.
        labelled: number of training cases that have labels.
        pairedPatients: number of patients with at least two training cases.
        size: voxels along i, j, k.
        spacingMm: likewise.
        licence: of the data, as far as given.
        reference: who is to be cited, as far as given.
    """

    path: Path
    name: str
    labels: tuple[str, ...]
    splits: dict[str, int]
    labelled: int
    pairedPatients: int
    size: tuple[int, int, int]
    spacingMm: tuple[float, float, float]
    licence: str
    reference: str


def readPrepared(folder: str | Path) -> PreparedFolder:
    """Read the manifest.

    Raises:
        FileError: ``prepared-not-found`` or ``prepared-invalid``.
    """
    path = Path(folder) / MANIFEST
    try:
        found = path.stat()
        return _read(path, found.st_mtime_ns, found.st_size)
    except OSError as error:
        raise FileError(
            "prepared-not-found",
            _("The folder {folder} holds no prepared dataset.").format(folder=folder),
            _("Prepare a dataset into it first."),
        ) from error


@lru_cache(maxsize=8)
def _read(path: Path, changed: int, size: int) -> PreparedFolder:
    """Lists of thousands of cases take a while, and the panel asks once a second: read once until the file changes."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        about = content.get("dataset") or {}
        depth, height, width = (int(side) for side in content["shape"])
        training = [case for case in content["cases"] if case["split"] == "train"]
        patients = Counter(str(case.get("group") or case["name"]) for case in training)
        x, y, z = (float(side) for side in content["preprocessing"]["spacing_mm"])
        return PreparedFolder(
            path=path.parent,
            name=str(about.get("name") or path.parent.name),
            labels=tuple(str(label["name"]) for label in content["labels"]),
            splits=dict(Counter(str(case["split"]) for case in content["cases"])),
            labelled=sum(case.get("labelmap") is not None for case in training),
            pairedPatients=sum(count > 1 for count in patients.values()),
            size=(width, height, depth),
            spacingMm=(x, y, z),
            licence=str(about.get("licence") or ""),
            reference=str(about.get("reference") or ""),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(
            "prepared-invalid",
            _("The list of the prepared dataset {path} is damaged.").format(path=path),
            _("Prepare the dataset again; what is good stays."),
        ) from error
