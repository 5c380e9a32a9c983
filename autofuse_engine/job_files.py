"""The result folder of a terminal run: all files appear together at the end, or none does."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from autofuse_engine.data.atomic import write_error
from autofuse_engine.data.files import write_volume
from autofuse_engine.data.transform import SpatialTransform
from autofuse_engine.data.transform_files import write_transform
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import FileError
from autofuse_engine.events import finite
from autofuse_engine.registration import RegistrationResult

REPORT = "report.json"
OVERVIEW = "overview.png"
TRANSFORM_FORMATS = ("h5", "nii.gz", "nrrd")
_IMAGES = (
    "warped",
    "warped_labels",
    "jacobian",
    "displacement_magnitude",
    "uncertainty",
    "fixed_segmentation",
    "moving_segmentation",
    "regularity_weight",
)
RESULT_NAMES = (
    *(f"{name}.{ending}" for name in ("transform", "inverse") for ending in TRANSFORM_FORMATS),
    *(f"{name}.nii.gz" for name in _IMAGES),
    OVERVIEW,
    REPORT,
)
"""Every name that a run may leave in its folder; names of an earlier run that the new one lacks are removed."""


class ResultFolder:
    """A folder that receives a run's files at once: write below :attr:`partial`, then :meth:`commit`.

    Used as a context manager. Entering makes ``folder`` and a hidden folder inside it, which proves before any
    computation that results can be written; leaving without :meth:`commit`, for whatever reason, removes what was
    made. Files of an earlier run stay untouched until :meth:`commit`.

    Attributes:
        folder: where the files end up.
        partial: where they are written first.

    Raises:
        FileError: ``output-not-writable`` on entering.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.partial = self.folder
        self._made: list[Path] = []

    def __enter__(self) -> ResultFolder:
        missing = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        try:
            self._made = missing
            self.folder.mkdir(parents=True, exist_ok=True)
            self.partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.folder))
        except OSError as error:
            self._remove_empty()
            raise FileError(
                "output-not-writable",
                f"Nothing can be written into the output folder {self.folder}.",
                "Choose another folder with -o, or make this one writable.",
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)
        self._remove_empty()

    def commit(self) -> dict[str, Path]:
        """Move every file to its final name; ``report.json`` leaves first and arrives last.

        So a folder that holds ``report.json`` holds the whole result of one run, even after a power cut.

        Returns:
            Final path by file name.

        Raises:
            FileError: ``output-in-use`` if a file of an earlier run cannot be replaced.
        """
        names = sorted((path.name for path in self.partial.iterdir()), key=lambda name: (name == REPORT, name))
        current = self.folder / REPORT
        try:
            current.unlink(missing_ok=True)
            for name in names:
                current = self.folder / name
                (self.partial / name).replace(current)
            for name in set(RESULT_NAMES) - set(names):
                current = self.folder / name
                current.unlink(missing_ok=True)
        except OSError as error:
            raise FileError(
                "output-in-use",
                f"The file {current} of an earlier run cannot be replaced.",
                "Close the program that has it open, or choose another folder with -o.",
            ) from error
        return {name: self.folder / name for name in names}

    def _remove_empty(self) -> None:
        for path in self._made:
            try:
                path.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                return


def save_result(
    result: RegistrationResult, moving: Volume, folder: Path, transform_format: str, done: Callable[[float], None]
) -> None:
    """Write transforms and images of a result below ``folder``.

    Args:
        result: what ``register`` returned.
        moving: the moving image; its grid carries the displacement field of an inverse that has no grid of its own.
        folder: exists; files get the names of :data:`RESULT_NAMES`.
        transform_format: one of :data:`TRANSFORM_FORMATS`.
        done: called with the share that is written, in [0, 1]; may raise to stop.

    Raises:
        FileError: if the disk is full or not writable.
    """
    images = {name: volume for name in _IMAGES if (volume := getattr(result, name)) is not None}
    steps = 2 + len(images)
    _save_transform(folder / f"transform.{transform_format}", result.transform, result.warped)
    done(1 / steps)
    _save_transform(folder / f"inverse.{transform_format}", result.inverse, moving)
    for number, (name, volume) in enumerate(images.items(), start=2):
        done(number / steps)
        write_volume(folder / f"{name}.nii.gz", volume)
    done(1.0)


def _save_transform(path: Path, transform: SpatialTransform, place: Volume) -> None:
    """A transform without a grid of its own lies on the grid of ``place`` where the format is a displacement field."""
    write_transform(path, transform, reference=place if transform.matrix_ras is not None else None)


def save_report(report: dict[str, Any], folder: Path) -> None:
    """Write the report as ``report.json``; numbers that are not finite become null.

    Raises:
        FileError: if the disk is full or not writable.
    """
    path = folder / REPORT
    try:
        path.write_text(json.dumps(finite(report), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise write_error(path, error) from error
