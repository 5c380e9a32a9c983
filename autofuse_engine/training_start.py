"""A training that begins with the weights of a model: how they come into its network, and what it remembers of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from autofuse_engine import catalog
from autofuse_engine.checkpoint import Model, load_checkpoint
from autofuse_engine.class_names import classes_by_name
from autofuse_engine.configs import NetworkConfig
from autofuse_engine.data.manifest import LabelName
from autofuse_engine.errors import InputError
from autofuse_engine.model_card import Preprocessing
from autofuse_engine.networks.network import RegistrationNetwork

_SAME = ("kind", "channels", "large_kernels", "align_corners", "field")
"""What the model's network and that of the training have in common, or their weights mean different things."""
_SCORES = ("segmentation.scores.weight", "segmentation.scores.bias")
"""One row for each class."""


@dataclass(frozen=True, kw_only=True)
class TrainingStart:
    """The model that a training began with.

    Attributes:
        name: of the model.
        sha256: of its weights.
        licence: of its weights.
        attribution: who is to be named for its data.
        predicts_field: whether the model predicts one.
        classes: labels of the dataset that the model segmented already, by name.
        fresh: parts of the network that began with random weights, because the model has none for them.
    """

    name: str
    sha256: str
    licence: str
    attribution: str
    predicts_field: bool
    classes: tuple[str, ...]
    fresh: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return {**asdict(self), "classes": list(self.classes), "fresh": list(self.fresh)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TrainingStart:
        """What :meth:`to_dict` made."""
        values = dict(content)
        return cls(**{**values, "classes": tuple(values["classes"]), "fresh": tuple(values["fresh"])})


def begin_with(
    network: RegistrationNetwork,
    config: NetworkConfig,
    name_or_path: str,
    labels: Sequence[LabelName],
    preprocessing: Preprocessing,
) -> tuple[TrainingStart, list[str]]:
    """Put a model's weights into a network.

    A class of the dataset takes the scores of the model's class of the same name. A network whose pair path sees maps
    of classes, which the model's did not see, begins by not looking at them.

    Args:
        network: that of the training, with random weights; what the model has no weights for keeps them.
        config: of this network.
        name_or_path: of a model of the catalog, or of a file.
        labels: of the dataset, in the order of the classes.
        preprocessing: of the dataset.

    Returns:
        What the run remembers, and sentences that its user should read.

    Raises:
        InputError: ``training-start-differs`` for a model with another architecture.
        ModelError: if there is no such model, or it is damaged.
    """
    entry = catalog.find(name_or_path)
    model = load_checkpoint(entry.weights_path)
    _check_architecture(model, config)
    shared = classes_by_name(model.card, {number: label.name for number, label in enumerate(labels, start=1)})
    shared = shared if config.classes else {}
    given, fresh = model.network.state_dict(), []
    with torch.no_grad():
        for name, target in network.state_dict().items():
            source = given.get(name)
            if source is None:
                fresh.append(name)
            elif name in _SCORES:
                for to, of in {0: 0, **shared}.items():
                    target[to].copy_(source[of])
            else:
                _copy(name, source, target, model)
    weights = model.card.weights
    start = TrainingStart(
        name=model.card.name,
        sha256="" if weights is None else weights.sha256,
        licence=model.card.licence,
        attribution=model.card.attribution,
        predicts_field=model.card.predicts_field,
        classes=tuple(label.name for number, label in enumerate(labels, start=1) if number in shared),
        fresh=tuple(sorted({name.split(".")[0] for name in fresh})),
    )
    return start, _remarks(start, model, config, labels, preprocessing)


def start_name(name_or_path: str) -> str:
    """The model as a run's configuration stores it: a name as it is, a path in full.

    Raises:
        ModelError: what :func:`catalog.find` raises.
    """
    path = catalog.find(name_or_path).weights_path
    return name_or_path if not catalog.is_path(name_or_path) else str(path.resolve())


def _check_architecture(model: Model, config: NetworkConfig) -> None:
    differing = [name for name in _SAME if getattr(model.card.network, name) != getattr(config, name)]
    if differing:
        raise _differs(
            model.card.name,
            "; ".join(
                f"{name} is {getattr(model.card.network, name)} there and {getattr(config, name)} here"
                for name in differing
            ),
        )


def _copy(name: str, source: Tensor, target: Tensor, model: Model) -> None:
    """The weights; of those that look at more or fewer channels, the first ones: the two images."""
    if source.shape == target.shape:
        target.copy_(source)
    elif source.ndim == target.ndim > 1 and source.shape[:1] + source.shape[2:] == target.shape[:1] + target.shape[2:]:
        common = min(source.shape[1], target.shape[1])
        target.zero_()
        target[:, :common].copy_(source[:, :common])
    else:
        text = f"{name} has the shape {list(source.shape)} there and {list(target.shape)} here"
        raise _differs(model.card.name, text)


def _differs(name: str, text: str) -> InputError:
    return InputError(
        "training-start-differs",
        f"The training cannot begin with the weights of {name}: {text}.",
        "Give the training the network of that model, as --start-from does by itself, or start without a model.",
    )


def _remarks(
    start: TrainingStart,
    model: Model,
    config: NetworkConfig,
    labels: Sequence[LabelName],
    preprocessing: Preprocessing,
) -> list[str]:
    found = []
    if start.fresh:
        found.append(f"The model {start.name} has no weights for {', '.join(start.fresh)}: these begin at random.")
    elif config.classes and len(start.classes) < len(labels):
        found.append(
            f"The model {start.name} segments {len(start.classes)} of the dataset's {len(labels)} labels: "
            "the scores of the others begin at random."
        )
    known = model.card.preprocessing
    if any(abs(a / b - 1) > 0.05 for a, b in zip(known.spacing_mm, preprocessing.spacing_mm, strict=True)):
        here, there = (" x ".join(f"{side:g}" for side in one.spacing_mm) for one in (preprocessing, known))
        found.append(f"The dataset is prepared at {here} mm, but the model {start.name} was trained at {there} mm.")
    if known.orientation != preprocessing.orientation:
        found.append(
            f"The dataset is prepared as {preprocessing.orientation}, but the model {start.name} was trained on "
            f"images as {known.orientation}."
        )
    return found
