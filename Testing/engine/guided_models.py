"""A semi-supervised model with weights that matter, saved for tests of guidance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from autofuse_engine.checkpoint import save_checkpoint
from autofuse_engine.configs import NetworkConfig
from autofuse_engine.model_card import ModelCard, Preprocessing
from autofuse_engine.networks.build import build_network

CLASSES = (
    {"value": 0, "name": "background"},
    {"value": 1, "name": "Outer Ring", "labels": [2]},
    {"value": 2, "name": "Core", "labels": [3, 5]},
    {"value": 3, "name": "Größe Rest"},
)


def save_guided_model(
    folder: Path, name: str = "guided", *, entries: Any = CLASSES, label_weight: float | None = None, **network: Any
) -> Path:
    """Write a model of four classes with random weights, far from those of a fresh head; returns the weights file."""
    torch.manual_seed(5)
    config = NetworkConfig(channels=2, **{"classes": 4, **network})
    made = build_network(config)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    for layer in (made.head.mean, made.head.log_variance):  # some millimetres in all, so that the field stays small
        torch.nn.init.normal_(layer.weight, std=0.02)
        torch.nn.init.zeros_(layer.bias)
    card = ModelCard(
        name=name,
        network=config,
        preprocessing=Preprocessing(spacing_mm=(10.0, 10.0, 10.0)),
        training={"classes": list(entries)},
        label_weight=label_weight,
    )
    return save_checkpoint(made, card, folder)
