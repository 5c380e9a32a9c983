"""B-splines of elastix (the package ``itk-elastix``), from the shared initial alignment, sampled to a grid."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import InputError
from autofuse_engine.evaluation_methods import EvaluationPair, Registered
from autofuse_engine.peer_geometry import grid_then_matrix, lps_matrix, placement_of, values_of
from autofuse_engine.peer_packages import load_peer

_VOXELS_PER_NODE = 4.0
_NODES_PER_SIDE = 24.0
_LARGE_SIDE = 64


class ElastixMethod:
    """Multi-resolution B-splines with stochastic gradient descent (Klein et al., IEEE TMI 2010).

    Each image goes in as it is, in its own geometry. The initial alignment is handed over as an ITK transform that
    elastix composes with the B-spline (``bspline(matrix(x))``); nothing is resampled before, and no file is written.
    The result is sampled at the voxel centres of the fixed image. elastix has no inverse. Masks, where the pair has
    some, restrict the similarity.

    Args:
        name: display name.
        seed: of the random samples.
        threads: of elastix; None leaves the number to it.
    """

    def __init__(self, name: str, *, seed: int = 0, threads: int | None = None) -> None:
        self.name = name
        self._seed, self._threads = seed, threads
        self._itk = load_peer("elastix")
        image = self._itk.Image[self._itk.F, 3]
        self._elastix = self._itk.ElastixRegistrationMethod[image, image]  # loads for seconds, once

    def register(self, pair: EvaluationPair) -> Registered:
        """The forward transform of one pair.

        Raises:
            InputError: ``peer-failed``.
        """
        return self.register_and_warp(pair)[0]

    def register_and_warp(self, pair: EvaluationPair) -> tuple[Registered, Volume]:
        """The same, and elastix' own warped image, float32 on the fixed grid."""
        itk = self._itk
        fixed, moving = (_itk_image(itk, volume, itk.F) for volume in (pair.fixed, pair.moving))
        choices = itk.ParameterObject.New()
        choices.AddParameterMap({name: list(values) for name, values in parameters(pair.fixed, self._seed).items()})
        started = time.perf_counter()
        method = self._elastix.New()
        method.SetFixedImage(fixed)
        method.SetMovingImage(moving)
        for mask, give in ((pair.fixed_mask, method.SetFixedMask), (pair.moving_mask, method.SetMovingMask)):
            if mask is not None:
                give(_itk_image(itk, mask.with_array((mask.array != 0).astype(np.uint8)), itk.UC))
        method.SetParameterObject(choices)
        initial = _itk_affine(itk, pair)
        method.SetInitialTransform(initial)  # the external kind has no Hessian, which the bending energy needs
        method.SetLogToConsole(False)
        method.SetLogToFile(False)
        if self._threads is not None:
            method.SetNumberOfThreads(self._threads)
        try:
            method.UpdateLargestPossibleRegion()
        except RuntimeError as error:
            raise _failed(pair, str(error)) from error
        seconds = time.perf_counter() - started
        # The views of ITK live as long as their owners, hence the copies.
        warped = pair.fixed.with_array(itk.array_from_image(method.GetOutput()).astype(np.float32), pair.moving.name)
        field = _sampled(itk, method.GetCombinationTransform(), fixed)
        forward = grid_then_matrix(field, pair.fixed, pair.initial_ras)
        return Registered(forward=forward, inverse=None, seconds=seconds), warped


def parameters(fixed: Volume, seed: int) -> Mapping[str, tuple[str, ...]]:
    """elastix' parameters for one pair; see docs/decisions/0101 for where they come from.

    Args:
        fixed: its size chooses the spacing of the B-spline and the number of resolutions.
        seed: of the random samples.
    """
    resolutions = 4 if min(fixed.shape) >= _LARGE_SIDE else 3
    return {
        "Registration": ("MultiMetricMultiResolutionRegistration",),
        "Metric": ("AdvancedNormalizedCorrelation", "TransformBendingEnergyPenalty"),
        "Metric0Weight": ("1.0",),
        "Metric1Weight": ("1.0",),
        "Transform": ("BSplineTransform",),
        "HowToCombineTransforms": ("Compose",),
        "FinalGridSpacingInPhysicalUnits": (f"{final_spacing_mm(fixed):.6f}",),
        "GridSpacingSchedule": tuple(f"{2.0**level:g}" for level in reversed(range(resolutions))),
        "NumberOfResolutions": (str(resolutions),),
        "FixedImagePyramid": ("FixedSmoothingImagePyramid",),
        "MovingImagePyramid": ("MovingSmoothingImagePyramid",),
        "Optimizer": ("AdaptiveStochasticGradientDescent",),
        "AutomaticParameterEstimation": ("true",),
        "AutomaticTransformInitialization": ("false",),
        "MaximumNumberOfIterations": ("1000",),
        "ImageSampler": ("RandomCoordinate",),
        "NewSamplesEveryIteration": ("true",),
        "NumberOfSpatialSamples": ("4096",),
        "MaximumNumberOfSamplingAttempts": ("8",),
        "Interpolator": ("LinearInterpolator",),
        "ResampleInterpolator": ("FinalLinearInterpolator",),
        "Resampler": ("DefaultResampler",),
        "DefaultPixelValue": ("0",),
        "WriteResultImage": ("true",),
        "RandomSeed": (str(seed + 1),),
    }


def final_spacing_mm(fixed: Volume) -> float:
    """Distance of the B-spline's nodes at the last resolution: 4 voxels, or as many more as make 24 nodes a side."""
    spacing = float(np.prod(fixed.spacing_mm) ** (1 / 3))
    extent = spacing * float(np.prod(fixed.shape) ** (1 / 3))
    return max(_VOXELS_PER_NODE * spacing, extent / _NODES_PER_SIDE)


def _itk_image(itk: Any, volume: Volume, pixel: Any) -> Any:
    place = placement_of(volume)
    values = values_of(volume) if pixel is itk.F else np.ascontiguousarray(volume.array)
    image = itk.image_from_array(values)
    image.SetOrigin(list(place.origin))
    image.SetSpacing(list(place.spacing))
    image.SetDirection(itk.matrix_from_array(place.direction))
    return image


def _itk_affine(itk: Any, pair: EvaluationPair) -> Any:
    matrix = lps_matrix(pair.initial_ras)
    affine = itk.AffineTransform[itk.D, 3].New()
    affine.SetMatrix(itk.matrix_from_array(np.ascontiguousarray(matrix[:3, :3])))
    affine.SetTranslation([float(value) for value in matrix[:3, 3]])
    return affine


def _sampled(itk: Any, transform: Any, fixed: Any) -> np.ndarray:
    """``transform(x) - x`` at the voxel centres, ``(D, H, W, 3)``, mm, LPS."""
    field_type = itk.Image[itk.Vector[itk.F, 3], 3]
    sampler = itk.TransformToDisplacementFieldFilter[field_type, itk.D].New()
    sampler.SetTransform(transform)
    sampler.UseReferenceImageOn()
    sampler.SetReferenceImage(fixed)
    sampler.UpdateLargestPossibleRegion()
    return itk.array_from_image(sampler.GetOutput()).astype(np.float64)


def _failed(pair: EvaluationPair, reason: str) -> InputError:
    lines = [line for line in reason.splitlines() if line.strip()]
    return InputError(
        "peer-failed",
        f"elastix cannot register {pair.moving.name} to {pair.fixed.name}: "
        f"{' '.join(lines[-1].split()).rstrip('.') if lines else 'it does not say why'}.",
        "Look at the pair with 'autofuse register', or leave it or the method out.",
    )
