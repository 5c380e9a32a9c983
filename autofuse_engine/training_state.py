"""The checkpoints of a run: weights, optimizer and place in the schedule in one file, whole or not at all.

One safetensors file holds everything, so that weights and optimizer cannot come from different steps; the facts are
JSON in its header. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from autofuse_engine.data.atomic import replacing
from autofuse_engine.errors import FileError

_HEADER = "autofuse"
_FORMAT = 1
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_WRITE_ATTEMPTS = 5


def write_state(path: Path, network: nn.Module, optimizer: torch.optim.Adam | None, facts: Mapping[str, Any]) -> None:
    """Write a checkpoint; until it is whole, the one before stays under that name.

    Args:
        path: the ``.safetensors`` file.
        network: its parameters are stored by name.
        optimizer: of exactly this network's parameters; None stores the weights alone.
        facts: what JSON can hold.

    Raises:
        FileError: ``output-not-writable`` or ``disk-full``.
    """
    tensors = {f"network.{name}": _stored(tensor) for name, tensor in network.state_dict().items()}
    if optimizer is not None:
        for name, parameter in network.named_parameters():
            for moment, value in optimizer.state[parameter].items() if parameter in optimizer.state else ():
                tensors[f"optimizer.{moment}.{name}"] = _stored(value)
    data = save(tensors, {_HEADER: json.dumps({"format": _FORMAT, **facts}, ensure_ascii=True)})
    for attempt in range(1, _WRITE_ATTEMPTS + 1):
        try:
            with replacing(path, needed_bytes=len(data)) as temporary, temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())  # a power cut after the renaming must not leave an empty file
            return
        except FileError as error:
            # On Windows another program that reads the old file keeps it from being replaced for an instant.
            if attempt == _WRITE_ATTEMPTS or error.code == "disk-full":
                raise
            time.sleep(0.2 * attempt)


def _stored(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu").contiguous()


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a checkpoint.

    Raises:
        FileError: ``run-checkpoint-missing`` or ``run-checkpoint-invalid``.
    """
    if not path.is_file():
        raise FileError(
            "run-checkpoint-missing", f"There is no checkpoint {path}.", "Let the training run until it writes one."
        )
    try:
        with safe_open(path, "pt") as stream:
            facts = json.loads((stream.metadata() or {})[_HEADER])
            names = list(stream.keys())
            tensors = {name: stream.get_tensor(name) for name in names}
    except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
        raise _invalid(path, str(error) or type(error).__name__) from error
    if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
        raise _invalid(path, "its format is not known")
    return tensors, facts


def restore(
    path: Path, tensors: Mapping[str, Tensor], network: nn.Module, optimizer: torch.optim.Adam | None = None
) -> None:
    """Put what :func:`read_state` read into a network of the same configuration, and into its optimizer.

    Raises:
        FileError: ``run-checkpoint-invalid`` if the tensors are not those of the network.
    """
    weights = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise _invalid(path, "its weights are those of another network") from error
    if optimizer is None:
        return
    for name, parameter in network.named_parameters():
        moments = {moment: tensors.get(f"optimizer.{moment}.{name}") for moment in _MOMENTS}
        if all(value is None for value in moments.values()):
            continue  # it never had a gradient
        step, first, second = moments.values()
        if step is None or first is None or second is None or not first.shape == second.shape == parameter.shape:
            raise _invalid(path, f"the optimizer's state of {name} is damaged")
        # Adam keeps its count of steps on the CPU, unless it is fused.
        optimizer.state[parameter] = {
            "step": step.to(parameter.device) if optimizer.defaults.get("fused") else step,
            "exp_avg": torch.empty_like(parameter).copy_(first),
            "exp_avg_sq": torch.empty_like(parameter).copy_(second),
        }


def _invalid(path: Path, reason: str) -> FileError:
    return FileError(
        "run-checkpoint-invalid",
        f"The checkpoint {path} cannot be used: {reason}.",
        "Delete it to start again from the first step, or restore it from a copy.",
    )
