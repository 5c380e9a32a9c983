"""Initial alignment: identity, centres, rigid or affine, by multi-resolution Mattes mutual information.

Mattes et al., PET-CT image registration in the chest using free-form deformations, IEEE TMI 22 (2003), in the
implementation of ITK. It runs on one thread: the order in which ITK's threads add up derivatives is not fixed, and
two runs on the same data must give the same matrix, bit for bit, on any number of cores.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from autofuse_engine.data.files import LPS_FROM_RAS, quiet
from autofuse_engine.data.overlap import mass_center_ras, overlap_share
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
_BINS = (24, 32, 32)
_ITERATIONS = (100, 60, 40)
_ANGLES_DEG = (-30.0, 0.0, 30.0)
_STARTS_TO_REFINE = 3
_LARGEST_STEP_IN_VOXELS = 0.5
_SMALLEST_STEP_SHARE = 2e-3
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
        cancelled: asked in every iteration.

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
        transform = search.run(kind)
        before, after = search.information(sitk.AffineTransform(3)), search.information(transform)
    moving_from_fixed_ras = LPS_FROM_RAS @ _matrix_of(transform) @ LPS_FROM_RAS
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
    """The images at three resolutions, and the transform between them (LPS) on its way from coarse to fine."""

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
        self._fixed = Pyramid(fixed, fixed_mask, _VOXELS, own_foreground=True)
        self._moving = Pyramid(moving, moving_mask, _VOXELS, room=True)
        signs = LPS_FROM_RAS.diagonal()[:3]
        self._middles = [signs * volume.center_ras for volume in (fixed, moving)]
        self._masses = [
            signs * mass_center_ras(volume, mask) for volume, mask in ((fixed, fixed_mask), (moving, moving_mask))
        ]
        self._seed = seed
        self._report = report
        self._cancelled = cancelled

    def run(self, kind: AlignmentKind) -> sitk.Transform:
        """The transform of the wished kind, fixed to moving."""
        if kind == "none":
            return sitk.AffineTransform(3)
        if kind in ("centers", "moments"):
            fixed_center, moving_center = self._middles if kind == "centers" else self._masses
            return sitk.TranslationTransform(3, (moving_center - fixed_center).tolist())
        starts = self._promising_starts()
        refined = []
        for number, start in enumerate(starts):
            refined.append(self._optimise(0, start))
            self._tell(0.3 + 0.1 * number, "rigid, coarse")
        rigid = max(refined, key=lambda transform: self.information(transform, 0))
        rigid = self._optimise(1, rigid)
        if kind == "rigid":
            self._tell(0.7, "rigid, fine")
            return self._optimise(2, rigid)
        affine = sitk.AffineTransform(3)
        affine.SetCenter(rigid.GetCenter())
        affine.SetMatrix(rigid.GetMatrix())
        affine.SetTranslation(rigid.GetTranslation())
        for level in range(len(_VOXELS)):
            self._tell(0.6 + 0.1 * level, "affine")
            affine = self._optimise(level, affine)
        return affine

    def information(self, transform: sitk.Transform, level: int = len(_VOXELS) - 1) -> float:
        """Mattes mutual information under a transform; NaN where too few samples meet."""
        method = self._method(level)
        method.SetInitialTransform(transform)
        try:
            return -float(method.MetricEvaluate(self._fixed.images[level], self._moving.images[level]))
        except RuntimeError:  # ITK: all samples map outside of the moving image
            return math.nan

    def _promising_starts(self) -> list[sitk.Euler3DTransform]:
        """Both kinds of centres and turns of -30, 0, 30 degrees about each axis: those with the best metric."""
        starts: list[tuple[float, sitk.Euler3DTransform]] = []
        turns = sorted(itertools.product(np.deg2rad(_ANGLES_DEG), repeat=3), key=lambda turn: sum(np.abs(turn)))
        for fixed_center, moving_center in (self._masses, self._middles):
            for turn in turns:
                start = sitk.Euler3DTransform()
                start.SetCenter(fixed_center.tolist())
                start.SetRotation(*(float(angle) for angle in turn))
                start.SetTranslation((moving_center - fixed_center).tolist())
                starts.append((self.information(start, 0), start))
            self._tell(0.1, "search for a start")
        met = [pair for pair in starts if math.isfinite(pair[0])]
        met.sort(key=lambda pair: -pair[0])
        if not met:
            raise InputError(
                "no-overlap",
                "The images do not lie on each other, neither with their centres nor with their masses together.",
                "Check the masks, or give a matrix as initial alignment.",
            )
        return [start for _, start in met[:_STARTS_TO_REFINE]]

    def _optimise(self, level: int, start: _Transform) -> _Transform:
        fixed, moving = self._fixed.images[level], self._moving.images[level]
        method = self._method(level)
        found = type(start)(start)
        method.SetInitialTransform(found, inPlace=True)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=1.0,
            minStep=_SMALLEST_STEP_SHARE,
            numberOfIterations=_ITERATIONS[level],
            gradientMagnitudeTolerance=1e-12,
            estimateLearningRate=method.EachIteration,
            maximumStepSizeInPhysicalUnits=_LARGEST_STEP_IN_VOXELS * float(np.mean(fixed.GetSpacing())),
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.AddCommand(sitk.sitkIterationEvent, lambda: method.StopRegistration() if self._cancelled() else None)
        try:
            method.Execute(fixed, moving)
        except RuntimeError:  # ITK: a step led out of the moving image
            return start
        if self._cancelled():
            raise CancelledError
        before, after = self.information(start, level), self.information(found, level)
        return found if after > before else start

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

    def _tell(self, fraction: float, text: str) -> None:
        if self._cancelled():
            raise CancelledError
        self._report(Progress(stage="initial alignment", fraction=fraction, text=text))


def _matrix_of(transform: sitk.Transform) -> NDArray[np.float64]:
    """4x4 of a linear ITK transform, LPS."""
    matrix = np.eye(4)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    for axis, unit in enumerate(np.eye(3).tolist()):
        matrix[:3, axis] = np.array(transform.TransformPoint(unit)) - matrix[:3, 3]
    return matrix


@contextmanager
def _one_thread() -> Iterator[None]:
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
