"""From a configuration to a network: the one place that chooses, prepares and describes architectures."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from autofuse_engine.configs import NETWORKS, NetworkConfig
from autofuse_engine.errors import DeviceError
from autofuse_engine.networks import lean
from autofuse_engine.networks.autofuse import AutoFuse, VelocityHead
from autofuse_engine.networks.fusion import FusionGate, LargeKernels
from autofuse_engine.networks.paths import LEVELS, LEVELS_TO_THE_TOP, convolutional_path, stage_widths
from autofuse_engine.networks.segmentation import SegmentationHead

Precision = Literal["float32", "bfloat16"]


def build_network(config: NetworkConfig) -> AutoFuse:
    """A network with fresh weights, on the current default device, in training mode."""
    widths = stage_widths(2 * config.channels)
    levels, segmentation, maps = LEVELS, None, 0
    if config.classes:
        levels, maps = LEVELS_TO_THE_TOP, 2
        segmentation = SegmentationHead(config.channels, config.classes, hard=config.segmentation_code == "hard")
    return AutoFuse(
        single_image_path=convolutional_path(1, config.channels, levels, align_corners=config.align_corners),
        pair_path=convolutional_path(2 + maps, 2 * config.channels, align_corners=config.align_corners),
        gates=[FusionGate(width, _gate_output(width, config)) for width in widths[1:]],
        head=VelocityHead(widths[-1]),
        segmentation=segmentation,
    )


def _gate_output(channels: int, config: NetworkConfig) -> nn.Module:
    return LargeKernels(channels) if config.large_kernels else nn.Identity()


def network_for_inference(network: AutoFuse, precision: Precision, device: str | torch.device) -> AutoFuse:
    """The same network, moved and set up to predict: eval mode, no gradients, weights in ``precision``.

    Works in place, as weights are large; returns the network for convenience. The last convolutions, which give the
    velocity its digits, stay in float32.

    Raises:
        DeviceError: ``precision-not-supported`` for bfloat16 on a CPU without instructions for it.
        ValueError: if the precision is unknown.
    """
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f"precision is float32 or bfloat16, received {precision!r}")
    device = torch.device(device)
    if precision == "bfloat16" and device.type == "cpu" and not lean.has_fast_bfloat16():
        raise DeviceError(
            "precision-not-supported",
            "This computer's CPU has no instructions for bfloat16.",
            "Choose the precision float32, which is faster here.",
        )
    network.eval().requires_grad_(False)
    network.to(device=device, dtype=torch.float32 if precision == "float32" else torch.bfloat16)
    network.head.mean.float()
    network.head.log_variance.float()
    return network


def describe_networks() -> list[dict[str, Any]]:
    """Each network of ``configs.NETWORKS``: name, kind, parameters, float32_mb, levels, description."""
    return [describe_network(name, config) for name, config in NETWORKS.items()]


def describe_network(name: str, config: NetworkConfig) -> dict[str, Any]:
    """Facts on one architecture; builds it without memory for its weights."""
    with torch.device("meta"):
        network = build_network(config)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    gates = "fusion gates with large kernels" if config.large_kernels else "fusion gates without large kernels"
    segments = f", segments {config.classes} classes" if config.classes else ""
    return {
        "name": name,
        "kind": config.kind,
        "parameters": parameters,
        "float32_mb": round(4 * parameters / 1e6, 1),
        "levels": len(set(LEVELS)),
        "description": f"convolutional, single-image and pair paths, {gates}{segments}",
    }
