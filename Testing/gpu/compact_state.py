"""A checkpoint in a quarter of its size, so that a training can travel: near-exact, not bit-exact.

A checkpoint of training holds three float32 numbers a weight: itself and the two moments of Adam. Here the weight is a
float16 (as in the models that ship). The second moment, which scales every step, is one byte: its logarithm in 254
steps between the tensor's least and largest value, 0 for 0 (8-bit optimizers: Dettmers et al., ICLR 2022, arXiv
2110.02861). The first moment is left out: it remembers about ten steps and grows back in as many, while the steps
meanwhile are smaller, never larger.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

_HEADER = "autofuse"
_FIRST, _SECOND, _STEP = "optimizer.exp_avg.", "optimizer.exp_avg_sq.", "optimizer.step."
_LEVELS = 254


def compact(checkpoint: Path, small: Path) -> None:
    """Write the compact form of ``checkpoints/last.safetensors`` of a run."""
    tensors, header = _read(checkpoint)
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(_FIRST):
            continue
        if name.startswith(_SECOND):
            kept[name], kept[f"range.{name}"] = _logarithms(tensor)
        else:
            kept[name] = tensor if name.startswith(_STEP) else tensor.half()
    save_file(kept, small, header)


def expand(small: Path, checkpoint: Path) -> None:
    """Write a checkpoint that training can resume from."""
    tensors, header = _read(small)
    full: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(_SECOND):
            full[name] = _from_logarithms(tensor, tensors[f"range.{name}"])
            full[_FIRST + name.removeprefix(_SECOND)] = torch.zeros_like(full[name])
        elif not name.startswith("range."):
            full[name] = tensor if name.startswith(_STEP) else tensor.float()
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    save_file(full, checkpoint, header)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as stream:
        header = stream.metadata() or {}
        json.loads(header[_HEADER])  # a file without facts is no checkpoint
        names = list(stream.keys())
        return {name: stream.get_tensor(name) for name in names}, header


def _logarithms(values: Tensor) -> tuple[Tensor, Tensor]:
    """Bytes 1 to 255 for the logarithms between the least and the largest value above 0, and that range."""
    positive = values[values > 0]
    if positive.numel() == 0:
        return torch.zeros(values.shape, dtype=torch.uint8), torch.zeros(2)
    low, high = positive.min().log(), positive.max().log()
    place = (values.clamp(min=float(positive.min())).log() - low) / (high - low).clamp(min=1e-6)
    codes = (place * _LEVELS).round().clamp(0, _LEVELS) + 1
    return torch.where(values > 0, codes, torch.zeros_like(codes)).to(torch.uint8), torch.stack([low, high])


def _from_logarithms(codes: Tensor, limits: Tensor) -> Tensor:
    low, high = limits.unbind()
    values = (low + (codes.float() - 1) / _LEVELS * (high - low)).exp()
    return torch.where(codes > 0, values, torch.zeros_like(values))
