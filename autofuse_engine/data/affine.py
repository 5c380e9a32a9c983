"""Initial alignment: identity, centres, rigid or affine, by multi-resolution Mattes mutual information.

Mattes et al., PET-CT image registration in the chest using free-form deformations, IEEE TMI 22 (2003), in the
implementation of ITK. It runs on one thread: the order in which ITK's threads add up derivatives is not fixed, and
two runs on the same data must give the same matrix, bit for bit, on any number of cores.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from autofuse_engine.data.files import LPS_FROM_RAS, quiet
from autofuse_engine.data.overlap import foreground_radius_mm, mass_center_ras, overlap_share
from autofuse_engine.data.pyramid import Pyramid
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import CancelledError, InputError
from autofuse_engine.events import Progress, Report, silent

AlignmentKind = Literal["none", "centers", "moments", "rigid", "affine"]
ALIGNMENT_KINDS: tuple[AlignmentKind, ...] = ("none", "centers", "moments", "rigid", "affine")

_Transform = TypeVar("_Transform", bound=sitk.Transform)

_VOXELS = (8_000, 40_000, 250_000)  # of the fixed image, coarse to fine; the search for a start uses the first
_ALL_SAMPLED_UP_TO = 100_000  # voxels; of larger images a third is drawn
_SHARE_SAMPLED = 0.33
_WORTHWHILE_SHARE = 0.6  # of the fine level's voxels; a middle level with more is left out
_BINS = (24, 32, 32)
_EVALUATIONS = (200, 100, 60)  # at most
_ANGLES_DEG = (-30.0, 0.0, 30.0)
_OVERLAP_TO_START_AS_THEY_LIE = 0.5
_UNIT_SHARE = 0.3  # of the foreground's radius; the optimiser's first step is one unit, so it cannot leave the image
_TOLERANCE = 1e10  # times the machine's precision: relative gain of the metric at which the optimiser stops
_SMALLEST_OVERLAP = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignmentResult:
    """What :func:`align` found.

    Attributes:
        moving_from_fixed_ras: 4x4, float64, mm; takes points of the fixed image to the moving image.
        information_before: Mattes mutual information (nats) at the identity, NaN where the images do not overlap.
        information_after: the same at the result; larger is better.
        overlap: share of the one foreground that lies in the other's foreground box, the larger of both, 0 to 1.
        seconds: wall-clock time.
    """

    moving_from_fixed_ras: NDArray[np.float64]
    information_before: float
    information_after: float
    overlap: float
    seconds: float


def align(
    fixed: Volume,
    moving: Volume,
    kind: AlignmentKind = "affine",
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    seed: int = 0,
    report: Report = silent,
    cancelled: Callable[[], bool] = lambda: False,
) -> AlignmentResult:
    """Align two images that passed ``check_pair``.

    Args:
        fixed: the fixed image.
        moving: the moving image.
        kind: ``none`` is the identity, ``centers`` brings the middles of the fields of view together, ``moments``
            the centres of mass, ``rigid`` turns and shifts, ``affine`` also scales and shears.
        fixed_mask: on the fixed image's grid; only its voxels that are not zero count.
        moving_mask: the same for the moving image.
        seed: draws the samples of the metric.
        report: receives ``Progress`` with the fraction of the alignment alone.
        cancelled: asked between the steps of the search and of each optimisation, a fraction of a second each.

    Raises:
        InputError: ``no-overlap`` where the images do not lie on each other at the result.
        CancelledError: if ``cancelled()`` became true.
    """
    if kind not in ALIGNMENT_KINDS:
        raise ValueError(f"kind is one of {', '.join(ALIGNMENT_KINDS)}, received {kind!r}")
    started = time.perf_counter()
    with quiet():
        search = _Search(fixed, moving, fixed_mask, moving_mask, seed, report, cancelled)
    with quiet(), _one_thread():
        matrix_lps = search.run(kind)
        before, after = search.information(np.eye(4)), search.information(matrix_lps)
    moving_from_fixed_ras = LPS_FROM_RAS @ matrix_lps @ LPS_FROM_RAS
    overlap = require_overlap(fixed, moving, moving_from_fixed_ras, fixed_mask, moving_mask)
    met_before = overlap_share(fixed, moving, np.eye(4), fixed_mask, moving_mask) >= _SMALLEST_OVERLAP
    return AlignmentResult(
        moving_from_fixed_ras=moving_from_fixed_ras,
        information_before=before if met_before else math.nan,
        information_after=after,
        overlap=overlap,
        seconds=time.perf_counter() - started,
    )


def require_overlap(
    fixed: Volume,
    moving: Volume,
    moving_from_fixed_ras: NDArray,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
) -> float:
    """Share of overlap between the foregrounds (see :func:`overlap_share`), which must reach a tenth.

    Raises:
        InputError: ``no-overlap``.
    """
    share = overlap_share(fixed, moving, moving_from_fixed_ras, fixed_mask, moving_mask)
    if share < _SMALLEST_OVERLAP:
        raise InputError(
            "no-overlap",
            f"After the initial alignment only {100 * share:.0f} percent of {fixed.name} and {moving.name} "
            "lie on each other.",
            "Choose another initial alignment (centers, moments or affine), or give a matrix.",
        )
    return share


class _Search:
    """The images at three resolutions, and the transform between them on its way from coarse to fine.

    Transforms take normalised coordinates of the fixed image to those of the moving image, both around their centres
    of mass; see :class:`Pyramid`. There the identity brings the masses together.
    """

    def __init__(
        self,
        fixed: Volume,
        moving: Volume,
        fixed_mask: Volume | None,
        moving_mask: Volume | None,
        seed: int,
        report: Report,
        cancelled: Callable[[], bool],
    ) -> None:
        self._seed, self._report, self._cancelled = seed, report, cancelled
        signs = LPS_FROM_RAS.diagonal()[:3]
        masses = [signs * mass_center_ras(*pair) for pair in ((fixed, fixed_mask), (moving, moving_mask))]
        middles = [signs * volume.center_ras for volume in (fixed, moving)]
        self._check()
        unit_mm = _UNIT_SHARE * foreground_radius_mm(fixed, fixed_mask)
        shared = {"unit_mm": unit_mm, "between": self._check}
        self._fixed = Pyramid(fixed, fixed_mask, _VOXELS, center_lps=masses[0], own_foreground=True, **shared)
        self._moving = Pyramid(moving, moving_mask, _VOXELS, center_lps=masses[1], room=True, **shared)
        self._check()
        of_middles = ((middles[1] - masses[1]) - (middles[0] - masses[0])) / unit_mm
        self._shifts = {"moments": np.zeros(3), "centers": of_middles}
        if overlap_share(fixed, moving, np.eye(4), fixed_mask, moving_mask) > _OVERLAP_TO_START_AS_THEY_LIE:
            self._shifts["none"] = (masses[0] - masses[1]) / unit_mm
        middle, fine = (image.GetNumberOfPixels() for image in self._fixed.images[1:])
        self._levels = (0, 1, 2) if middle < _WORTHWHILE_SHARE * fine else (0, 2)

    def run(self, kind: AlignmentKind) -> NDArray[np.float64]:
        """4x4 of the wished kind, LPS mm, that takes points of the fixed image to the moving image."""
        if kind == "none":
            return np.eye(4)
        if kind in ("centers", "moments"):
            return self._lps_from_norm(sitk.TranslationTransform(3, self._shifts[kind].tolist()))
        starts = self._promising_starts()
        refined = []
        for number, start in enumerate(starts):
            self._tell(0.25 + 0.1 * number, "rigid, coarse")
            refined.append(self._optimise(0, start))
        self._tell(0.5, "rigid")
        rigid = max(refined, key=lambda transform: self._information(transform, 0))
        rigid = self._optimise(self._levels[1], rigid)
        if kind == "rigid":
            self._tell(0.7, "rigid, fine")
            return self._lps_from_norm(self._optimise(self._levels[-1], rigid))
        affine = sitk.AffineTransform(3)
        affine.SetMatrix(rigid.GetMatrix())
        affine.SetTranslation(rigid.GetTranslation())
        for level in self._levels:
            self._tell(0.6 + 0.1 * level, "affine")
            affine = self._optimise(level, affine)
        return self._lps_from_norm(affine)

    def information(self, matrix_lps: NDArray[np.float64]) -> float:
        """Mattes mutual information on the finest level; NaN where no samples meet."""
        linear = np.linalg.inv(self._moving.lps_from_norm) @ matrix_lps @ self._fixed.lps_from_norm
        affine = sitk.AffineTransform(3)
        affine.SetMatrix(linear[:3, :3].ravel().tolist())
        affine.SetTranslation(linear[:3, 3].tolist())
        return self._information(affine, len(_VOXELS) - 1)

    def _information(self, transform: sitk.Transform, level: int) -> float:
        method = self._method(level)
        method.SetInitialTransform(transform)
        try:
            return -float(method.MetricEvaluate(self._fixed.images[level], self._moving.images[level]))
        except RuntimeError:  # ITK: all samples map outside of the moving image
            return math.nan

    def _promising_starts(self) -> list[sitk.Euler3DTransform]:
        """For each way to bring the images together, the best of turns by -30, 0 and 30 degrees about each axis."""
        turns = sorted(itertools.product(np.deg2rad(_ANGLES_DEG), repeat=3), key=lambda turn: sum(np.abs(turn)))
        starts = []
        for shift in self._shifts.values():
            self._tell(0.1, "search for a start")
            best, best_information = None, -math.inf
            for turn in turns:
                self._check()
                start = sitk.Euler3DTransform()
                start.SetRotation(*(float(angle) for angle in turn))
                start.SetTranslation(shift.tolist())
                information = self._information(start, 0)
                if information > best_information:
                    best, best_information = start, information
            if best is not None:
                starts.append(best)
        if not starts:
            raise InputError(
                "no-overlap",
                "The images do not lie on each other, neither with their centres nor with their masses together.",
                "Check the masks, or give a matrix as initial alignment.",
            )
        return starts

    def _optimise(self, level: int, start: _Transform) -> _Transform:
        """The transform after quasi-Newton steps, or after small ones where those lead out of the moving image."""
        best, best_information = start, self._information(start, level)
        for small_steps in (False, True):
            method = self._method(level)
            found = type(start)(start)
            method.AddCommand(sitk.sitkIterationEvent, self._interrupt_if_cancelled)
            method.SetInitialTransform(found, inPlace=True)
            if small_steps:
                edge = float(np.mean(self._fixed.images[level].GetSpacing()))
                method.SetOptimizerAsRegularStepGradientDescent(edge / 2, edge / 100, _EVALUATIONS[level])
            else:
                method.SetOptimizerAsLBFGSB(
                    gradientConvergenceTolerance=1e-4,
                    numberOfIterations=_EVALUATIONS[level],
                    maximumNumberOfFunctionEvaluations=_EVALUATIONS[level],
                    costFunctionConvergenceFactor=_TOLERANCE,
                )
            try:
                with _silent_interruptions():
                    method.Execute(self._fixed.images[level], self._moving.images[level])
            except RuntimeError:  # ITK: all samples map outside of the moving image, or it was interrupted
                self._check()
                continue
            information = self._information(found, level)
            if information > best_information:
                best, best_information = found, information
            break
        return best

    def _method(self, level: int) -> sitk.ImageRegistrationMethod:
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(_BINS[level])
        method.SetInterpolator(sitk.sitkLinear)
        if self._fixed.mask is not None:
            method.SetMetricFixedMask(self._fixed.mask)
        if self._moving.mask is not None:
            method.SetMetricMovingMask(self._moving.mask)
        if self._fixed.images[level].GetNumberOfPixels() > _ALL_SAMPLED_UP_TO:
            method.SetMetricSamplingStrategy(method.REGULAR)
            method.SetMetricSamplingPercentage(_SHARE_SAMPLED, 1 + self._seed)  # for ITK 0 is the clock
        return method

    def _lps_from_norm(self, transform: sitk.Transform) -> NDArray[np.float64]:
        """4x4 in LPS mm of a linear transform between normalised coordinates."""
        matrix = np.eye(4)
        matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
        for axis, unit in enumerate(np.eye(3).tolist()):
            matrix[:3, axis] = np.array(transform.TransformPoint(unit)) - matrix[:3, 3]
        return self._moving.lps_from_norm @ matrix @ np.linalg.inv(self._fixed.lps_from_norm)

    def _interrupt_if_cancelled(self) -> None:
        """Called after every iteration of an optimiser; the quasi-Newton one heeds no ``StopRegistration``."""
        if self._cancelled():
            raise _Interrupted

    def _check(self) -> None:
        if self._cancelled():
            raise CancelledError

    def _tell(self, fraction: float, text: str) -> None:
        self._check()
        self._report(Progress(stage="initial alignment", fraction=fraction, text=text))


class _Interrupted(Exception):  # noqa: N818 (nothing went wrong)
    """Goes through ITK, which makes a RuntimeError of it."""


@contextmanager
def _silent_interruptions() -> Iterator[None]:
    """SimpleITK prints what a callback raises, by ``sys.excepthook``, before it passes it on."""
    before = sys.excepthook
    sys.excepthook = lambda kind, error, trace: None if kind is _Interrupted else before(kind, error, trace)
    try:
        yield
    finally:
        sys.excepthook = before


@contextmanager
def _one_thread() -> Iterator[None]:
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
