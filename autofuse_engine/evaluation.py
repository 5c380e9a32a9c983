"""Compare methods on the same pairs from the same initial alignment, with one judge; stops and goes on anywhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autofuse_engine.data.affine import align
from autofuse_engine.data.transform import MatrixStep, SpatialTransform
from autofuse_engine.devices import resolve_device
from autofuse_engine.errors import AutoFuseError, CancelledError, InputError
from autofuse_engine.evaluation_configs import PEER_KINDS, EvaluationConfig, MethodSpec
from autofuse_engine.evaluation_data import EvaluationData, open_data
from autofuse_engine.evaluation_folder import EvaluationFolder, SharedAlignment
from autofuse_engine.evaluation_judge import PairJudge
from autofuse_engine.evaluation_memory import PeakMemory
from autofuse_engine.evaluation_methods import EvaluationPair, Method
from autofuse_engine.evaluation_ours import MethodContext, our_method
from autofuse_engine.evaluation_refined import RememberedPeer, refined_or_alone
from autofuse_engine.evaluation_rows import PairRow, append_row, read_rows, write_csv
from autofuse_engine.events import Event, Metric, Progress, Report, Warning, silent
from autofuse_engine.lent_labels import STAGE as LABELS_STAGE
from autofuse_engine.prediction import ModelCache

MakePeer = Callable[[MethodSpec], Method]


def evaluate(
    config: EvaluationConfig,
    out: str | Path,
    *,
    report: Report = silent,
    cancelled: Callable[[], bool] = lambda: False,
    models: ModelCache | None = None,
    make_peer: MakePeer | None = None,
) -> list[PairRow]:
    """Register every pair with every method and judge the transforms; rows that ``out`` holds already are kept.

    Args:
        config: dataset, methods, pairs and machine.
        out: folder of the evaluation, made where absent.
        report: receives ``Progress`` whose stage names the pair, and warnings.
        cancelled: asked between and within registrations; True ends with :class:`CancelledError`.
        models: keeps networks warm between calls.
        make_peer: makes the methods of other packages; without it they are refused.

    Returns:
        The rows of the wished methods and pairs, those of earlier runs included, pair by pair.

    Raises:
        AutoFuseError: if the dataset, a method, the device or the folder cannot be used. A method that fails on a pair
            gives a row with ``error`` instead.
    """
    data = open_data(config)
    run = _Evaluation(config, data, Path(out), report, cancelled)
    context = MethodContext(
        device=config.device,
        seed=config.seed,
        models=models or ModelCache(),
        report=run.tell_within,
        cancelled=cancelled,
    )
    for warning in data.warnings:
        report(warning)
    with _threads(config.threads):
        peers: dict[tuple[str | None, ...], Method] = {}
        methods = [_made(spec, context, make_peer, peers) for spec in config.methods]
        with EvaluationFolder(out) as folder:
            for note in folder.begin(config, data, resolve_device(config.device)):
                report(Warning(code="evaluation-other-machine", text=note))
            return run.all_pairs(methods, folder)


class _Evaluation:
    """The pairs in turn; each is read once, aligned once, and registered by every method that lacks it."""

    def __init__(
        self,
        config: EvaluationConfig,
        data: EvaluationData,
        out: Path,
        report: Report,
        cancelled: Callable[[], bool],
    ) -> None:
        self._config, self._data, self._out = config, data, out
        self._report, self._cancelled = report, cancelled
        self._device = resolve_device(config.device)
        self._rows: dict[tuple[str, str, str], PairRow] = {}
        self._place = (0.0, 1.0, "")
        self._told: set[tuple[str, str]] = set()

    def all_pairs(self, methods: Sequence[Method], folder: EvaluationFolder) -> list[PairRow]:
        """Compute what is missing; the table is written however it ends."""
        self._rows = {row.key: row for row in read_rows(self._out)}
        wanted = [(method.name, *pair) for pair in self._data.readers for method in methods]
        try:
            for number, pair in enumerate(self._data.readers):
                missing = [method for method in methods if self._lacks((method.name, *pair))]
                if missing:
                    self._one_pair(number, pair, missing, folder)
        except CancelledError as error:
            done = sum(key in self._rows for key in wanted)
            raise CancelledError(
                f"The evaluation was stopped: {done} of {len(wanted)} rows are in {self._out}. "
                "The same command goes on with the rest."
            ) from error
        finally:
            write_csv(self._out)
        self._report(Progress(stage="done", fraction=1.0))
        return [self._rows[key] for key in wanted]

    def tell_within(self, event: Event) -> None:
        """Pass on what a method tells; its own progress becomes that of the whole evaluation.

        What it says of an image in the same words for every pair and method is passed on once; that memory did not
        suffice concerns one registration, and is passed on each time.
        """
        if isinstance(event, Progress):
            start, end, stage = self._place
            self._report(Progress(stage=stage, fraction=start + (end - start) * event.fraction, text=event.stage))
        elif isinstance(event, Warning):
            words = (event.code, event.text)
            if words not in self._told or event.code == "less-memory":
                self._told.add(words)
                self._report(event)
        elif not isinstance(event, Metric) or event.stage == LABELS_STAGE:
            self._report(event)

    def _lacks(self, key: tuple[str, str, str]) -> bool:
        row = self._rows.get(key)
        return row is None or (row.error is not None and self._config.retry_failed)

    def _one_pair(
        self, number: int, pair: tuple[str, str], methods: Sequence[Method], folder: EvaluationFolder
    ) -> None:
        count = len(self._data.readers)
        shares = np.linspace(number / count, (number + 1) / count, len(methods) + 1).tolist()
        stage = f"pair {number + 1} of {count}"
        self._go_on(shares[0], shares[0], f"{stage}: reading")
        try:
            images = self._data.readers[pair]()
            judge = PairJudge(images, self._config.seed)
        except AutoFuseError as error:
            for method in methods:
                self._keep(_failed(method.name, pair, 0.0, error))
            return
        turn = _PairTurn(pair, images, judge, folder, self._data.kind == "prepared", self._config.seed)
        for place, method in enumerate(methods):
            self._go_on(shares[place], shares[place + 1], f"{stage}: {method.name}")
            started = time.perf_counter()
            try:
                row = turn.row(method, self._unaligned(method), self._device, self.tell_within, self._cancelled)
            except CancelledError:
                raise
            except Exception as error:  # of a method, whatever it is, the next one shall not suffer
                row = _failed(method.name, pair, time.perf_counter() - started, error)
            self._keep(row)

    def _unaligned(self, method: Method) -> bool:
        return any(spec.name == method.name and spec.kind == "none" for spec in self._config.methods)

    def _go_on(self, start: float, end: float, stage: str) -> None:
        if self._cancelled():
            raise CancelledError
        self._place = (start, end, stage)
        self._report(Progress(stage=stage, fraction=start))

    def _keep(self, row: PairRow) -> None:
        append_row(self._out, row)
        self._rows[row.key] = row
        if row.error is not None:
            text = f"{row.method} failed on {row.moving} to {row.fixed}: {row.error}"
            self._report(Warning(code="method-failed", text=text))


class _PairTurn:
    """One pair while its methods take turns: the shared alignment and its figures are found once, when needed."""

    def __init__(
        self,
        pair: tuple[str, str],
        images: EvaluationPair,
        judge: PairJudge,
        folder: EvaluationFolder,
        aligned: bool,
        seed: int,
    ) -> None:
        self._pair, self._images, self._judge, self._folder = pair, images, judge, folder
        self._aligned, self._seed = aligned, seed
        self._before: dict[str, Any] | None = None
        self._failure: AutoFuseError | None = None

    def row(
        self, method: Method, unaligned: bool, device: torch.device, report: Report, cancelled: Callable[[], bool]
    ) -> PairRow:
        """Register and judge; ``unaligned`` methods start from the images as they lie.

        Raises:
            AutoFuseError, and whatever else the method raises.
        """
        seconds_alignment = None
        images = self._images
        if not unaligned and not self._aligned:
            shared = self._alignment(report, cancelled)
            images = replace(images, initial_ras=shared.matrix_ras)
            seconds_alignment = shared.seconds
        with PeakMemory(device) as memory:
            found = method.register(images)
        after = self._judge.alignment(found.forward)
        before = after if unaligned else self._figures_before(images.initial_ras)
        own = found.peak_memory_gib
        return PairRow(
            method=method.name,
            fixed=self._pair[0],
            moving=self._pair[1],
            seconds=found.seconds,
            seconds_alignment=seconds_alignment,
            peak_memory_gib=memory.gib if own is None else own,
            gate_means=tuple(found.gate_means),
            dice_before=before["dice"],
            hd95_before_mm=before["hd95_mm"],
            tre_before_mm=before["tre_mm"],
            **after,
            **self._judge.regularity(found.forward),
            **self._judge.consistency(found.forward, found.inverse),
        )

    def _alignment(self, report: Report, cancelled: Callable[[], bool]) -> SharedAlignment:
        if self._failure is not None:
            raise self._failure
        kept = self._folder.alignment(self._pair)
        if kept is not None:
            return kept
        pair = self._images
        try:
            result = align(
                pair.fixed,
                pair.moving,
                fixed_mask=pair.fixed_mask,
                moving_mask=pair.moving_mask,
                seed=self._seed,
                report=report,
                cancelled=cancelled,
            )
        except CancelledError:
            raise
        except AutoFuseError as error:
            self._failure = error
            raise
        found = SharedAlignment(matrix_ras=result.moving_from_fixed_ras, seconds=result.seconds)
        self._folder.keep_alignment(self._pair, found)
        return found

    def _figures_before(self, initial_ras: np.ndarray) -> dict[str, Any]:
        if self._before is None:
            self._before = self._judge.alignment(SpatialTransform(steps=(MatrixStep(matrix_ras=initial_ras),)))
        return self._before


def _made(
    spec: MethodSpec, context: MethodContext, make_peer: MakePeer | None, peers: dict[tuple[str | None, ...], Method]
) -> Method:
    """``peers`` are those made so far, by kind, weights and metric: methods that build upon one share it."""
    if spec.kind not in PEER_KINDS:
        return our_method(spec, context)
    if make_peer is None:
        raise InputError(
            "method-invalid", f"The method {spec.name!r} is not available here.", "Choose one of the project's own."
        )
    which = spec.kind, spec.model, spec.metric
    if which not in peers:
        peers[which] = RememberedPeer(make_peer(spec), device=context.device)
    return refined_or_alone(spec, peers[which], context)


def _failed(method: str, pair: tuple[str, str], seconds: float, error: Exception) -> PairRow:
    text = error.text if isinstance(error, AutoFuseError) else f"{type(error).__name__}: {error}".splitlines()[0]
    return PairRow(method=method, fixed=pair[0], moving=pair[1], seconds=seconds, error=text)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
