"""Two contrasts and a model that predicts a field: it does without the field where it knows one image alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autofuse_engine import search
from autofuse_engine.checkpoint import save_checkpoint
from autofuse_engine.configs import RegistrationConfig
from autofuse_engine.model_card import read_card
from autofuse_engine.networks.build import build_network
from autofuse_engine.registration import register
from Testing.engine.test_contrast_search import SeeingModels, frame, points_of, scans, seer

__all__ = ["seer"]


def test_it_registers_as_a_model_that_only_lends_labels(seer: Path, tmp_path: Path) -> None:
    card = replace(read_card(seer.with_suffix(".json")), predicts_field=True, refinement_steps=2)
    whole = save_checkpoint(build_network(card.network), card, tmp_path)
    points = points_of(frame())[::5, ::4, ::3].reshape(-1, 3)
    options: dict[str, Any] = {"initial": "none", "device": "cpu"}
    found = [
        register(*scans("moving"), RegistrationConfig(model=str(model), **options), models=SeeingModels())
        for model in (seer, whole)
    ]
    one, two = (result.transform.transform_points(points) for result in found)
    np.testing.assert_array_equal(two, one)
    assert found[1].report["contrast_transfer"]["known"] == "fixed"
    assert found[1].report["refinement"]["steps"] == search.STEPS_WITHOUT_MODEL, "those of its card follow a field"
