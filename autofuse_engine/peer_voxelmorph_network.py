"""VoxelMorph's own network (the package ``voxelmorph`` 0.3 with ``neurite``), and its weights with their facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autofuse_engine.configs import Config
from autofuse_engine.errors import FileError
from autofuse_engine.model_card import Preprocessing
from autofuse_engine.networks.network import NetworkOutput
from autofuse_engine.peer_packages import load_peer
from autofuse_engine.training_state import read_state, restore, write_state

_LEAKINESS = 0.2
_KIND = "voxelmorph-peer"


@dataclass(frozen=True, kw_only=True)
class VoxelMorphConfig(Config):
    """Widths and integration of ``voxelmorph.nn.models.VxmPairwise``.

    ``encoder`` and ``decoder`` have one width for each level, from the finest to the coarsest and back; the images'
    sides are multiples of ``2 ** levels``. The defaults are the widths of the papers as far as this network can take
    them (docs/decisions/0100).
    """

    encoder: tuple[int, ...] = (16, 32, 32, 32)
    decoder: tuple[int, ...] = (32, 32, 32, 32)
    integration_steps: int = 7

    def __post_init__(self) -> None:
        for name in ("encoder", "decoder"):
            widths = getattr(self, name)
            good = len(widths) >= 1 and all(type(width) is int and width >= 1 for width in widths)
            _require(good, f"{name} holds whole numbers of at least 1", widths)
        _require(len(self.encoder) == len(self.decoder), "encoder and decoder have as many levels", self.decoder)
        steps = self.integration_steps
        _require(type(steps) is int and 1 <= steps <= 12, "integration_steps is a whole number of 1..12", steps)

    @property
    def size_multiple(self) -> int:
        """Every side of the input is a multiple of this: each level halves it."""
        return 2 ** len(self.encoder)


@dataclass(frozen=True, kw_only=True, eq=False)
class VoxelMorphWeights:
    """A trained network on its device, and what its images were turned into."""

    network: nn.Module
    config: VoxelMorphConfig
    preprocessing: Preprocessing
    facts: Mapping[str, Any] = field(default_factory=dict)


def build_voxelmorph(config: VoxelMorphConfig) -> nn.Module:
    """The package's network for two images of one channel each; weights from torch's global generator.

    Raises:
        InputError: ``peer-not-installed``.
    """
    return load_peer("voxelmorph").nn.models.VxmPairwise(
        ndim=3,
        source_channels=1,
        target_channels=1,
        nb_features=(config.encoder, config.decoder),
        activations=nn.LeakyReLU(_LEAKINESS),
        integration_steps=config.integration_steps,
    )


def predicted_velocity(network: nn.Module, fixed: Tensor, moving: Tensor) -> Tensor:
    """``(1, 3, D, H, W)``, voxels, channel c along tensor axis ``c + 2``; the network takes the moving image first."""
    return network(moving, fixed, return_field_type="velocity")


def integrated(network: Any, velocity_vox: Tensor) -> Tensor:
    """The package's own integration, at full resolution: ``warped(x) = moving(x + displacement(x))``, voxels."""
    return network.velocity_field_integrator(velocity_vox)


class AsOurs(nn.Module):
    """The peer behind the call of our networks, so that the same validation judges both."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, fixed: Tensor, moving: Tensor) -> NetworkOutput:
        """A displacement at full resolution, voxels; images are ``(1, 1, D, H, W)`` in [0, 1]."""
        displacement = integrated(self.network, predicted_velocity(self.network, fixed, moving))
        return NetworkOutput(velocity_mean=displacement, velocity_log_variance=None, is_displacement=True)


def write_voxelmorph(
    path: Path, network: nn.Module, config: VoxelMorphConfig, preprocessing: Preprocessing, facts: Mapping[str, Any]
) -> None:
    """Write the weights whole or not at all, with what is needed to use them.

    Raises:
        FileError: ``output-not-writable`` or ``disk-full``.
    """
    content = {"kind": _KIND, "config": config.to_dict(), "preprocessing": preprocessing.to_dict(), **facts}
    write_state(path, network, None, content)


def read_voxelmorph(path: Path, device: torch.device) -> VoxelMorphWeights:
    """A network that ``train_voxelmorph`` trained, in eval mode.

    Raises:
        FileError: ``peer-weights-invalid``.
        InputError: ``peer-not-installed``.
    """
    if not path.is_file():
        raise _invalid(path, "there is no such file")
    try:
        tensors, facts = read_state(path)
    except FileError as error:
        raise _invalid(path, "it is no file of weights of this engine") from error
    try:
        if facts.get("kind") != _KIND:
            raise ValueError("it holds another network")
        config = VoxelMorphConfig.from_dict(facts["config"])
        preprocessing = Preprocessing.from_dict(facts["preprocessing"])
    except (KeyError, TypeError, ValueError) as error:
        raise _invalid(path, str(error)) from error
    network = build_voxelmorph(config)
    try:
        restore(path, tensors, network)
    except FileError as error:
        raise _invalid(path, "its tensors are those of another network") from error
    return VoxelMorphWeights(network=network.to(device).eval(), config=config, preprocessing=preprocessing, facts=facts)


def _invalid(path: Path, reason: str) -> FileError:
    return FileError(
        "peer-weights-invalid",
        f"The weights {path} cannot be used for the method voxelmorph: {reason}.",
        "Train them with Testing/benchmarks/train_voxelmorph_peer.py, and name them with voxelmorph@weights=FILE.",
    )


def _require(condition: bool, rule: str, received: object) -> None:
    if not condition:
        raise ValueError(f"{rule}, received {received!r}")
