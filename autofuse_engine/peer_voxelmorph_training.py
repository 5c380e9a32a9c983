"""Train VoxelMorph's own network with its own losses on a prepared dataset, on the pairs that our networks see."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autofuse_engine import __version__
from autofuse_engine.configs import NetworkConfig
from autofuse_engine.data.pairs import PairSampler
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.devices import resolve_device
from autofuse_engine.distributed import Processes
from autofuse_engine.errors import CancelledError, InputError
from autofuse_engine.events import Metric, Progress, Report, silent
from autofuse_engine.peer_packages import installed_version, load_peer
from autofuse_engine.peer_voxelmorph_network import (
    AsOurs,
    VoxelMorphConfig,
    build_voxelmorph,
    write_voxelmorph,
)
from autofuse_engine.training_configs import Stage, TrainingConfig
from autofuse_engine.training_pairs import ClassTable, PairReader
from autofuse_engine.validation import Validator

STAGE = "training"
_WINDOW = 9


@dataclass(frozen=True, kw_only=True)
class VoxelMorphTraining:
    """How a training went.

    Attributes:
        losses: one for each step: minus the mean squared local correlation, plus the weighted smoothness.
        validations: ``step``, ``score`` and the figures of :mod:`.validation` each time; the first one is untrained.
        best: the validation whose weights were kept.
        seconds: of all steps, validations left out.
    """

    losses: tuple[float, ...]
    validations: tuple[dict[str, Any], ...]
    best: dict[str, Any]
    seconds: float


def train_voxelmorph(
    prepared_folder: str | Path,
    out_safetensors: str | Path,
    *,
    steps: int,
    learning_rate: float = 1e-4,
    seed: int = 0,
    network: VoxelMorphConfig | None = None,
    smoothness: float = 1.0,
    pairs: Any = "any",
    validation_every: int = 1000,
    validation_pairs: int = 8,
    device: str = "auto",
    report: Report = silent,
    cancelled: Callable[[], bool] = lambda: False,
) -> VoxelMorphTraining:
    """Train from scratch with Adam, one pair a step, in float32; keep the weights of the best validation.

    The loss is the package's: minus ``neurite``'s squared local correlation in windows of 9 x 9 x 9, plus
    ``smoothness`` times its squared gradient of the velocity. Pairs, their order and the validation are those of
    :func:`autofuse_engine.training.train` with one stage, the same seed and no augmentation.

    Args:
        prepared_folder: what ``autofuse dataset prepare`` made.
        out_safetensors: receives the weights at each validation that is the best so far, whole or not at all.
        steps: of Adam.
        learning_rate: of Adam, constant.
        seed: of the weights and of the order of the pairs.
        network: widths and integration; None means the defaults.
        smoothness: weight of the gradient; 1 is what the authors advise with this similarity.
        pairs: kind of :class:`PairSampler`.
        validation_every: steps between validations; the last step is judged too.
        validation_pairs: at most so many are judged.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        report: receives events.
        cancelled: asked before each step; True ends the training, weights written before stay.

    Raises:
        InputError: ``peer-not-installed``, ``peer-size-multiple``, ``peer-training-diverged``, ``pairs-too-few``.
        FileError: of the dataset, or ``output-not-writable``.
        CancelledError: if ``cancelled`` said so.
    """
    shape = network or VoxelMorphConfig()
    out = Path(out_safetensors)
    dataset = PreparedDataset.open(prepared_folder)
    _require_multiple(dataset.shape, shape)
    config = TrainingConfig(
        dataset=str(prepared_folder),
        network=NetworkConfig(kind="voxelmorph-2", field="displacement"),  # what the validation has to know
        stages=(Stage(steps=steps, pairs=pairs, learning_rate=learning_rate),),
        seed=seed,
        device=device,
        validation_every=validation_every,
        validation_pairs=validation_pairs,
    )
    processes = Processes(rank=0, count=1, device=resolve_device(device))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peer = build_voxelmorph(shape).to(processes.device)
    sampler = PairSampler(dataset, pairs, "train", seed)
    table = ClassTable([label.value for label in dataset.labels])
    judged_pairs = sampler.validation_pairs(validation_pairs)
    validator = Validator(config, dataset, judged_pairs, table, processes)
    facts = {
        "package": installed_version("voxelmorph"),
        "neurite": str(load_peer("voxelmorph", "neurite").__version__),
        "engine": __version__,
        "torch": str(torch.__version__),
        "training": {"steps": steps, "learning_rate": learning_rate, "seed": seed, "smoothness": smoothness},
        "dataset": {**dict(dataset.manifest.dataset), "shape": list(dataset.shape)},
    }
    run = _Run(peer, validator, smoothness, report)

    def keep(row: dict[str, Any]) -> None:
        write_voxelmorph(out, peer, shape, dataset.preprocessing, {**facts, "best": row})

    with PairReader(config, dataset, [sampler], None, processes.device) as reader:
        run.train(config, reader, keep, cancelled)
    return VoxelMorphTraining(
        losses=tuple(run.losses), validations=tuple(run.validations), best=run.best or {}, seconds=run.seconds
    )


class _Run:
    def __init__(self, peer: nn.Module, validator: Validator, smoothness: float, report: Report) -> None:
        modules = load_peer("voxelmorph", "neurite").nn.modules
        self.peer, self.validator, self.smoothness, self.report = peer, validator, smoothness, report
        self.correlation = modules.NCC(window_size=_WINDOW)
        self.gradient = modules.SpatialGradient(penalty="l2")
        self.losses: list[float] = []
        self.validations: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.seconds = 0.0

    def train(
        self,
        config: TrainingConfig,
        reader: PairReader,
        keep: Callable[[dict[str, Any]], None],
        cancelled: Callable[[], bool],
    ) -> None:
        optimizer = torch.optim.Adam(self.peer.parameters(), lr=config.stages[0].learning_rate)
        self.validate(0)
        for step in range(config.steps):
            if cancelled():
                raise CancelledError("The training was cancelled; the best weights so far stay.")
            started = time.perf_counter()
            pair = reader.pair(step, 0, (step + 1, 0) if step + 1 < config.steps else None)
            optimizer.zero_grad(set_to_none=True)
            loss, terms = self.loss(pair.fixed, pair.moving)
            if not bool(torch.isfinite(loss)):
                raise _diverged(step)
            loss.backward()
            optimizer.step()
            self.losses.append(float(loss.detach()))
            self.seconds += time.perf_counter() - started
            done = step + 1
            self.report(Metric(stage=STAGE, step=done, values={"loss": self.losses[-1], **terms}))
            fraction = done / config.steps
            self.report(Progress(stage=STAGE, fraction=fraction, text=f"step {done} of {config.steps}"))
            if done % config.validation_every == 0 or done == config.steps:
                row = self.validate(done)
                if self.best is None or row["score"] > self.best["score"]:
                    self.best = row
                    keep(row)

    def loss(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The package's loss of one pair ``(1, 1, D, H, W)``; the warped image is the network's own."""
        velocity, warped = self.peer(moving, fixed, return_warped_source=True, return_field_type="velocity")
        similarity = -self.correlation(fixed, warped).mean()
        roughness = self.gradient(velocity)
        terms = {"similarity": float(similarity.detach()), "smoothness": float(roughness.detach())}
        return similarity + self.smoothness * roughness, terms

    def validate(self, step: int) -> dict[str, Any]:
        judged = self.validator.judge(AsOurs(self.peer))  # type: ignore[arg-type]
        row = {"step": step, "score": judged.score, **judged.figures}
        self.validations.append(row)
        known = {name: value for name, value in row.items() if name != "step" and value is not None}
        self.report(Metric(stage="validation", step=step, values=known))
        return row


def _require_multiple(shape: tuple[int, int, int], config: VoxelMorphConfig) -> None:
    if any(side % config.size_multiple for side in shape):
        raise InputError(
            "peer-size-multiple",
            f"The prepared images have {' x '.join(map(str, shape))} voxels, but a VoxelMorph network of "
            f"{len(config.encoder)} levels needs multiples of {config.size_multiple}.",
            "Choose fewer levels; four fit every prepared dataset.",
        )


def _diverged(step: int) -> InputError:
    return InputError(
        "peer-training-diverged",
        f"The loss of step {step + 1} of the training of VoxelMorph is not finite.",
        "Choose a smaller learning rate; weights of an earlier validation stay.",
    )
