"""Smoothness over its range: the field of a conditional network gets smoother with it, refined or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from autofuse_engine.checkpoint import save_checkpoint
from autofuse_engine.configs import NetworkConfig, RegistrationConfig
from autofuse_engine.data.synthetic import SyntheticPair, make_pair
from autofuse_engine.data.transform import GridStep
from autofuse_engine.model_card import ModelCard, Preprocessing
from autofuse_engine.networks.build import Precision, build_network
from autofuse_engine.networks.network import NetworkOutput
from autofuse_engine.prediction import ModelCache, ReadyModel
from autofuse_engine.registration import register
from autofuse_engine.spatial.smooth import smooth

FACTORS = (0.1, 1.0, 10.0)


class ByHand(torch.nn.Module):
    """In place of a trained conditional network: a rough displacement that shrinks as the code asks for smoothness."""

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor, *, code: torch.Tensor, **_: object) -> NetworkOutput:
        shape = [side // 2 for side in fixed.shape[2:]]
        rough = smooth(torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(4)), 1.2)
        return NetworkOutput(
            velocity_mean=(1 - 0.9 * float(code[0, 1])) * 0.5 * rough / rough.abs().amax(),
            velocity_log_variance=None,
            is_displacement=True,
        )


class ByHandModels(ModelCache):
    """Everything of the model is that of the file but what the network predicts."""

    def get(self, name_or_path: str, device: torch.device, precision: Precision) -> ReadyModel:
        return replace(super().get(name_or_path, device, precision), network=ByHand())


@pytest.fixture(scope="module")
def pair() -> SyntheticPair:
    return make_pair(2, (20, 28, 24))


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    config = NetworkConfig(channels=1, field="displacement", conditional=True)
    card = ModelCard(name="by-hand", network=config, preprocessing=Preprocessing(spacing_mm=(10.0, 9.0, 9.0)))
    return str(save_checkpoint(build_network(config), card, tmp_path_factory.mktemp("models")))


def roughness(pair: SyntheticPair, model: str, steps: int) -> list[float]:
    """Mean squared gradient of the displacement, without unit, for each factor."""
    cache = ByHandModels()
    found = []
    for factor in FACTORS:
        config = RegistrationConfig(model=model, initial="centers", refinement_steps=steps, smoothness=factor)
        result = register(pair.fixed, pair.moving, config, models=cache)
        (step,) = (step for step in result.transform.steps if isinstance(step, GridStep))
        spacing = np.linalg.norm(step.ras_from_ijk[:3, :3], axis=0)[::-1]
        gradients = np.gradient(step.displacement_ras.astype(float), *spacing, axis=(0, 1, 2))
        found.append(float(sum((gradient**2).mean() for gradient in gradients)))
    return found


@pytest.mark.parametrize("steps", [0, 5])
def test_the_field_of_a_conditional_model_is_smoother_the_larger_the_factor(
    pair: SyntheticPair, model_path: str, steps: int
) -> None:
    values = roughness(pair, model_path, steps)
    assert values == sorted(set(values), reverse=True), values
    assert values[-1] < 0.5 * values[0]
