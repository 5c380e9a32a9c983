"""What tests of preparing datasets share: a quick configuration, a listener, and the bytes that came out."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "data"))

from dataset_folder import KERNELS, described_folder, egg, plain_folder, write_series

from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.dataset_configs import PreparationConfig
from autofuse_engine.dataset_preparation import prepare_dataset
from autofuse_engine.events import Event, Progress, Warning

__all__ = [
    "KERNELS",
    "QUICK",
    "ROOT",
    "Told",
    "contents",
    "described_folder",
    "egg",
    "plain_folder",
    "prepare",
    "write_series",
]

QUICK = PreparationConfig(alignment="none", spacing_mm=(2.5, 2.0, 2.2))
ROOT = Path(__file__).resolve().parents[2]


def contents(folder: Path) -> dict[str, bytes]:
    """Every array and the manifest; the records of steps hold times of files, which differ between copies."""
    paths = [*folder.glob("images/*"), *folder.glob("labels/*"), folder / "manifest.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


class Told:
    """Collects events: how often each step was done, and what was warned of."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def steps(self) -> dict[str, int]:
        return dict(Counter(event.stage for event in self.events if isinstance(event, Progress)))

    @property
    def warnings(self) -> set[str]:
        return {event.code for event in self.events if isinstance(event, Warning)}


def prepare(source: Path, output: Path, config: PreparationConfig = QUICK, **more: Any) -> tuple[PreparedDataset, Told]:
    told = Told()
    return prepare_dataset(source, output, config, report=told, jobs=more.pop("jobs", 1), **more), told
