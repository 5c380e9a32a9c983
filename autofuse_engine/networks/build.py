"""From a configuration to a network: the one place that chooses, prepares and describes architectures."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import torch
from torch import nn

from autofuse_engine.configs import NETWORKS, NetworkConfig
from autofuse_engine.errors import DeviceError
from autofuse_engine.networks import lean
from autofuse_engine.networks.autofuse import AutoFuse
from autofuse_engine.networks.fusion import FusionGate, FusionSum, LargeKernels, NoFusion
from autofuse_engine.networks.heads import FieldHead
from autofuse_engine.networks.network import RegistrationNetwork
from autofuse_engine.networks.pair_network import PairNetwork
from autofuse_engine.networks.paths import (
    DOUBLING_FACTORS,
    LEVELS,
    LEVELS_TO_THE_TOP,
    Path,
    convolutional_path,
    siamese_path,
    stage_widths,
)
from autofuse_engine.networks.regularizer import Conditioning, WeightHead
from autofuse_engine.networks.segmentation import SegmentationHead
from autofuse_engine.networks.swin import swin_path, swin_widths
from autofuse_engine.networks.voxelmorph import SIZES, voxelmorph_path, voxelmorph_width

Precision = Literal["float32", "bfloat16"]
Network = TypeVar("Network", bound=nn.Module)


def build_network(config: NetworkConfig) -> RegistrationNetwork:
    """A network with fresh weights, on the current default device, in training mode."""
    if config.kind in ("autofuse", "autofuse-trans"):
        return _autofuse(config)
    if config.kind in SIZES:
        size = SIZES[config.kind]
        head = FieldHead(voxelmorph_width(size, config.channels), shared=False, displacement=_is_displacement(config))
        return PairNetwork(voxelmorph_path(size, config.channels), head)
    return _pair_network(config)


def _autofuse(config: NetworkConfig) -> AutoFuse:
    base, geometry = config.channels, config.align_corners
    maps = 2 if config.classes and config.input_fusion else 0
    levels = LEVELS_TO_THE_TOP if config.classes else LEVELS
    if config.kind == "autofuse-trans":
        widths = swin_widths(4 * base)
        pair_path = swin_path(2 + maps, 4 * base, config.small_windows)
        # A segmentation needs full resolution, which convolutions reach: section 3.3 of the paper.
        single = (
            convolutional_path(1, base, levels, DOUBLING_FACTORS, align_corners=geometry)
            if config.classes
            else swin_path(1, 2 * base, config.small_windows)
        )
    else:
        widths = stage_widths(2 * base)
        pair_path = convolutional_path(2 + maps, 2 * base, align_corners=geometry)
        single = convolutional_path(1, base, levels, align_corners=geometry)
    fused = [width for width, level in zip(widths, pair_path.levels, strict=True) if level > 0]
    hard = config.segmentation_code == "hard"
    return AutoFuse(
        single_image_path=single,
        pair_path=pair_path,
        fusions=[_fusion(width, config) for width in fused],
        head=FieldHead(widths[-1], displacement=_is_displacement(config)),
        segmentation=SegmentationHead(base, config.classes, hard=hard) if config.classes else None,
        input_fusion=config.input_fusion,
        weight_head=WeightHead(widths[-1], align_corners=geometry) if config.varying_regularity else None,
        conditioning=Conditioning([*widths, widths[-1]]) if config.conditional else None,
    )


def _fusion(channels: int, config: NetworkConfig) -> nn.Module:
    if config.fusion == "none":
        return NoFusion()
    output = LargeKernels(channels) if config.large_kernels else nn.Identity()
    return FusionGate(channels, output) if config.fusion == "gate" else FusionSum(channels, output)


def _pair_network(config: NetworkConfig) -> PairNetwork:
    base, geometry = config.channels, config.align_corners
    width, matching = stage_widths(base)[-1], None
    if config.kind == "early-fuse":
        path = convolutional_path(2, base, align_corners=geometry)
    else:
        is_late = config.kind == "late-fuse"
        path = siamese_path(base, shared_decoder=is_late, align_corners=geometry)
        if is_late:
            matching = nn.Conv3d(2 * width, width, kernel_size=3, padding=1)
        else:
            width *= 2
    return PairNetwork(path, FieldHead(width, displacement=_is_displacement(config)), matching)


def _is_displacement(config: NetworkConfig) -> bool:
    return config.field == "displacement"


def network_for_inference(network: Network, precision: Precision, device: str | torch.device) -> Network:
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
    for module in network.modules():
        if isinstance(module, FieldHead):
            module.keep_digits()
    return network


def describe_networks() -> list[dict[str, Any]]:
    """Each network of ``configs.NETWORKS``: name, kind, parameters, float32_mb, levels, description."""
    return [describe_network(name, config) for name, config in NETWORKS.items()]


def describe_network(name: str, config: NetworkConfig) -> dict[str, Any]:
    """Facts on one architecture; builds it without memory for its weights."""
    with torch.device("meta"):
        network = build_network(config)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {
        "name": name,
        "kind": config.kind,
        "parameters": parameters,
        "float32_mb": round(4 * parameters / 1e6, 1),
        "levels": len({level for path in network.modules() if isinstance(path, Path) for level in path.levels}),
        "description": _description(config),
    }


_PATHS = {
    "autofuse": "convolutional, single-image and pair paths",
    "autofuse-trans": "Swin transformer, single-image and pair paths",
    "early-fuse": "convolutional, one path on both images",
    "mid-fuse": "convolutional, one encoder for each image, one decoder for both",
    "late-fuse": "convolutional, one path for each image, fused at its end",
    "voxelmorph-1": "VoxelMorph, the smaller network of its paper",
    "voxelmorph-2": "VoxelMorph, the larger network of its paper",
    "voxelmorph-diff": "VoxelMorph, diffeomorphic",
}
_FUSIONS = {"gate": "fusion gates", "sum": "sums instead of fusion gates", "none": "no fusion of features"}


def _description(config: NetworkConfig) -> str:
    parts = [_PATHS[config.kind]]
    if config.kind in ("autofuse", "autofuse-trans"):
        kernels = "" if config.fusion == "none" else f" {'with' if config.large_kernels else 'without'} large kernels"
        parts.append(_FUSIONS[config.fusion] + kernels)
    if config.classes:
        parts.append(
            f"segments {config.classes} classes" + ("" if config.input_fusion else ", unseen by the pair path")
        )
    if config.field == "displacement":
        parts.append("predicts the displacement")
    if config.varying_regularity:
        parts.append("learns how much smoothness counts where")
    if config.conditional:
        parts.append("smoothness chosen at prediction")
    return ", ".join(parts)
