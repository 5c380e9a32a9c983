"""Opens a dataset of any known layout: what it consists of and how its labels are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from autofuse_engine.data.cases import Dataset
from autofuse_engine.data.dataset_folders import is_acdc, is_plain_folder, read_acdc, read_plain_folder
from autofuse_engine.data.dataset_json import read_dataset_json
from autofuse_engine.data.tables import read_table, whole_number
from autofuse_engine.errors import FileError

LABEL_NAMES = "label_names.csv"


def open_dataset(path: str | Path) -> Dataset:
    """Find out what a dataset consists of; no image is read.

    Args:
        path: a folder with ``dataset.json`` (or one ``*_dataset.json``), with ``images``, or with patients' folders
            as ACDC has them; or the description itself.

    Raises:
        FileError: ``dataset-not-found``, ``dataset-unknown-layout``, ``dataset-empty``, ``dataset-json-invalid``,
            ``table-invalid``, ``file-not-readable``.
    """
    path = Path(path)
    if not path.exists():
        raise FileError("dataset-not-found", f"There is no dataset {path}.", "Check the path and the spelling.")
    dataset = _opened(path)
    if not dataset.cases and not dataset.problems:
        raise FileError("dataset-empty", f"The dataset {path} lists no cases.", "Add images to it.")
    names = dataset.root / LABEL_NAMES
    if names.is_file():
        dataset = replace(dataset, label_names={**read_label_names(names), **dataset.label_names})
    return replace(dataset, about={"name": dataset.root.resolve().name, **dataset.about})


def read_label_names(path: Path) -> dict[int, str]:
    """Names by label value from a table with the columns value (or index, id, label) and name.

    Raises:
        FileError: ``table-invalid``.
    """
    rows = read_table(path, (("value", "index", "id", "label"), ("name", "code")))
    named = {whole_number(row["value"], path, number): row["name"] for number, row in enumerate(rows, start=1)}
    return {value: name for value, name in named.items() if value > 0 and name}


def _opened(path: Path) -> Dataset:
    if path.is_file():
        return read_dataset_json(path)
    descriptions = [path / "dataset.json"] if (path / "dataset.json").is_file() else sorted(path.glob("*_dataset.json"))
    if len(descriptions) == 1:
        return read_dataset_json(descriptions[0])
    if len(descriptions) > 1:
        names = ", ".join(description.name for description in descriptions)
        raise FileError(
            "dataset-unknown-layout",
            f"The folder {path} holds several descriptions: {names}.",
            "Name the one that you mean instead of the folder.",
        )
    if is_plain_folder(path):
        return read_plain_folder(path)
    if is_acdc(path):
        return read_acdc(path)
    raise FileError(
        "dataset-unknown-layout",
        f"The folder {path} is not a dataset: it has no dataset.json, no folder 'images', and no patients' folders "
        "with Info.cfg.",
        "Put the images into a folder 'images' (and labelmaps of the same names into 'labels'); see docs/datasets.md.",
    )
