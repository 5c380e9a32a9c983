"""What a reproduction trains: the networks of the paper's tables at equal steps, scaled to a budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from autofuse_engine.configs import NETWORKS, Config, NetworkConfig
from autofuse_engine.errors import InputError
from autofuse_engine.training_configs import LossConfig, Stage, TrainingConfig

Target = Literal["hippocampus", "brain"]
BudgetName = Literal["small", "full"]
TARGETS: tuple[Target, ...] = ("hippocampus", "brain")
BUDGET_NAMES: tuple[BudgetName, ...] = ("small", "full")
OTHER_METHODS = ("affine", "refinement", "syn", "elastix", "voxelmorph")
"""Methods beside the networks of the plan; ``voxelmorph`` is the authors' own package, trained on the same pairs."""
PAPER_CHANNELS = 16
_VALIDATIONS = 5


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How large a reproduction is. ``spacing_mm`` None is that of the images."""

    channels: int
    spacing_mm: float | None
    steps: int
    learning_rate: float


BUDGETS: Mapping[tuple[Target, BudgetName], Budget] = {
    ("hippocampus", "small"): Budget(channels=8, spacing_mm=1.5, steps=1200, learning_rate=4e-4),
    ("brain", "small"): Budget(channels=8, spacing_mm=4.0, steps=500, learning_rate=4e-4),
    ("hippocampus", "full"): Budget(channels=16, spacing_mm=None, steps=20_000, learning_rate=1e-4),
    ("brain", "full"): Budget(channels=16, spacing_mm=None, steps=40_000, learning_rate=1e-4),
}
"""``small`` is meant for a night on two CPU cores, ``full`` for a day on one GPU; docs/reproduction.md has times."""


@dataclass(frozen=True, kw_only=True)
class ReproductionConfig(Config):
    """Every choice of one reproduction.

    ``data`` is a dataset as ``autofuse dataset check`` takes it, or one that ``autofuse dataset prepare`` made, which
    is then taken as it is. ``steps``, ``channels`` (width of AutoFuse's first stage; the other networks keep their
    ratio to it) and ``spacing_mm`` None are those of the budget. ``methods`` None means all. ``label_rules`` is a table
    that merges labels. ``pairs`` of the validation split are judged.
    """

    target: Target
    budget: BudgetName
    data: str
    steps: int | None = None
    channels: int | None = None
    spacing_mm: float | None = None
    methods: tuple[str, ...] | None = None
    label_rules: str | None = None
    pairs: int = 20
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.target in TARGETS, f"target is one of {', '.join(TARGETS)}", self.target)
        _require(self.budget in BUDGET_NAMES, f"budget is one of {', '.join(BUDGET_NAMES)}", self.budget)
        _require(self.steps is None or self.steps >= 2, "steps is at least 2", self.steps)
        _require(self.channels is None or self.channels >= 2, "channels is at least 2", self.channels)
        _require(self.spacing_mm is None or 0.05 <= self.spacing_mm <= 50, "spacing_mm is 0.05..50", self.spacing_mm)
        _require(self.pairs >= 1, "pairs is at least 1", self.pairs)

    @property
    def size(self) -> Budget:
        """The budget with what was chosen otherwise."""
        budget = BUDGETS[self.target, self.budget]
        chosen = {name: value for name in ("steps", "channels", "spacing_mm") if (value := getattr(self, name))}
        return replace(budget, **chosen)


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One network to train; ``group`` is the table in which it stands."""

    name: str
    group: str
    training: TrainingConfig


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    group: str
    network: NetworkConfig
    losses: LossConfig = field(default_factory=LossConfig)
    labelled_percent: float | None = None


UNSUPERVISED, FUSION, SEMI, SWITCHES, FIELD = (
    "Networks without labels (Table 1)",
    "What fusing early, late or everywhere does (Table 3)",
    "Learning from labels (Tables 1 and 5)",
    "Fusion of features and of segmentations (Table 7), all labels, without large kernels",
    "What the network predicts (Table 4, and weights that vary in space)",
)
GROUPS = (UNSUPERVISED, FUSION, SEMI, SWITCHES, FIELD)
_LABELS = 2
"""Stands for the dataset's number of classes until it is known."""
_WITHOUT_FOLDING = LossConfig(folding=0.0)
"""VoxelMorph's papers know no folding term."""


def _switch(fusion: Literal["gate", "sum", "none"], *, inputs: bool) -> _Recipe:
    network = NetworkConfig(classes=_LABELS, fusion=fusion, input_fusion=inputs, large_kernels=False)
    return _Recipe(group=SWITCHES, network=network, labelled_percent=100.0)


_RECIPES: Mapping[str, _Recipe] = {
    "voxelmorph-1": _Recipe(
        group=UNSUPERVISED, network=NETWORKS["voxelmorph-1"], losses=LossConfig(folding=0.0, smoothness=1.0)
    ),
    "voxelmorph-2": _Recipe(
        group=UNSUPERVISED, network=NETWORKS["voxelmorph-2"], losses=LossConfig(folding=0.0, smoothness=1.5)
    ),
    "voxelmorph-diff": _Recipe(group=UNSUPERVISED, network=NETWORKS["voxelmorph-diff"], losses=_WITHOUT_FOLDING),
    "autofuse": _Recipe(group=UNSUPERVISED, network=NETWORKS["autofuse"]),
    "autofuse-trans": _Recipe(group=UNSUPERVISED, network=NETWORKS["autofuse-trans"]),
    "early-fuse": _Recipe(group=FUSION, network=NETWORKS["early-fuse"]),
    "mid-fuse": _Recipe(group=FUSION, network=NETWORKS["mid-fuse"]),
    "late-fuse": _Recipe(group=FUSION, network=NETWORKS["late-fuse"]),
    "multi-fuse": _Recipe(group=FUSION, network=NETWORKS["multi-fuse"]),
    "autofuse-without-elk": _Recipe(group=FUSION, network=NETWORKS["autofuse-without-elk"]),
    "autofuse-semi-20": _Recipe(group=SEMI, network=NetworkConfig(classes=_LABELS), labelled_percent=20.0),
    "autofuse-semi": _Recipe(group=SEMI, network=NetworkConfig(classes=_LABELS), labelled_percent=100.0),
    "switch-inputs": _switch("none", inputs=True),
    "switch-sum": _switch("sum", inputs=False),
    "switch-sum-inputs": _switch("sum", inputs=True),
    "switch-gate": _switch("gate", inputs=False),
    "switch-gate-inputs": _switch("gate", inputs=True),
    "autofuse-varying": _Recipe(group=FIELD, network=NETWORKS["autofuse-varying"]),
    "autofuse-disp": _Recipe(group=FIELD, network=NETWORKS["autofuse-disp"], losses=LossConfig(smoothness=1.0)),
}
RUN_NAMES = tuple(_RECIPES)


def plan_runs(config: ReproductionConfig, dataset: str, labels: int) -> tuple[PlannedRun, ...]:
    """The trainings of a reproduction, in the order in which they run; all take the same number of steps.

    Args:
        config: what is wished.
        dataset: folder of the prepared dataset.
        labels: number of its labels, background left out; without any, nothing learns from labels.

    Raises:
        InputError: ``method-invalid`` for a method that no reproduction knows.
    """
    wanted = wanted_methods(config)
    runs = []
    for name, recipe in _RECIPES.items():
        if name in wanted and (labels or not recipe.network.classes):
            runs.append(PlannedRun(name=name, group=recipe.group, training=_training(config, recipe, dataset, labels)))
    return tuple(runs)


def wanted_methods(config: ReproductionConfig) -> tuple[str, ...]:
    """Names of the networks and other methods that a reproduction compares.

    Raises:
        InputError: ``method-invalid``.
    """
    known = (*OTHER_METHODS, *RUN_NAMES)
    if config.methods is None:
        return known
    for name in config.methods:
        if name not in known:
            raise InputError(
                "method-invalid",
                f"A reproduction has no method {name!r}.",
                f"Choose some of: {', '.join(known)}.",
            )
    return tuple(name for name in known if name in config.methods)


def scaled_channels(network: NetworkConfig, channels: int) -> int:
    """Width of the first stage that keeps a network's ratio to AutoFuse, which has ``channels``.

    In the paper's size AutoFuse has 16, the networks that fuse early, in the middle, late and everywhere 45, 28, 44 and
    19. VoxelMorph's width is a multiple of 4, that of AutoFuse-Trans even.
    """
    width = max(1, math.floor(network.channels * channels / PAPER_CHANNELS + 0.5))
    multiple = 4 if network.kind.startswith("voxelmorph") else 2 if network.kind == "autofuse-trans" else 1
    return -(-width // multiple) * multiple


def _training(config: ReproductionConfig, recipe: _Recipe, dataset: str, labels: int) -> TrainingConfig:
    size = config.size
    network = replace(
        recipe.network,
        channels=scaled_channels(recipe.network, size.channels),
        classes=labels + 1 if recipe.network.classes else 0,
        align_corners=False,  # as in all of our presets, decision 0068
    )
    stages: tuple[Stage, ...] = (Stage(steps=size.steps, learning_rate=size.learning_rate),)
    if recipe.labelled_percent is not None:
        # The paper's schedule: the first half on labelled pairs alone.
        half = size.steps // 2
        stages = (
            Stage(steps=half, pairs="labelled", learning_rate=size.learning_rate),
            Stage(steps=size.steps - half, pairs="labelled+unlabelled", learning_rate=size.learning_rate),
        )
    return TrainingConfig(
        dataset=dataset,
        network=network,
        losses=recipe.losses,
        stages=stages,
        labelled_percent=100.0 if recipe.labelled_percent is None else recipe.labelled_percent,
        seed=config.seed,
        device=config.device,
        validation_every=max(1, -(-size.steps // _VALIDATIONS)),
        validation_pairs=8,
        checkpoint_minutes=5.0,
    )


def _require(condition: bool, rule: str, received: object) -> None:
    if not condition:
        raise ValueError(f"{rule}, received {received!r}")
