"""Which images and labelmaps a dataset consists of, before any of them is read, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from autofuse_engine.data.files import read_labelmap, read_volume
from autofuse_engine.data.volume import Volume
from autofuse_engine.dataset_configs import Split
from autofuse_engine.errors import AutoFuseError

Severity = Literal["error", "warning", "info"]
IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something about a dataset that its owner should know.

    An ``error`` keeps the dataset from being prepared or makes results on it worthless, a ``warning`` deserves a
    look, an ``info`` is a fact. ``hint`` is the cure; ``cases`` are the names of the cases concerned.
    """

    severity: Severity
    code: str
    text: str
    hint: str = ""
    cases: tuple[str, ...] = ()

    @classmethod
    def from_error(cls, error: AutoFuseError, case: str = "", severity: Severity = "error") -> Problem:
        """The same words as the error has."""
        cases = (case,) if case else ()
        return cls(severity=severity, code=error.code, text=error.text, hint=error.hint, cases=cases)


@dataclass(frozen=True, kw_only=True)
class CaseSource:
    """One 3D image, or one time frame of a 4D image, and its labelmap where there is one.

    ``frame`` and ``label_frame`` count from 0; None where the file is 3D. ``group`` is the patient, ``role`` ``ed``
    or ``es`` for the heart at the end of diastole or systole.
    """

    name: str
    image: Path
    label: Path | None = None
    split: Split = "train"
    group: str = ""
    frame: int | None = None
    label_frame: int | None = None
    role: str | None = None

    def read_image(self) -> Volume:
        """Read the image; errors as :func:`read_volume` raises them."""
        volume = read_volume(self.image, frame=self.frame)
        return volume.with_array(volume.array, name=self.name)

    def read_labelmap(self) -> Volume | None:
        """Read the labelmap; errors as :func:`read_labelmap` raises them."""
        if self.label is None:
            return None
        volume = read_labelmap(self.label, frame=self.label_frame)
        return volume.with_array(volume.array, name=self.name)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A folder of images as its description or its layout says.

    Attributes:
        root: the folder.
        layout: ``learn2reg``, ``decathlon``, ``folder`` or ``acdc``.
        cases: in the order of the description, or by name; every file named was there.
        label_names: name by label value, background left out, as far as given.
        pairs: (fixed, moving) case names that the dataset itself lists, by split.
        about: name, description, licence, reference, modality, as far as given.
        problems: what is wrong with the description, such as files that are missing.
    """

    root: Path
    layout: str
    cases: tuple[CaseSource, ...]
    label_names: Mapping[int, str] = field(default_factory=dict)
    pairs: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def stem_of(path: Path | str) -> str:
    """The file's name without the endings of image files."""
    name = Path(path).name
    ending = next((ending for ending in IMAGE_ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def is_image_name(path: Path) -> bool:
    """Whether the name ends like an image file, hidden files (of macOS, for instance) left aside."""
    return path.name.lower().endswith(IMAGE_ENDINGS) and not path.name.startswith(".")
