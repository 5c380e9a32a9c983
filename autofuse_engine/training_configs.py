"""Every choice of a training run: frozen records, stored whole in the run folder; the paper's schedules as presets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from autofuse_engine.configs import SIMILARITIES, Config, NetworkConfig, Similarity
from autofuse_engine.dataset_configs import PAIR_KINDS, PairKind

Precision = Literal["float32", "bfloat16"]
_REGULARITY = ("folding", "smoothness", "varying_smoothness", "weight_prior")
PAPER_VOXELS = 144 * 192 * 160
"""Voxels of the paper's images: the folding term, which the paper sums, is a mean here."""
SEGMENTATION_TERMS: Mapping[str, tuple[str, ...]] = {
    "moving_segmentation": ("moving",),
    "fixed_segmentation": ("fixed",),
    "warped_segmentation": ("fixed",),
    "segmentation_of_warped_labels": ("moving",),
    "warped_labels": ("fixed", "moving"),
}
"""Each term with the labels that it needs. In the paper's letters, labels L and segmentations S of the fixed and the
moving image: (L_m, S_m), (L_f, S_f), (L_f, S_m o psi), (S_f, L_m o psi), (L_f, L_m o psi)."""


@dataclass(frozen=True, kw_only=True)
class LossConfig(Config):
    """Weights of the terms of the loss.

    ``kl`` is sigma and ``kl_smoothness`` lambda of the paper. ``folding`` weighs the mean over voxels of
    ``max(0, -J)``; the default equals the paper's weight 1e-5 of a sum over 144 x 192 x 160 voxels.
    ``segmentation`` weighs what teaches the segmentation (two terms), ``fusion`` what lets segmentation and
    registration teach each other (three terms). ``similarity_radius`` belongs to the windows of local NCC.
    ``smoothness`` weighs the squared gradient of the displacement, for networks that predict it. Of networks with
    ``varying_regularity`` only: ``varying_smoothness`` and ``weight_prior``, g and b of ``losses.spatially_varying``;
    conditional networks draw both anew at each step instead.
    """

    similarity: Similarity = "lncc"
    similarity_weight: float = 1.0
    similarity_radius: int = 4
    kl: float = 0.01
    kl_smoothness: float = 50.0
    folding: float = 1e-5 * PAPER_VOXELS
    smoothness: float = 0.0
    varying_smoothness: float = 3.35
    weight_prior: float = 0.18
    weight_prior_kind: Literal["beta", "normal"] = "beta"
    segmentation: float = 1.0
    fusion: float = 1.0

    def __post_init__(self) -> None:
        _require(self.similarity in SIMILARITIES, f"similarity is one of {', '.join(SIMILARITIES)}", self.similarity)
        _whole(self, "similarity_radius", 1, 20)
        for name in ("similarity_weight", "kl_smoothness"):
            _number(self, name, 0.0, 1e6, above=True)
        for name in ("kl", *_REGULARITY, "segmentation", "fusion"):
            _number(self, name, 0.0, 1e6)
        kind = self.weight_prior_kind
        _require(kind in ("beta", "normal"), "weight_prior_kind is beta or normal", kind)

    def weights(self) -> dict[str, float]:
        """Weight of each term of :func:`term_names`."""
        teach = dict.fromkeys(("moving_segmentation", "fixed_segmentation"), self.segmentation)
        fuse = {name: self.fusion for name in SEGMENTATION_TERMS if name not in teach}
        regular = {name: getattr(self, name) for name in _REGULARITY}
        return {"similarity": self.similarity_weight, "kl": self.kl, **regular, **teach, **fuse}


def term_names(losses: LossConfig, network: NetworkConfig) -> tuple[str, ...]:
    """The terms that a run records, in order."""
    weights = losses.weights()
    left_out = {name for name, weight in weights.items() if weight == 0}
    if network.field != "velocity":
        left_out.add("kl")
    if not network.varying_regularity:
        left_out |= {"varying_smoothness", "weight_prior"}
    if not network.classes:
        left_out |= SEGMENTATION_TERMS.keys()
    return tuple(name for name in weights if name not in left_out)


@dataclass(frozen=True, kw_only=True)
class Stage(Config):
    """``steps`` steps on pairs of one kind (see ``data.pairs.PairSampler``) with one learning rate of Adam."""

    steps: int
    pairs: PairKind = "any"
    learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        _whole(self, "steps", 1, 100_000_000)
        _require(self.pairs in PAIR_KINDS, f"pairs is one of {', '.join(PAIR_KINDS)}", self.pairs)
        _number(self, "learning_rate", 0.0, 1.0, above=True)


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig(Config):
    """Random changes of each image, new at every step; all zero means none.

    Each image gets an affine move of its own: up to ``rotation_degrees`` about each axis, ``scaling`` (0.1 is 10 %)
    and ``translation_vox`` along each axis. Then its intensities: ``gamma`` (exponent up to ``exp(gamma)``), ``bias``
    (a smooth factor up to ``1 + bias``) and ``noise`` (standard deviation). ``flips`` names the axes, of ``DHW``,
    along which both images of a pair are mirrored at random; leave out one that tells left from right labels.
    """

    rotation_degrees: float = 0.0
    scaling: float = 0.0
    translation_vox: float = 0.0
    gamma: float = 0.0
    bias: float = 0.0
    noise: float = 0.0
    flips: str = ""

    def __post_init__(self) -> None:
        limits = {"rotation_degrees": 180, "scaling": 0.5, "translation_vox": 100, "gamma": 2, "bias": 0.9, "noise": 1}
        for name, most in limits.items():
            _number(self, name, 0.0, most)
        flips = self.flips
        good = isinstance(flips, str) and set(flips) <= set("DHW") and len(set(flips)) == len(flips)
        _require(good, "flips names axes of DHW, each once", flips)

    @property
    def moves(self) -> bool:
        """Whether images are moved."""
        return max(self.rotation_degrees, self.scaling, self.translation_vox) > 0


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Config):
    """Everything that decides how a run goes; stored as ``config.json`` in its folder.

    ``dataset`` is a folder that ``autofuse dataset prepare`` made. Labels of ``labelled_percent`` of the training cases
    that have any are used, the others count as unlabelled; validation keeps all. ``batch`` pairs make a step, over all
    processes together. ``recompute`` trades time for memory (activation checkpointing), ``channels_last`` orders
    memory for GPUs. ``clip_norm`` limits the length of the gradient. Every ``validation_every`` steps up to
    ``validation_pairs`` pairs are judged, and a checkpoint is written then and every ``checkpoint_minutes``.
    """

    dataset: str
    network: NetworkConfig = field(default_factory=NetworkConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    stages: tuple[Stage, ...] = field(default_factory=lambda: (Stage(steps=100_000),))
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    labelled_percent: float = 100.0
    batch: int = 1
    seed: int = 0
    device: str = "auto"
    precision: Precision = "float32"
    recompute: bool = False
    channels_last: bool = False
    clip_norm: float | None = None
    validation_every: int = 1000
    validation_pairs: int = 20
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        _require(isinstance(self.dataset, str) and self.dataset != "", "dataset names a folder", self.dataset)
        for name, kind in {**_PARTS, "stages": tuple}.items():
            _require(isinstance(getattr(self, name), kind), f"{name} is made of its fields", getattr(self, name))
        good = bool(self.stages) and all(isinstance(stage, Stage) for stage in self.stages)
        _require(good, "stages is a list of at least one stage", self.stages)
        _require(self.device != "" and isinstance(self.device, str), "device is auto, cpu, cuda or cuda:N", self.device)
        _require(self.precision in ("float32", "bfloat16"), "precision is float32 or bfloat16", self.precision)
        _whole(self, "batch", 1, 4096)
        _whole(self, "seed", 0, 2**63 - 1)
        _whole(self, "validation_every", 1, 100_000_000)
        _whole(self, "validation_pairs", 1, 100_000)
        _number(self, "checkpoint_minutes", 0.0, 1e6)
        _number(self, "labelled_percent", 0.0, 100.0, above=True)
        if self.clip_norm is not None:
            _number(self, "clip_norm", 0.0, 1e12, above=True)
        for name in ("recompute", "channels_last"):
            _require(type(getattr(self, name)) is bool, f"{name} is true or false", getattr(self, name))

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[int, int]:
        """Number of the stage to which a step belongs, counted from 0 both, and the step's number within it."""
        for number, stage in enumerate(self.stages):
            if step < stage.steps:
                return number, step
            step -= stage.steps
        raise ValueError(f"a step lies below {self.steps}, received one that is {step} beyond")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TrainingConfig:
        """Build from a dictionary, nested parts included.

        Raises:
            ValueError: if a field is unknown, absent, or breaks its rule.
        """
        _require("dataset" in content, "a training configuration names its dataset", sorted(content))
        values = dict(content)
        for name, kind in _PARTS.items():
            if name in values:
                _require(isinstance(values[name], Mapping), f"{name} is an object", values[name])
                values[name] = kind.from_dict(values[name])
        if "stages" in values:
            stages = values["stages"]
            good = isinstance(stages, (list, tuple)) and all(isinstance(stage, Mapping) for stage in stages)
            _require(good, "stages is a list of objects", stages)
            values["stages"] = tuple(Stage.from_dict(stage) for stage in stages)
        return super().from_dict(values)


_PARTS: Mapping[str, type[Config]] = {
    "network": NetworkConfig,
    "losses": LossConfig,
    "augmentation": AugmentationConfig,
}


def _require(condition: bool, rule: str, received: object) -> None:
    if not condition:
        raise ValueError(f"{rule}, received {received!r}")


def _whole(owner: Config, name: str, least: int, most: int) -> None:
    value = getattr(owner, name)
    _require(type(value) is int and least <= value <= most, f"{name} is a whole number of {least}..{most}", value)


def _number(owner: Config, name: str, least: float, most: float, *, above: bool = False) -> None:
    value = getattr(owner, name)
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    good = good and least <= value <= most and not (above and value == least)
    rule = f"is above {least:g} and at most {most:g}" if above else f"lies in {least:g}..{most:g}"
    _require(good, f"{name} {rule}", value)
