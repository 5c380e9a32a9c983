"""Models on disk: weights as ``NAME.safetensors`` beside their card ``NAME.json``; no pickle is ever opened."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as format_safetensors
from torch import Tensor, nn

from autofuse_engine.data.atomic import replacing
from autofuse_engine.errors import ModelError
from autofuse_engine.model_card import (
    ModelCard,
    Storage,
    WeightsFile,
    card_text,
    check_identity,
    model_files,
    read_card,
)
from autofuse_engine.networks.build import build_network
from autofuse_engine.networks.network import RegistrationNetwork

_DTYPES: Mapping[Storage, torch.dtype] = {"float32": torch.float32, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A loaded checkpoint.

    Attributes:
        card: what the model is, what it is for, and the checksum of its weights.
        network: float32, on the CPU, in eval mode; ``networks.build.network_for_inference`` sets it up to run.
    """

    card: ModelCard
    network: RegistrationNetwork


def save_checkpoint(network: nn.Module, card: ModelCard, folder: str | Path, storage: Storage = "float32") -> Path:
    """Write ``folder/NAME.safetensors`` and ``folder/NAME.json``, each whole or not at all.

    Args:
        network: what ``build_network(card.network)`` builds.
        card: its ``weights`` are replaced by the identity of the file written.
        folder: made where absent.
        storage: number format of the weights; float16 halves the file and rounds to 11 bits.

    Returns:
        The path of the weights file.

    Raises:
        ModelError: ``model-tensors`` or ``model-not-finite`` if the weights do not fit the card or the storage.
        FileError: if the folder cannot be written.
    """
    weights_path, card_path = model_files(Path(folder) / f"{card.name}.safetensors")
    tensors = {
        name: tensor.detach().to("cpu", _DTYPES[storage]).contiguous() for name, tensor in network.state_dict().items()
    }
    _check_tensors(card.name, tensors, card)
    data = format_safetensors(tensors)
    weights = WeightsFile(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data), storage=storage)
    weights_path.parent.mkdir(parents=True, exist_ok=True)
    # Weights first: a card never describes weights that were not written yet.
    with replacing(weights_path, needed_bytes=len(data)) as temporary:
        temporary.write_bytes(data)
    with replacing(card_path) as temporary:
        temporary.write_text(card_text(replace(card, weights=weights)), encoding="utf-8")
    return weights_path


def load_checkpoint(path: str | Path) -> Model:
    """Read a model and check it against its card.

    Args:
        path: the weights file, the card, or their common stem.

    Raises:
        ModelError: ``model-not-found``, ``model-unsafe-format``, ``model-card-missing``, ``model-card-invalid``,
            ``model-card-too-new``, ``model-truncated``, ``model-checksum``, ``model-tensors``, ``model-not-finite``.
    """
    weights_path, card_path = model_files(path)
    data = _read(weights_path)
    card = read_card(card_path)
    check_identity(weights_path.name, card, len(data), hashlib.sha256(data).hexdigest())
    try:
        tensors = parse_safetensors(data)
    except safetensors.SafetensorError as error:
        raise ModelError(
            "model-unsafe-format",
            f"{weights_path.name} is not a safetensors file.",
            "Only safetensors models are opened; convert official AutoFuse weights with 'autofuse models import'.",
        ) from error
    network = _check_tensors(weights_path.name, tensors, card)
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return Model(card=card, network=network.eval())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            "model-not-found",
            f"The model file {path} cannot be read.",
            "Check the path, or list the models with 'autofuse models list'.",
        ) from error


def _check_tensors(name: str, tensors: Mapping[str, Tensor], card: ModelCard) -> RegistrationNetwork:
    """The network that the card describes, without memory for weights; raise where the tensors are not exactly its."""
    with torch.device("meta"):
        network = build_network(card.network)
    expected = network.state_dict()
    problems = [f"{key} is missing" for key in expected if key not in tensors]
    problems += [f"{key} is not expected" for key in tensors if key not in expected]
    for key in [key for key in expected if key in tensors]:
        if tensors[key].shape != expected[key].shape:
            problems.append(f"{key} has the shape {list(tensors[key].shape)}, not {list(expected[key].shape)}")
        elif not tensors[key].is_floating_point():
            problems.append(f"{key} holds {tensors[key].dtype}, not floating point numbers")
    if problems:
        more = f", and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise ModelError(
            "model-tensors",
            f"The weights {name} do not fit the network of their card: {', '.join(sorted(problems)[:4])}{more}.",
            "Use the weights and the card of one and the same model.",
        )
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise ModelError(
            "model-not-finite",
            f"The weights {name} hold numbers that are infinite or undefined.",
            "Use float32 storage, or an earlier checkpoint of the training run.",
        )
    return network
