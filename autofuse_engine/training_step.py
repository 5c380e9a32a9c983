"""One step of training: forward, loss, backward for each pair of the batch, then one step of Adam."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from autofuse_engine.distributed import Processes
from autofuse_engine.errors import AutoFuseError, DeviceError
from autofuse_engine.losses.objective import Outcome, objective
from autofuse_engine.losses.segmentation_terms import segmentation_term
from autofuse_engine.network_displacement import displacement_of
from autofuse_engine.networks import lean
from autofuse_engine.networks.build import build_network
from autofuse_engine.networks.network import NetworkOutput, RegistrationNetwork, sample_velocity
from autofuse_engine.networks.recomputation import set_recomputation
from autofuse_engine.networks.regularizer import random_code, term_weights
from autofuse_engine.networks.segmentation import GivenClasses
from autofuse_engine.training_configs import Learns, TrainingConfig, term_names
from autofuse_engine.training_pair_images import TrainingPair

MOST_FAILURES_IN_A_ROW = 5
_LONGEST_FIELD_VOX = 1e4


def network_for_training(config: TrainingConfig, device: torch.device) -> RegistrationNetwork:
    """A network with the fresh weights that the seed gives, set up as the configuration says.

    Raises:
        DeviceError: ``precision-not-supported`` for bfloat16 on a CPU without instructions for it.
    """
    if config.precision == "bfloat16" and device.type == "cpu" and not lean.has_fast_bfloat16():
        raise DeviceError(
            "precision-not-supported",
            "This computer's CPU has no instructions for bfloat16.",
            "Choose the precision float32, which is faster here.",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_network(config.network)
    set_recomputation(network, config.recompute)
    network.to(device)
    if config.channels_last:
        for parameter in network.parameters():
            if parameter.ndim == 5:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return network


class PairLoss(nn.Module):
    """The network together with its loss, as one module: what each process computes for a pair."""

    def __init__(self, network: RegistrationNetwork, config: TrainingConfig) -> None:
        super().__init__()
        self.network, self.config = network, config

    def forward(
        self,
        fixed: Tensor,
        moving: Tensor,
        fixed_labels: Tensor | None,
        moving_labels: Tensor | None,
        noise_seed: int,
        compared: tuple[Tensor, Tensor] | None = None,
        compares_images: bool = True,
        overlap_labels: Tensor | None = None,
        given: tuple[GivenClasses | None, GivenClasses | None] = (None, None),
        learns: Learns = "everything",
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and terms of one pair (``training_pair_images.TrainingPair``), see ``losses.objective.objective``."""
        config = self.config
        if learns == "segmentation":
            return self._segmentation(fixed, fixed_labels)
        with torch.autocast(fixed.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            code, weights = None, None
            if config.network.conditional:
                code = random_code(1, torch.Generator().manual_seed(noise_seed ^ 1)).to(fixed.device)
                prior, smoothness = term_weights(code)
                weights = (smoothness, prior)
            self.network.keep_single_images(learns == "field")
            output: NetworkOutput = self.network(fixed, moving, code=code, fixed_given=given[0], moving_given=given[1])
        field = output.velocity_mean
        if output.velocity_log_variance is not None:
            field = sample_velocity(output, torch.Generator(fixed.device).manual_seed(noise_seed))
        if not bool(field.detach().abs().amax() < _LONGEST_FIELD_VOX):  # NaN is not below either
            return _without_a_loss(output), {}
        displacement = displacement_of(field, fixed.shape[2:], config.network)
        fixed, moving = (fixed, moving) if compared is None else compared
        outcome = Outcome(
            fixed=fixed,
            moving=moving,
            displacement_vox=displacement,
            velocity_mean=output.velocity_mean,
            velocity_log_variance=output.velocity_log_variance,
            regularity_weight=output.regularity_weight,
            varying_weights=weights,
            fixed_logits=output.fixed_logits,
            moving_logits=output.moving_logits,
            fixed_labels=fixed_labels,
            moving_labels=moving_labels,
            overlap_labels=overlap_labels,
            compares_images=compares_images,
        )
        return objective(outcome, config.losses, learns)

    def _segmentation(self, image: Tensor, labels: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Only the term that teaches the segmentation of one image; 0 without labels."""
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            logits = self.network.segment(image)
        if labels is None:
            return 0.0 * logits.float().sum(), {}
        term = segmentation_term(logits, labels)
        return self.config.losses.segmentation * term, {"fixed_segmentation": term}


def _without_a_loss(output: NetworkOutput) -> Tensor:
    """NaN with a gradient to everything that the network gave: such a field cannot be integrated or looked up."""
    names = ("velocity_mean", "velocity_log_variance", "fixed_logits", "moving_logits", "regularity_weight")
    given = [part for name in names if (part := getattr(output, name)) is not None]
    return torch.stack([part.float().sum() for part in given]).sum() * float("nan")


@dataclass(frozen=True, kw_only=True)
class StepFigures:
    """How a step went, the same in every process.

    Attributes:
        loss: mean over the pairs.
        terms: mean of each term over the pairs that have it; None where no pair has.
        gradient_norm: length of the gradient before it is clipped.
        skipped: True where it was not finite, so that no weight changed.
    """

    loss: float
    terms: dict[str, float | None]
    gradient_norm: float
    skipped: bool


class Stepper:
    """Takes steps; every process calls :meth:`step` at the same time, with its share of the batch.

    Pairs go through the network one after the other and their gradients are added: memory is that of one pair, and
    the result does not depend on how many processes share the batch.
    """

    def __init__(self, config: TrainingConfig, network: RegistrationNetwork, processes: Processes) -> None:
        self._config, self._processes = config, processes
        self._terms = term_names(config.losses, config.network)
        self.network = network
        fused = True if processes.device.type == "cuda" else None  # one launch instead of dozens
        self.optimizer = torch.optim.Adam(network.parameters(), lr=config.stages[0].learning_rate, fused=fused)
        self._loss: nn.Module = PairLoss(network, config)
        if processes.count > 1:
            device_ids = [processes.device] if processes.device.type == "cuda" else None
            # Where no gradient goes from the field to the segmentation, that has none for pairs without labels.
            taught = config.network.input_fusion and config.network.segmentation_code == "expected"
            unused = config.network.classes > 0 and not taught
            unused = unused or any(stage.learns != "everything" for stage in config.stages)
            self._loss = DistributedDataParallel(self._loss, device_ids=device_ids, find_unused_parameters=unused)
        self.failures_in_a_row = 0

    def step(self, step: int, pairs: Sequence[Callable[[], TrainingPair]]) -> StepFigures:
        """Learn from this process's pairs of a batch.

        Args:
            step: counted from 0.
            pairs: called one after the other.

        Raises:
            AutoFuseError: ``training-diverged`` after several steps in a row without a finite gradient.
        """
        config = self._config
        stage = config.stages[config.stage_at(step)[0]]
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(1 + 2 * len(self._terms), dtype=torch.float64)
        for number, make in enumerate(pairs):
            last = number == len(pairs) - 1
            together = nullcontext() if last or self._processes.count == 1 else self._loss.no_sync()  # type: ignore[operator]
            with together:
                sums += self._learn(make(), len(pairs), stage.learns)
        sums = self._processes.summed(sums)
        loss = float(sums[0]) / config.batch
        values, counts = sums[1:].view(2, -1).tolist()
        parameters = [parameter for parameter in self.network.parameters() if parameter.grad is not None]
        clip = float("inf") if config.clip_norm is None else config.clip_norm
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, clip))
        skipped = not (abs(loss) < float("inf") and norm < float("inf"))
        self.failures_in_a_row = self.failures_in_a_row + 1 if skipped else 0
        if self.failures_in_a_row > MOST_FAILURES_IN_A_ROW:
            raise _diverged(step)
        if not skipped:
            for group in self.optimizer.param_groups:
                group["lr"] = stage.learning_rate
            self.optimizer.step()
        means = {
            name: value / count if count else None
            for name, value, count in zip(self._terms, values, counts, strict=True)
        }
        return StepFigures(loss=loss, terms=means, gradient_norm=norm, skipped=skipped)

    def _learn(self, pair: TrainingPair, pairs: int, learns: Learns) -> Tensor:
        """Add one pair's gradients; its loss, its terms, and which of them it has, as one tensor."""
        loss, terms = self._loss(
            pair.fixed,
            pair.moving,
            pair.fixed_labels,
            pair.moving_labels,
            pair.noise_seed,
            pair.compared,
            pair.compares_images,
            pair.overlap_labels,
            pair.given,
            learns,
        )
        # Processes average their gradients, each over its share of the batch.
        (loss / pairs).backward()
        missing = torch.zeros_like(loss)
        found = torch.stack([loss, *(terms.get(name, missing) for name in self._terms)]).detach()
        return torch.cat([found.double().cpu(), torch.tensor([float(name in terms) for name in self._terms])])


def _diverged(step: int) -> AutoFuseError:
    return AutoFuseError(
        "training-diverged",
        f"The gradient was not finite in {MOST_FAILURES_IN_A_ROW + 1} steps in a row, up to step {step + 1}.",
        "Lower the learning rate, set clip_norm (for instance 1), or train in float32; then resume.",
    )
