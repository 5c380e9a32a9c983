"""Turn the weights that the paper's authors published (a ``.pt`` state dict) into a model of ours, by renaming.

The one place where a pickle is opened: by PyTorch's restricted reader, which builds tensors and nothing else.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autofuse_engine import catalog
from autofuse_engine.checkpoint import save_checkpoint
from autofuse_engine.configs import NetworkConfig
from autofuse_engine.errors import ModelError
from autofuse_engine.model_card import IntendedUse, ModelCard, Preprocessing, sha256_of
from autofuse_engine.networks.build import build_network
from autofuse_engine.networks.swin import WINDOW, relative_index
from autofuse_engine.official_names import INDEX_SUFFIX, release_names

CONTAINERS = ("state_dict", "model_state_dict", "model", "network", "net")
"""Keys under which training scripts commonly store a state dict inside of a larger dictionary."""

_SAFE_TORCH = (2, 6)  # Before it, weights_only could be made to run code (CVE-2025-32434).
_FIRST_WEIGHT = "SinglePath.conv_1.Conv_1.weight"
_FIRST_WEIGHT_OF_TRANS = "FusionPath.PatchEmbed.proj.weight"
_TABLE_SUFFIX = ".relative_position_bias_table"
_SEGMENTATION = "seghead.seg_head"  # stands alone or inside of another module
_CITATION = (
    "Meng M, Bi L, Fulham M, Feng D, Kim J. AutoFuse: Automatic fusion networks for deformable medical image "
    "registration. Pattern Recognition, 2024."
)


def import_official(
    path: str | Path,
    name: str,
    folder: str | Path | None = None,
    *,
    overwrite: bool = False,
    preprocessing: Preprocessing | None = None,
    intended_use: IntendedUse | None = None,
) -> Path:
    """Convert an official state dict of AutoFuse or AutoFuse-Trans, with or without ELK and segmentation.

    Args:
        path: the ``.pt`` or ``.pth`` file.
        name: of the new model.
        folder: where it goes; None means the user's models.
        overwrite: whether a model of that name may be replaced.
        preprocessing: of the images that the weights were trained on; the file does not say.
        intended_use: likewise.

    Returns:
        The path of the new weights file.

    Raises:
        ModelError: ``official-unreadable``, ``official-unsafe``, ``official-keys`` for anything unexpected,
            ``model-exists``, ``model-name``.
    """
    path = Path(path)
    weights_path, _ = catalog.files_for(name, folder, overwrite=overwrite)
    state = read_official(path)
    config = infer_config(state)
    network = build_network(config)
    network.load_state_dict(_renamed(state, config))
    card = ModelCard(
        name=name,
        title="Weights of the official AutoFuse release",
        network=config,
        preprocessing=preprocessing or Preprocessing(),
        training={"source": path.name, "source_sha256": sha256_of(path), "imported": "renamed tensor by tensor"},
        licence="That of the official release; ask its authors before you pass the weights on.",
        attribution="Trained and published by the authors of the AutoFuse paper.",
        citation=_CITATION,
        intended_use=intended_use or IntendedUse(),
        not_for=("Clinical decisions",),
    )
    return save_checkpoint(network, card, weights_path.parent)


def read_official(path: Path) -> dict[str, Tensor]:
    """The tensors of an official weights file, by the release's names.

    Raises:
        ModelError: ``official-unreadable``, ``official-unsafe``, ``official-keys`` or ``torch-too-old``.
    """
    if _torch_version() < _SAFE_TORCH:
        raise ModelError(
            "torch-too-old",
            f"PyTorch {torch.__version__} cannot open foreign weights safely.",
            "Update PyTorch to 2.6 or newer for the import; the imported model works with older ones too.",
        )
    if not path.is_file():
        raise ModelError("model-not-found", f"The weights file {path} does not exist.", "Check the path.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            "official-unsafe",
            f"{path.name} holds more than tensors, or is no file of PyTorch; it was not opened.",
            "Ask its authors for a plain state dict, saved with torch.save(network.state_dict(), ...).",
        ) from error
    except (RuntimeError, EOFError, ValueError, TypeError, LookupError, AttributeError, OSError) as error:
        raise ModelError(
            "official-unreadable",
            f"{path.name} is not a readable PyTorch file; it is damaged or incomplete.",
            "Download the weights again.",
        ) from error
    return _state_dict(content, path.name)


def infer_config(state: Mapping[str, Tensor]) -> NetworkConfig:
    """The configuration of the network that these tensors of the release belong to.

    Raises:
        ModelError: ``official-keys``.
    """
    is_transformer = any(".trans_" in key or ".PatchEmbed." in key for key in state)
    is_semi_supervised = any(".conv_9." in key or "seghead." in key for key in state)
    classes = [tensor.shape[0] for key, tensor in state.items() if key.endswith(f"{_SEGMENTATION}.weight")]
    if is_semi_supervised and (len(classes) != 1 or not 2 <= classes[0] <= 255):
        raise _unexpected([f"one {_SEGMENTATION}.weight of 2 to 255 classes goes with SinglePath.conv_9"])
    first = _FIRST_WEIGHT_OF_TRANS if is_transformer else _FIRST_WEIGHT
    if first not in state:
        raise _unexpected([f"{first} is missing"])
    channels = state[first].shape[0]
    if is_transformer and channels % 8:
        raise _unexpected([f"{first} has {channels} channels, which is no multiple of 8"])
    return NetworkConfig(
        kind="autofuse-trans" if is_transformer else "autofuse",
        channels=channels // 4 if is_transformer else channels,
        large_kernels=any(".ELK." in key for key in state),
        align_corners=True,  # geometry of the release
        small_windows="token" if is_transformer else "offset",  # likewise
        classes=classes[0] if is_semi_supervised else 0,
        segmentation_code="hard" if is_semi_supervised else "expected",  # the release gives the argmax to its pair path
    )


def _state_dict(content: Any, name: str) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        inner = next((content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping)), content)
        if inner and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in inner.items()):
            return {key.removeprefix("module."): value for key, value in inner.items()}
    raise ModelError(
        "official-keys",
        f"{name} holds no state dict, neither directly nor under {', '.join(CONTAINERS)}.",
        "Ask its authors for a plain state dict, saved with torch.save(network.state_dict(), ...).",
    )


def _renamed(state: Mapping[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        expected = build_network(config).state_dict()
    heads = [key.removesuffix(".weight") for key in state if key.endswith(f"{_SEGMENTATION}.weight")]
    names = release_names(
        large_kernels=config.large_kernels,
        segmentation=heads[0] if config.classes else None,
        transformer=config.kind == "autofuse-trans",
    )
    state = _without_indices(state, names)
    problems = [f"{key} is missing" for key in names if key not in state]
    problems += [f"{key} is not expected" for key in state if key not in names]
    for key in [key for key in names if key in state]:
        if state[key].shape != expected[names[key]].shape:
            shapes = f"{list(state[key].shape)}, not {list(expected[names[key]].shape)}"
            problems.append(f"{key} has the shape {shapes}")
    if problems:
        raise _unexpected(problems)
    return {names[key]: tensor.float() for key, tensor in state.items()}


def _without_indices(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """The state dict less the tables of whole numbers that say how the biases of a window are laid out."""
    expected = relative_index((WINDOW,) * 3, "token", torch.device("cpu"))
    kept = dict(state)
    for key in [key.replace(_TABLE_SUFFIX, INDEX_SUFFIX) for key in names if key.endswith(_TABLE_SUFFIX)]:
        index = kept.pop(key, expected)
        if index.shape != expected.shape or not bool((index == expected).all()):
            raise _unexpected([f"{key} does not number the voxels of windows of {WINDOW}x{WINDOW}x{WINDOW}"])
    return kept


def _unexpected(problems: list[str]) -> ModelError:
    more = f", and {len(problems) - 4} more" if len(problems) > 4 else ""
    return ModelError(
        "official-keys",
        f"The tensors are not those of an official AutoFuse network: {', '.join(problems[:4])}{more}.",
        "Check that the file holds the weights of an unchanged AutoFuse network.",
    )


def _torch_version() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)
