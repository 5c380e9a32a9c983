"""From a configuration to a network: the one place that chooses, prepares and describes architectures."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from autofuse_engine.configs import NETWORKS, NetworkConfig
from autofuse_engine.networks.autofuse import AutoFuse, VelocityHead
from autofuse_engine.networks.fusion import FusionGate, LargeKernels
from autofuse_engine.networks.paths import LEVELS, convolutional_path, stage_widths

Precision = Literal["float32", "bfloat16"]


def build_network(config: NetworkConfig) -> AutoFuse:
    """A network with fresh weights, on the current default device, in training mode."""
    widths = stage_widths(2 * config.channels)
    return AutoFuse(
        single_image_path=convolutional_path(1, config.channels, align_corners=config.align_corners),
        pair_path=convolutional_path(2, 2 * config.channels, align_corners=config.align_corners),
        gates=[None, *(FusionGate(width, _gate_output(width, config)) for width in widths[1:])],
        head=VelocityHead(widths[-1]),
    )


def _gate_output(channels: int, config: NetworkConfig) -> nn.Module:
    return LargeKernels(channels) if config.large_kernels else nn.Identity()


def network_for_inference(network: nn.Module, precision: Precision, device: str | torch.device) -> nn.Module:
    """The same network, moved and set up to predict: eval mode, no gradients, weights in ``precision``.

    Works in place, as weights are large; returns the network for convenience.
    """
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    network.eval().requires_grad_(False)
    return network.to(device=device, dtype=dtype)


def describe_networks() -> list[dict[str, Any]]:
    """Each network of ``configs.NETWORKS``: name, kind, parameters, float32_mb, levels, description."""
    return [describe_network(name, config) for name, config in NETWORKS.items()]


def describe_network(name: str, config: NetworkConfig) -> dict[str, Any]:
    """Facts on one architecture; builds it without memory for its weights."""
    with torch.device("meta"):
        network = build_network(config)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    gates = "fusion gates with large kernels" if config.large_kernels else "fusion gates without large kernels"
    return {
        "name": name,
        "kind": config.kind,
        "parameters": parameters,
        "float32_mb": round(4 * parameters / 1e6, 1),
        "levels": len(set(LEVELS)),
        "description": f"convolutional, single-image and pair paths, {gates}",
    }
