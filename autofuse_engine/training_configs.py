"""Every choice of a training run: frozen records, stored whole in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from autofuse_engine.augmentation_configs import AugmentationConfig, SynthesisConfig
from autofuse_engine.configs import SIMILARITIES, Config, NetworkConfig, Similarity
from autofuse_engine.dataset_configs import PAIR_KINDS, PairKind
from autofuse_engine.field_rules import number, require, truth, whole

__all__ = ["AugmentationConfig", "LossConfig", "Stage", "SynthesisConfig", "TrainingConfig", "term_names"]

Precision = Literal["float32", "bfloat16"]
_REGULARITY = ("folding", "smoothness", "varying_smoothness", "weight_prior")
Learns = Literal["everything", "segmentation", "field"]
LEARNS: tuple[Learns, ...] = ("everything", "segmentation", "field")
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
    conditional networks draw both anew at each step instead. ``label_overlap`` weighs the soft Dice of the carried
    labels, of ``labels_a_step`` labels drawn anew at each step, for networks that need not segment.
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
    label_overlap: float = 0.0
    labels_a_step: int = 8

    def __post_init__(self) -> None:
        require(self.similarity in SIMILARITIES, f"similarity is one of {', '.join(SIMILARITIES)}", self.similarity)
        whole(self, "similarity_radius", 1, 20)
        whole(self, "labels_a_step", 1, 255)
        for name in ("similarity_weight", "kl_smoothness"):
            number(self, name, 0.0, 1e6, above=True)
        for name in ("kl", *_REGULARITY, "segmentation", "fusion", "label_overlap"):
            number(self, name, 0.0, 1e6)
        kind = self.weight_prior_kind
        require(kind in ("beta", "normal"), "weight_prior_kind is beta or normal", kind)

    def weights(self) -> dict[str, float]:
        """Weight of each term of :func:`term_names`."""
        teach = dict.fromkeys(("moving_segmentation", "fixed_segmentation"), self.segmentation)
        fuse = {name: self.fusion for name in SEGMENTATION_TERMS if name not in teach}
        regular = {name: getattr(self, name) for name in _REGULARITY}
        overlap = {"label_overlap": self.label_overlap}
        return {"similarity": self.similarity_weight, "kl": self.kl, **regular, **teach, **fuse, **overlap}


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
    """``steps`` steps on pairs of one kind (see ``data.pairs.PairSampler``) with one learning rate of Adam.

    ``learns`` is ``everything``, or a part of a semi-supervised network. ``segmentation``: it learns to segment the
    fixed image of each pair, and nothing else; a step takes a fraction of the time. ``field``: the path that sees
    single images stays as it is, and so the segmentation, while the rest learns to register.
    """

    steps: int
    pairs: PairKind = "any"
    learning_rate: float = 1e-4
    learns: Learns = "everything"

    def __post_init__(self) -> None:
        learns = self.learns
        require(learns in LEARNS, f"learns is one of {', '.join(LEARNS)}", learns)
        whole(self, "steps", 1, 100_000_000)
        require(self.pairs in PAIR_KINDS, f"pairs is one of {', '.join(PAIR_KINDS)}", self.pairs)
        number(self, "learning_rate", 0.0, 1.0, above=True)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Config):
    """Everything that decides how a run goes; stored as ``config.json`` in its folder.

    ``dataset`` is a folder that ``autofuse dataset prepare`` made. ``start_from`` is a model, by name or path, with
    whose weights the network begins (:mod:`.training_start`); None begins with random ones. Labels of
    ``labelled_percent`` of the training cases that have any are used, the others count as unlabelled; validation keeps
    all. In ``guided_percent`` of the steps labels take the place of the maps that a semi-supervised network makes of
    its classes, so that given ones can guide it. ``batch`` pairs make a step, over all processes together.
    ``recompute`` trades time for memory (activation checkpointing), ``channels_last`` orders memory for GPUs.
    ``resident`` keeps all training cases in the memory of the device; None does so on a GPU where they take no more
    than a quarter of what is free. ``clip_norm`` limits the length of the gradient. Every ``validation_every`` steps up
    to ``validation_pairs`` pairs are judged (``validation_distances`` says whether by surface distances too, which need
    SimpleITK and, with many labels, time), and a checkpoint is written then and every ``checkpoint_minutes``.
    """

    dataset: str
    network: NetworkConfig = field(default_factory=NetworkConfig)
    start_from: str | None = None
    losses: LossConfig = field(default_factory=LossConfig)
    stages: tuple[Stage, ...] = field(default_factory=lambda: (Stage(steps=100_000),))
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    synthesis: SynthesisConfig | None = None
    labelled_percent: float = 100.0
    guided_percent: float = 0.0
    batch: int = 1
    seed: int = 0
    device: str = "auto"
    precision: Precision = "float32"
    recompute: bool = False
    channels_last: bool = False
    resident: bool | None = None
    clip_norm: float | None = None
    validation_every: int = 1000
    validation_pairs: int = 20
    validation_distances: bool = True
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        require(isinstance(self.dataset, str) and self.dataset != "", "dataset names a folder", self.dataset)
        for name, kind in {**_PARTS, "stages": tuple}.items():
            good = isinstance(getattr(self, name), kind) or (name == "synthesis" and self.synthesis is None)
            require(good, f"{name} is made of its fields", getattr(self, name))
        start = self.start_from
        require(start is None or (isinstance(start, str) and start != ""), "start_from names a model", start)
        good = bool(self.stages) and all(isinstance(stage, Stage) for stage in self.stages)
        require(good, "stages is a list of at least one stage", self.stages)
        segments = self.network.classes > 0 and self.losses.segmentation > 0
        learns = [stage.learns for stage in self.stages if isinstance(stage, Stage)]
        require(
            segments or "segmentation" not in learns,
            "stages without a segmentation to learn learn everything",
            learns,
        )
        separable = self.network.classes > 0 or "field" not in learns
        require(separable, "stages of a network that does not segment learn everything", learns)
        require(self.device != "" and isinstance(self.device, str), "device is auto, cpu, cuda or cuda:N", self.device)
        require(self.precision in ("float32", "bfloat16"), "precision is float32 or bfloat16", self.precision)
        whole(self, "batch", 1, 4096)
        whole(self, "seed", 0, 2**63 - 1)
        whole(self, "validation_every", 1, 100_000_000)
        whole(self, "validation_pairs", 1, 100_000)
        number(self, "checkpoint_minutes", 0.0, 1e6)
        number(self, "labelled_percent", 0.0, 100.0, above=True)
        number(self, "guided_percent", 0.0, 100.0)
        guidable = self.network.classes > 0 and self.network.input_fusion
        require(
            guidable or self.guided_percent == 0, "guided_percent without maps of classes is 0", self.guided_percent
        )
        if self.clip_norm is not None:
            number(self, "clip_norm", 0.0, 1e12, above=True)
        for name in ("recompute", "channels_last", "validation_distances"):
            truth(self, name)
        require(self.resident in (None, True, False), "resident is true, false or null", self.resident)
        if self.synthesis is not None:
            judged = self.losses.label_overlap > 0 or set(learns) == {"segmentation"}
            require(judged, "with synthesis, losses.label_overlap is above 0", 0.0)
            shapes = self.synthesis.shapes if self.network.classes else 0.0
            require(shapes == 0, "synthesis.shapes of a network that segments is 0", shapes)

    @property
    def uses_labels(self) -> bool:
        """Whether a step needs the labels of its cases."""
        return self.network.classes > 0 or self.losses.label_overlap > 0

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[int, int]:
        """Number of the stage to which a step belongs, counted from 0 both, and the step's number within it."""
        for position, stage in enumerate(self.stages):
            if step < stage.steps:
                return position, step
            step -= stage.steps
        raise ValueError(f"a step lies below {self.steps}, received one that is {step} beyond")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TrainingConfig:
        """Build from a dictionary, nested parts included.

        Raises:
            ValueError: if a field is unknown, absent, or breaks its rule.
        """
        require("dataset" in content, "a training configuration names its dataset", sorted(content))
        values = dict(content)
        for name, kind in _PARTS.items():
            if values.get(name) is not None or (name in values and name != "synthesis"):
                require(isinstance(values[name], Mapping), f"{name} is an object", values[name])
                values[name] = kind.from_dict(values[name])
        if "stages" in values:
            stages = values["stages"]
            good = isinstance(stages, (list, tuple)) and all(isinstance(stage, Mapping) for stage in stages)
            require(good, "stages is a list of objects", stages)
            values["stages"] = tuple(Stage.from_dict(stage) for stage in stages)
        return super().from_dict(values)


_PARTS: Mapping[str, type[Config]] = {
    "network": NetworkConfig,
    "losses": LossConfig,
    "augmentation": AugmentationConfig,
    "synthesis": SynthesisConfig,
}
