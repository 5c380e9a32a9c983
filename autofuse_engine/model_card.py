"""The card of a model, ``NAME.json`` beside ``NAME.safetensors``: what it is, what it is for, where it comes from.

Standard library only. docs/model-format.md describes the file for readers of other programs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from autofuse_engine.configs import Config, NetworkConfig
from autofuse_engine.errors import ModelError
from autofuse_engine.image_facts import TrainingRange
from autofuse_engine.model_validation import ModelValidation

LEAST_LABELS = 6
"""So many labels have to be seen in both images before they are compared, or may move the alignment."""
SCHEMA = 2
"""Version 2 added spacing_range_mm, training_range, validation, known_failures, refinement_steps, label_weight and
predicts_field; cards of version 1 are read."""

WEIGHTS_SUFFIX = ".safetensors"
CARD_SUFFIX = ".json"
PICKLE_SUFFIXES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin")
Storage = Literal["float32", "float16"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Preprocessing(Config):
    """What the images are turned into before the network sees them.

    ``spacing_mm`` and ``orientation`` describe the working grid along its i, j, k axes (tensor axes W, H, D);
    ``orientation`` names the side of the patient towards which each axis grows, "RAS" or for instance "LIA".
    Intensities are clipped to ``intensity_window`` where given (fixed units, as in CT), else to the image's
    ``intensity_percentiles``, and then mapped linearly to [0, 1].
    """

    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    orientation: str = "RAS"
    intensity_percentiles: tuple[float, float] = (0.0, 100.0)
    intensity_window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _numbers(self, "spacing_mm", self.spacing_mm, 3)
        _require(all(0 < side <= 50 for side in self.spacing_mm), "spacing_mm is 0..50 each", self.spacing_mm)
        axes = {pair for letter in str(self.orientation) for pair in ("RL", "AP", "SI") if letter in pair}
        _require(len(axes) == len(self.orientation) == 3, "orientation is like 'RAS'", self.orientation)
        low, high = _numbers(self, "intensity_percentiles", self.intensity_percentiles, 2)
        _require(0 <= low < high <= 100, "intensity_percentiles rise within 0..100", self.intensity_percentiles)
        if self.intensity_window is not None:
            low, high = _numbers(self, "intensity_window", self.intensity_window, 2)
            _require(low < high, "intensity_window rises", self.intensity_window)


@dataclass(frozen=True, kw_only=True)
class IntendedUse(Config):
    """What the model was trained on and is meant for, in short words: ``MR T1w``, ``CT``, ``any``; ``brain``.

    ``spacing_mm`` is that of the training, ``spacing_range_mm`` that of the images which users may bring; None leaves
    it to the ``training_range`` of the card.
    """

    modality: str = ""
    body_part: str = ""
    spacing_mm: float | None = None
    spacing_range_mm: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _require(isinstance(self.modality, str), "modality is text", self.modality)
        _require(isinstance(self.body_part, str), "body_part is text", self.body_part)
        spacing = self.spacing_mm
        _require(spacing is None or (_is_number(spacing) and spacing > 0), "spacing_mm is above 0", spacing)
        if self.spacing_range_mm is not None:
            low, high = _numbers(self, "spacing_range_mm", self.spacing_range_mm, 2)
            _require(0 < low <= high, "spacing_range_mm is above 0 and does not fall", self.spacing_range_mm)


@dataclass(frozen=True, kw_only=True)
class WeightsFile(Config):
    """Identity of the file with the weights."""

    sha256: str
    size_bytes: int
    storage: Storage = "float32"

    def __post_init__(self) -> None:
        _require(bool(re.fullmatch("[0-9a-f]{64}", str(self.sha256))), "sha256 has 64 hex digits", self.sha256)
        _require(type(self.size_bytes) is int and self.size_bytes > 0, "size_bytes is above 0", self.size_bytes)
        _require(self.storage in ("float32", "float16"), "storage is float32 or float16", self.storage)


@dataclass(frozen=True, kw_only=True)
class ModelCard(Config):
    """Everything about a model except its weights.

    ``training`` is provenance: data, split, steps, seed, validation figures; whatever JSON can hold.
    ``training_range`` says which images the model knows, ``validation`` how it did on others, ``known_failures`` where
    it fails: texts, each of which may name a picture that lies beside the model's page. ``refinement_steps`` are those
    of a registration by default, at each level: 0 for a network whose prediction is better alone, None for the
    program's own default. ``label_weight`` says how much labels that the model predicts count in that refinement; None
    or 0 for not at all. ``predicts_field`` is False for a model of which only the segmentation was trained: it lends
    the refinement its labels, and no field. ``weights`` is filled in when the model is saved.
    """

    schema: int = SCHEMA
    name: str
    title: str = ""
    network: NetworkConfig
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    training: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    attribution: str = ""
    citation: str = ""
    intended_use: IntendedUse = field(default_factory=IntendedUse)
    not_for: tuple[str, ...] = ()
    known_failures: tuple[str, ...] = ()
    training_range: TrainingRange | None = None
    validation: ModelValidation | None = None
    refinement_steps: int | None = None
    label_weight: float | None = None
    predicts_field: bool = True
    weights: WeightsFile | None = None

    def __post_init__(self) -> None:
        _require(is_model_name(self.name), "name has letters, digits, '.', '_', '-', at most 64", self.name)
        for part, kind in _PARTS.items():
            value = getattr(self, part)
            _require(
                isinstance(value, kind) or (part in _OPTIONAL_PARTS and value is None),
                f"{part} is a dictionary of its fields",
                value,
            )
        for item in ("title", "licence", "attribution", "citation"):
            _require(isinstance(getattr(self, item), str), f"{item} is text", getattr(self, item))
        _require(isinstance(self.training, Mapping), "training is a dictionary", self.training)
        steps = self.refinement_steps
        _require(steps is None or (type(steps) is int and 0 <= steps <= 1000), "refinement_steps is 0..1000", steps)
        weight = self.label_weight
        good = weight is None or (isinstance(weight, (int, float)) and 0 <= weight <= 100)
        _require(good, "label_weight is 0..100", weight)
        good = self.predicts_field is True or (self.predicts_field is False and self.network.classes > 0)
        _require(good, "predicts_field is true, or false for a network that segments", self.predicts_field)
        shares = {} if self.training_range is None else self.training_range.label_shares
        strangers = [name for name in shares if not 1 <= int(name) < self.network.classes]
        _require(not strangers, "label_shares are of the network's classes above 0", strangers)
        for item in _LISTS:
            value = getattr(self, item)
            texts = isinstance(value, tuple) and all(isinstance(text, str) for text in value)
            _require(texts, f"{item} is a list of texts", value)

    @property
    def shows_contrasts(self) -> bool:
        """Whether it need not know both images: its labels of one can show that in the contrast of the other."""
        known = self.training_range
        lends = not self.predicts_field and bool(self.label_weight) and self.network.classes > LEAST_LABELS
        return lends and known is not None and bool(known.label_shares)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ModelCard:
        """Build from a dictionary, nested parts included.

        Raises:
            ValueError: if a field is unknown, absent, or breaks its rule.
        """
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(content) - known)
        _require(not unknown, f"a card knows the fields {', '.join(sorted(known))}", unknown)
        absent = sorted({"schema", "name", "network"} - set(content))
        _require(not absent, "a card has the fields schema, name and network", {"absent": absent})
        values = dict(content)
        for name, kind in _PARTS.items():
            if values.get(name) is not None:
                _require(isinstance(values[name], Mapping), f"{name} is a dictionary", values[name])
                values[name] = kind.from_dict(values[name])
        for name in _LISTS:
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        return cls(**values)


_PARTS: Mapping[str, type[Config]] = {
    "network": NetworkConfig,
    "preprocessing": Preprocessing,
    "intended_use": IntendedUse,
    "training_range": TrainingRange,
    "validation": ModelValidation,
    "weights": WeightsFile,
}
_OPTIONAL_PARTS = ("training_range", "validation", "weights")
_LISTS = ("not_for", "known_failures")


def is_model_name(name: str) -> bool:
    """Whether ``name`` can name a model's files on every platform."""
    return isinstance(name, str) and bool(_NAME.fullmatch(name)) and not (_RESERVED.fullmatch(name) or name[-1] == ".")


def model_files(path: str | Path) -> tuple[Path, Path]:
    """Weights file and card of the model that either of them, or their common stem, names.

    Raises:
        ModelError: ``model-unsafe-format`` for a pickle, which is never opened here.
    """
    path = Path(path)
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise ModelError(
            "model-unsafe-format",
            f"{path.name} is a pickle file, which could run code when it is opened.",
            "Choose a .safetensors model, or convert official AutoFuse weights with 'autofuse models import'.",
        )
    stem = path.with_suffix("") if path.suffix.lower() in (WEIGHTS_SUFFIX, CARD_SUFFIX) else path
    return stem.with_name(stem.name + WEIGHTS_SUFFIX), stem.with_name(stem.name + CARD_SUFFIX)


def read_card(path: str | Path) -> ModelCard:
    """Read and check a card.

    Raises:
        ModelError: ``model-card-missing``, ``model-card-invalid`` or ``model-card-too-new``.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            "model-card-missing",
            f"The model card {path} cannot be read.",
            f"Put the {CARD_SUFFIX} file of the model beside its {WEIGHTS_SUFFIX} file.",
        ) from error
    except ValueError as error:
        raise _invalid(path.name, "it is not JSON") from error
    if not isinstance(content, dict):
        raise _invalid(path.name, "it is not a JSON object")
    schema = content.get("schema")
    if type(schema) is int and schema > SCHEMA:
        raise ModelError(
            "model-card-too-new",
            f"The model card {path.name} has format {schema}, this program reads up to {SCHEMA}.",
            "Update AutoFuse.",
        )
    if type(schema) is not int or schema < 1:
        raise _invalid(path.name, f"its schema is {schema!r}")
    try:
        card = ModelCard.from_dict(content)
    except (TypeError, ValueError) as error:
        raise _invalid(path.name, str(error)) from error
    if card.weights is None:
        raise _invalid(path.name, "it does not identify the weights file")
    return card


def card_text(card: ModelCard) -> str:
    """The JSON text of a card, as :func:`read_card` reads it."""
    return json.dumps(card.to_dict(), indent=2, ensure_ascii=False) + "\n"


def begun_with(own: str, model: str, theirs: str) -> str:
    """A licence or an attribution of weights that began with those of another model, which has one too.

    Args:
        own: what the data of the training ask for.
        model: name of the other model.
        theirs: what its card says.
    """
    if theirs in ("", own):
        return own
    return "; ".join(text for text in (own, f"begun with {model}: {theirs}") if text)


def sha256_of(path: Path) -> str:
    """Checksum of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def check_identity(name: str, card: ModelCard, size_bytes: int, sha256: str) -> None:
    """Compare a weights file with what its card says.

    Raises:
        ModelError: ``model-truncated`` or ``model-checksum``; ``model-card-invalid`` if the card says nothing.
    """
    expected = card.weights
    if expected is None:
        raise _invalid(name, "it does not identify the weights file")
    if size_bytes != expected.size_bytes:
        raise ModelError(
            "model-truncated",
            f"The weights file {name} has {size_bytes} bytes, its card says {expected.size_bytes}.",
            "Copy or download the model again.",
        )
    if sha256 != expected.sha256:
        raise ModelError(
            "model-checksum",
            f"The weights file {name} does not have the checksum of its card ({sha256[:12]}..., "
            f"not {expected.sha256[:12]}...).",
            "The file was damaged or exchanged: copy or download the model again.",
        )


def _invalid(name: str, reason: str) -> ModelError:
    return ModelError(
        "model-card-invalid",
        f"The model card {name} cannot be used: {reason}.",
        "Copy or download the model again, or update AutoFuse.",
    )


def _require(condition: bool, rule: str, received: object) -> None:
    if not condition:
        raise ValueError(f"{rule}, received {received!r}")


def _numbers(owner: Config, name: str, value: Any, count: int) -> tuple[float, ...]:
    good = isinstance(value, (list, tuple)) and len(value) == count and all(_is_number(item) for item in value)
    _require(good, f"{name} has {count} numbers", value)
    object.__setattr__(owner, name, tuple(float(item) for item in value))
    return tuple(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")
