"""What is compared on which pairs: methods as ``--method`` writes them, and the choices of one evaluation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Literal

from autofuse_engine.configs import SIMILARITIES, Config, Similarity
from autofuse_engine.dataset_configs import SPLITS, Split
from autofuse_engine.errors import InputError

MethodKind = Literal["none", "affine", "refinement", "model", "syn", "elastix", "voxelmorph"]
METHOD_KINDS: tuple[MethodKind, ...] = ("none", "affine", "refinement", "model", "syn", "elastix", "voxelmorph")
PairChoice = Literal["any", "labelled", "within-group", "listed"]
PAIR_CHOICES: tuple[PairChoice, ...] = ("any", "labelled", "within-group", "listed")
PEER_KINDS: tuple[MethodKind, ...] = ("syn", "elastix", "voxelmorph")
"""Methods of other packages, which have to be installed for them."""
_OPTIONS: Mapping[MethodKind, tuple[str, ...]] = {
    "refinement": ("refine", "similarity", "smoothness", "as"),
    "model": ("refine", "similarity", "labels", "align", "smoothness", "passes", "as"),
    "syn": ("metric", "refine", "similarity", "smoothness", "as"),
    "elastix": ("refine", "similarity", "smoothness", "as"),
    "voxelmorph": ("weights", "refine", "similarity", "smoothness", "as"),
}
_GRAMMAR = re.compile(r"(?P<name>.+?)(?:@(?P<options>[A-Za-z_]+=.*))?", re.DOTALL)
_CURE = (
    "Write NAME or NAME@key=value,key=value with the keys refine, similarity, labels, align, smoothness, passes, "
    "metric, weights and as."
)
METRICS = ("cc", "mi")
"""Of SyN: cross correlation, or mutual information for images of different modalities."""


@dataclass(frozen=True, kw_only=True)
class MethodSpec(Config):
    """One method of an evaluation.

    ``name`` is shown in tables and figures, and tells the rows of the method. ``model`` is a name of the catalog or
    the path of a ``.safetensors`` file; of ``voxelmorph`` the path of its weights. ``refinement_steps`` counts at each
    level: 0 means the network or the peer alone, None the default of the kind. ``smoothness`` is that of
    :class:`RegistrationConfig`, as are ``label_weight`` and ``similarity``, which the refinement maximises; ``passes``
    is the number of the network's forward passes. ``metric`` is SyN's own (:data:`METRICS`). ``label_alignment`` False
    keeps a model whose labels guide its refinement from improving the shared alignment by them.
    """

    name: str
    kind: MethodKind
    model: str | None = None
    refinement_steps: int | None = 0
    smoothness: float = 1.0
    passes: int = 1
    label_weight: float | None = None
    similarity: Similarity = "lncc"
    metric: str = "cc"
    label_alignment: bool = True

    def __post_init__(self) -> None:
        weight = self.label_weight
        _require(weight is None or 0 <= weight <= 100, "labels is 0..100", weight)
        _require(isinstance(self.name, str) and bool(self.name.strip()), "name is a text", self.name)
        _require(self.name.isprintable(), "name is one line of printable text", self.name)
        _require(self.kind in METHOD_KINDS, f"kind is one of {', '.join(METHOD_KINDS)}", self.kind)
        _require(self.similarity in SIMILARITIES, f"similarity is one of {', '.join(SIMILARITIES)}", self.similarity)
        _require(self.metric in METRICS, f"metric is one of {', '.join(METRICS)}", self.metric)
        _require(self.metric == "cc" or self.kind == "syn", f"{self.kind} has no metric", self.metric)
        takes_model = self.kind in ("model", "voxelmorph")
        _require(self.model is None or takes_model, f"{self.kind} has no model", self.model)
        _require(bool(self.model) or self.kind != "model", "model is a name or a path", self.model)
        steps = self.refinement_steps
        whole = steps is None or (type(steps) is int and 0 <= steps <= 10_000)
        _require(whole, "refine is a whole number of 0..10000, or default", steps)
        _require(0.1 <= self.smoothness <= 10, "smoothness is 0.1..10", self.smoothness)
        _require(type(self.passes) is int and 1 <= self.passes <= 4, "passes is a whole number of 1..4", self.passes)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Config):
    """Every choice of one evaluation.

    ``dataset`` is a folder as ``autofuse dataset check`` takes it, one that ``autofuse dataset prepare`` made, or a CSV
    of pairs. ``pairs`` is the most that are taken; None means all of a list, and 20 where the dataset lists none.
    ``all_pairs`` takes every pair instead, in both directions. ``split`` None is the first of validation, test and
    train that has two cases. ``kind`` None takes what the dataset lists, else two phases of one heart where it has
    such, else labelled cases where it has two. ``threads`` None leaves the number of CPU threads to torch.
    ``retry_failed`` computes the rows again that ended with an error.
    """

    dataset: str
    methods: tuple[MethodSpec, ...]
    pairs: int | None = None
    split: Split | None = None
    kind: PairChoice | None = None
    all_pairs: bool = False
    device: str = "auto"
    seed: int = 0
    threads: int | None = None
    retry_failed: bool = False

    def __post_init__(self) -> None:
        _require(len(self.methods) >= 1, "methods has at least one", self.methods)
        _require(self.pairs is None or self.pairs >= 1, "pairs is at least 1", self.pairs)
        _require(not (self.all_pairs and self.pairs), "pairs goes without all_pairs", self.pairs)
        _require(self.split is None or self.split in SPLITS, f"split is one of {', '.join(SPLITS)}", self.split)
        _require(self.kind is None or self.kind in PAIR_CHOICES, f"kind is one of {', '.join(PAIR_CHOICES)}", self.kind)
        _require(self.threads is None or self.threads >= 1, "threads is at least 1", self.threads)
        names = [method.name for method in self.methods]
        _require(len(set(names)) == len(names), "methods have different names", names)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> EvaluationConfig:
        """Build from a dictionary, methods included.

        Raises:
            ValueError: if a field is unknown or a value breaks its rule.
        """
        methods = tuple(MethodSpec.from_dict(method) for method in content.get("methods", ()))
        return super().from_dict({**content, "methods": methods})


def parse_method(text: str) -> MethodSpec:
    """Read a method as ``--method`` takes it: ``NAME`` or ``NAME@key=value,key=value``.

    NAME is ``none``, ``affine``, ``refinement``, a peer (``syn``, ``elastix``, ``voxelmorph``), or a model by its
    name in the catalog or the path of its ``.safetensors`` file. Whether a model or peer is there is not looked up.

    Raises:
        InputError: ``method-invalid``.
    """
    found = _GRAMMAR.fullmatch(text.strip())
    if found is None:
        raise _invalid(text, "it is empty")
    name = found["name"]
    tail = name.rpartition("@")[2]
    if tail != name and not ("/" in tail or "\\" in tail or tail.endswith(".safetensors")):
        raise _invalid(text, f"{tail!r} behind the @ is not of the form key=value")
    kind: MethodKind = name if name in METHOD_KINDS and name != "model" else "model"
    options = _options(found["options"], text, kind)
    shown = [f"{key}={_stem(value)}" for key, value in options.items() if key != "as"]
    default = _stem(name) + (f"@{','.join(shown)}" if shown else "")
    try:
        return MethodSpec(
            name=options.get("as", default),
            kind=kind,
            model=name if kind == "model" else options.get("weights"),
            refinement_steps=_steps(options, kind),
            smoothness=_number(options, "smoothness", 1.0),
            label_weight=_number(options, "labels", 0.0) if "labels" in options else None,
            passes=int(_number(options, "passes", 1, whole=True)),
            similarity=options.get("similarity", "lncc"),  # pyright: ignore[reportArgumentType] # checked there
            metric=options.get("metric", "cc"),
            label_alignment=_yes(options, "align"),
        )
    except ValueError as error:
        raise _invalid(text, str(error)) from error


def parse_methods(texts: Sequence[str]) -> tuple[MethodSpec, ...]:
    """Read several methods, no two of one display name.

    Raises:
        InputError: ``method-invalid`` or ``method-duplicate``.
    """
    methods = tuple(parse_method(text) for text in texts)
    names = [method.name for method in methods]
    for name, text in zip(names, texts, strict=True):
        if names.count(name) > 1:
            raise InputError(
                "method-duplicate",
                f"Two methods have the name {name!r}, one of them {text!r}.",
                "Give one of them another name with @as=NAME, or leave it out.",
            )
    return methods


def _options(text: str | None, whole: str, kind: MethodKind) -> dict[str, str]:
    allowed = _OPTIONS.get(kind, ("as",))
    options: dict[str, str] = {}
    for item in text.split(",") if text else ():
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not value:
            raise _invalid(whole, f"{item!r} is not of the form key=value")
        if key not in allowed:
            raise _invalid(whole, f"{kind} takes {', '.join(allowed)}, received {key!r}")
        if key in options:
            raise _invalid(whole, f"{key} stands twice")
        options[key] = value
    return options


def _steps(options: Mapping[str, str], kind: MethodKind) -> int | None:
    if options.get("refine", "default" if kind == "refinement" else "0") == "default":
        return None
    return int(_number(options, "refine", 0, whole=True))


def _number(options: Mapping[str, str], key: str, default: float, *, whole: bool = False) -> float:
    if key not in options:
        return default
    try:
        return int(options[key]) if whole else float(options[key])
    except ValueError as error:
        raise ValueError(f"{key} is a {'whole ' * whole}number, received {options[key]!r}") from error


def _yes(options: Mapping[str, str], key: str) -> bool:
    value = options.get(key, "yes")
    _require(value in ("yes", "no"), f"{key} is yes or no", value)
    return value == "yes"


def _stem(text: str) -> str:
    """A path without folders and without ``.safetensors``; other text as it is."""
    path = PureWindowsPath(text) if "\\" in text else PurePosixPath(text)
    return path.name.removesuffix(".safetensors") if path.name else text


def _invalid(text: str, problem: str) -> InputError:
    return InputError("method-invalid", f"The method {text!r} cannot be read: {problem}.", _CURE)


def _require(condition: bool, rule: str, received: object) -> None:
    if not condition:
        raise ValueError(f"{rule}, received {received!r}")
