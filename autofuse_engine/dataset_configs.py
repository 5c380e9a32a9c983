"""How a dataset is prepared for training: a frozen record, stored whole in the manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from autofuse_engine.configs import Config

DatasetAlignment = Literal["none", "centers", "moments", "rigid", "affine"]
DATASET_ALIGNMENTS: tuple[DatasetAlignment, ...] = ("none", "centers", "moments", "rigid", "affine")
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
PairKind = Literal["any", "labelled", "labelled+unlabelled", "within-group", "listed"]
PAIR_KINDS: tuple[PairKind, ...] = ("any", "labelled", "labelled+unlabelled", "within-group", "listed")
SIDE_MULTIPLE = 16
"""Every side of a prepared image is a multiple of this, as the networks need it."""


@dataclass(frozen=True, kw_only=True)
class LabelRule(Config):
    """The old label value ``old`` becomes ``new`` with the name ``name``; new 0 drops it."""

    old: int
    new: int
    name: str = ""

    def __post_init__(self) -> None:
        for field in ("old", "new"):
            value = getattr(self, field)
            _require(type(value) is int and value >= 0, f"{field} is a whole number of at least 0", value)
        _require(isinstance(self.name, str), "name is text", self.name)


@dataclass(frozen=True, kw_only=True)
class PreparationConfig(Config):
    """How every case of a dataset is brought onto one grid.

    ``reference`` is the name of the case that all others are aligned to, or ``auto`` for the one whose foreground has
    the most usual size. ``spacing_mm`` and ``size`` (voxels) count along i, j, k of the prepared grid; None means the
    median spacing of the cases, and a size that holds the foregrounds and labels of all cases with ``margin_vox`` on
    each side. ``orientation`` names the side of the patient towards which i, j, k grow. Intensities pass the window
    where given, else the percentiles of each image, as the card of a model describes. ``label_rules`` None keeps
    every label, renumbered from 1 without gaps. Where the dataset names no validation cases, ``validation_percent``
    of the groups (patients) are drawn with ``seed``.
    """

    alignment: DatasetAlignment = "affine"
    reference: str = "auto"
    orientation: str = "RAS"
    spacing_mm: tuple[float, float, float] | None = None
    size: tuple[int, int, int] | None = None
    margin_vox: int = 2
    intensity_percentiles: tuple[float, float] = (0.0, 99.5)
    intensity_window: tuple[float, float] | None = None
    label_rules: tuple[LabelRule, ...] | None = None
    validation_percent: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        known = ", ".join(DATASET_ALIGNMENTS)
        _require(self.alignment in DATASET_ALIGNMENTS, f"alignment is one of {known}", self.alignment)
        _require(isinstance(self.reference, str) and self.reference != "", "reference names a case", self.reference)
        axes = {pair for letter in str(self.orientation) for pair in ("RL", "AP", "SI") if letter in pair}
        _require(len(axes) == len(self.orientation) == 3, "orientation is like 'RAS'", self.orientation)
        if self.spacing_mm is not None:
            good = len(self.spacing_mm) == 3 and all(0.05 <= side <= 50 for side in self.spacing_mm)
            _require(good, "spacing_mm is three numbers of 0.05..50", self.spacing_mm)
            object.__setattr__(self, "spacing_mm", tuple(float(side) for side in self.spacing_mm))
        if self.size is not None:
            good = len(self.size) == 3 and all(
                type(side) is int and SIDE_MULTIPLE <= side <= 1024 and side % SIDE_MULTIPLE == 0 for side in self.size
            )
            _require(good, f"size is three multiples of {SIDE_MULTIPLE} up to 1024", self.size)
        _require(0 <= self.margin_vox <= 64, "margin_vox lies in 0..64", self.margin_vox)
        _require(_rises(self.intensity_percentiles, 0, 100), "percentiles rise in 0..100", self.intensity_percentiles)
        if self.intensity_window is not None:
            _require(_rises(self.intensity_window), "intensity_window rises", self.intensity_window)
        if self.label_rules is not None:
            _require_consistent(self.label_rules)
        _require(0 <= self.validation_percent <= 90, "validation_percent is 0..90", self.validation_percent)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> PreparationConfig:
        """Build from a dictionary, label rules included.

        Raises:
            ValueError: if a field is unknown or a value breaks its rule.
        """
        values = dict(content)
        rules = values.pop("label_rules", None)
        made = None if rules is None else tuple(LabelRule.from_dict(rule) for rule in rules)
        plain = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return super().from_dict({**plain, "label_rules": made})

    def checksum(self) -> str:
        """SHA-256 of the canonical JSON form: equal configurations have equal checksums."""
        text = json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def _require(condition: bool, rule: str, received: object) -> None:
    if not condition:
        raise ValueError(f"{rule}, received {received!r}")


def _rises(limits: tuple[float, float], lowest: float = float("-inf"), highest: float = float("inf")) -> bool:
    return len(limits) == 2 and lowest <= limits[0] < limits[1] <= highest


def _require_consistent(rules: tuple[LabelRule, ...]) -> None:
    """One rule for each old value, one name for each new value, and at least one label that stays."""
    olds = [rule.old for rule in rules]
    twice = sorted({old for old in olds if olds.count(old) > 1})
    _require(not twice, "each old label value has one rule", twice)
    names: dict[int, str] = {}
    for rule in rules:
        if rule.new and rule.name:
            known = names.setdefault(rule.new, rule.name)
            _require(known == rule.name, f"the new label {rule.new} has one name ({known})", rule.name)
    _require(any(rule.new for rule in rules), "at least one label keeps a value above 0", [rule.new for rule in rules])
