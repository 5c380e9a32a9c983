"""Peers that the refinement improves on: what a peer found is where it starts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from autofuse_engine.configs import NO_MODEL, RegistrationConfig
from autofuse_engine.devices import resolve_device
from autofuse_engine.errors import InputError
from autofuse_engine.evaluation_configs import MethodSpec
from autofuse_engine.evaluation_memory import PeakMemory
from autofuse_engine.evaluation_methods import EvaluationPair, Method, Registered
from autofuse_engine.evaluation_ours import MethodContext, registered_of, similarity_unused
from autofuse_engine.registration import register


class RememberedPeer:
    """A peer that is asked once for a pair, however many methods in turn build upon what it finds.

    Args:
        peer: the method itself.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``, where memory is looked at.
    """

    def __init__(self, peer: Method, *, device: str = "auto") -> None:
        self.name = peer.name
        self._peer, self._device = peer, resolve_device(device)
        self._last: tuple[EvaluationPair, Registered] | None = None

    def register(self, pair: EvaluationPair) -> Registered:
        """What the peer found for the pair, now or in the turn of the method before.

        Raises:
            AutoFuseError: as the peer does.
        """
        if self._last is None or not _is_same(self._last[0], pair):
            self._last = None
            with PeakMemory(self._device) as memory:
                found = self._peer.register(pair)
            own = found.peak_memory_gib
            self._last = pair, replace(found, peak_memory_gib=memory.gib if own is None else own)
        return self._last[1]


class RefinedPeer:
    """The transform of a peer, and from there the refinement without a model; the seconds of both count.

    Raises:
        InputError: ``method-invalid`` where an option has no effect.
    """

    def __init__(self, spec: MethodSpec, peer: Method, context: MethodContext) -> None:
        self.name = spec.name
        self._peer, self._context = peer, context
        self._config = RegistrationConfig(
            model=NO_MODEL,
            initial="transform",
            refinement_steps=spec.refinement_steps,
            similarity=spec.similarity,
            smoothness=spec.smoothness,
            device=context.device,
            seed=context.seed,
        )

    def register(self, pair: EvaluationPair) -> Registered:
        """Forward and inverse transform of one pair.

        Raises:
            AutoFuseError: as the peer and ``register`` do.
        """
        found = self._peer.register(pair)
        with PeakMemory(resolve_device(self._context.device)) as memory:
            result = register(
                pair.fixed,
                pair.moving,
                self._config,
                fixed_mask=pair.fixed_mask,
                moving_mask=pair.moving_mask,
                start_from=found.forward,
                report=self._context.report,
                cancelled=self._context.cancelled,
            )
        refined = registered_of(result)
        peaks = [peak for peak in (memory.gib, found.peak_memory_gib) if peak is not None]
        return replace(refined, seconds=found.seconds + refined.seconds, peak_memory_gib=max(peaks, default=None))


def refined_or_alone(spec: MethodSpec, peer: Method, context: MethodContext) -> Method:
    """The method that ``spec`` describes, of a peer that is ready.

    Raises:
        InputError: ``method-invalid`` where an option has no effect.
    """
    if spec.refinement_steps != 0:
        return RefinedPeer(spec, peer, context)
    if spec.similarity != "lncc":
        raise similarity_unused(spec)
    if spec.smoothness != 1:
        raise InputError(
            "method-invalid",
            f"The smoothness of the method {spec.name!r} changes nothing: its result is not refined.",
            "Leave smoothness out, or refine with @refine=STEPS or @refine=default.",
        )
    return _Named(spec.name, peer)


class _Named:
    """A peer under the name that an evaluation gives it."""

    def __init__(self, name: str, peer: Method) -> None:
        self.name = name
        self._peer = peer

    def register(self, pair: EvaluationPair) -> Registered:
        return self._peer.register(pair)


def _is_same(one: EvaluationPair, other: EvaluationPair) -> bool:
    images = one.fixed is other.fixed and one.moving is other.moving
    masks = one.fixed_mask is other.fixed_mask and one.moving_mask is other.moving_mask
    return images and masks and np.array_equal(one.initial_ras, other.initial_ras)
