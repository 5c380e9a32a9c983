"""Tiny trainings for the tests: their configuration, and what two runs must have in common to count as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from autofuse_engine.configs import NetworkConfig
from autofuse_engine.data.manifest import write_manifest
from autofuse_engine.run_folder import RunFolder, read_cells
from autofuse_engine.training_configs import AugmentationConfig, Stage, TrainingConfig
from autofuse_engine.training_state import read_state
from Testing.engine.data.prepared_folder import make_prepared

SHAPE = (16, 32, 16)


def tiny_dataset(folder: Path) -> Path:
    """Five cases to learn from, two of which have no labels, and three to judge on, which have."""
    manifest = make_prepared(folder, train=5, validation=3, shape=SHAPE).manifest
    cases = [replace(case, labelmap=None) if number in (3, 4) else case for number, case in enumerate(manifest.cases)]
    write_manifest(folder, replace(manifest, cases=tuple(cases)))
    return folder


def tiny_config(dataset: Path, **more: Any) -> TrainingConfig:
    """Seven steps of a semi-supervised network on pairs with and without labels, augmented."""
    values: dict[str, Any] = {
        "network": NetworkConfig(channels=2, classes=3, align_corners=False),
        "stages": (Stage(steps=4, pairs="labelled+unlabelled", learning_rate=1e-3), Stage(steps=3, learning_rate=5e-4)),
        "augmentation": AugmentationConfig(rotation_degrees=4, gamma=0.2, noise=0.02, flips="H"),
        "validation_every": 3,
        "validation_pairs": 2,
        "device": "cpu",
        "seed": 5,
    }
    return TrainingConfig(dataset=str(dataset), **(values | more))


def records(folder: Path) -> list[list[dict[str, str]]]:
    """Both tables of a run without the seconds, which no two runs have in common."""
    run = RunFolder(folder)
    tables = [read_cells(run.metrics), read_cells(run.validation)]
    return [[{name: text for name, text in row.items() if name != "seconds"} for row in rows] for rows in tables]


def assert_same_run(one: Path, two: Path) -> None:
    """Every recorded figure, every weight and every moment of the optimizer are equal, bit for bit."""
    assert records(one) == records(two)
    for name in ("last", "best"):
        (first, first_facts), (second, second_facts) = (
            read_state(getattr(RunFolder(folder), name)) for folder in (one, two)
        )
        assert first_facts["place"] == second_facts["place"]
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
