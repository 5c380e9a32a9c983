"""An image at several resolutions, in coordinates of its own size, ready for a metric and optimiser of ITK."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from autofuse_engine.data.files import to_sitk
from autofuse_engine.data.overlap import foreground, intensity_range
from autofuse_engine.data.volume import Volume

_MARGIN_MM = 6.0
_ROOM_SHARE = 0.25


class Pyramid:
    """Float32 images from coarse to fine, intensities clipped to their range, and one mask.

    Their coordinates are ``(point_lps - center_lps) / unit_mm``: with a unit of the size of what is shown, turns,
    shifts and scales weigh about the same, and an optimiser needs no scales for its parameters.

    Args:
        volume: the image.
        mask: on its grid; voxels that are not zero count.
        center_lps: ``(3,)``, mm.
        unit_mm: length of the unit.
        voxel_counts: about how many voxels each level has; levels never are finer than the image.
        own_foreground: without mask, use the image's foreground and a margin, where it leaves out much of the image.
        room: add background around an image whose border is background, so that the other image never leaves it.
        between: called between pieces of the work; may raise to stop.

    Attributes:
        images: one SimpleITK image per count.
        mask: SimpleITK image, or None where every voxel counts.
        lps_from_norm: 4x4; takes these coordinates to the patient.
    """

    def __init__(
        self,
        volume: Volume,
        mask: Volume | None,
        voxel_counts: Sequence[int],
        *,
        center_lps: NDArray,
        unit_mm: float,
        own_foreground: bool = False,
        room: bool = False,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        counts = volume.array if mask is None else volume.array[mask.array != 0]
        low, high = intensity_range(counts)
        values = volume.array.astype(np.float32)
        if mask is not None:  # what lies outside must not leak in when the image is smoothed
            values[mask.array == 0] = np.clip(counts, low, high).mean()
        between()
        clipped = volume.with_array(np.clip(values, low, high))
        between()
        image = to_sitk(clipped)
        border = _border(clipped.array)
        level = float(np.median(border))
        if room and mask is None and (np.abs(border - level) <= 0.05 * (high - low)).mean() > 0.8:
            widths = [int(np.ceil(_ROOM_SHARE * side)) for side in image.GetSize()]
            image = sitk.ConstantPad(image, widths, widths, level)
        self.lps_from_norm = np.eye(4)
        self.lps_from_norm[:3, :3] *= unit_mm
        self.lps_from_norm[:3, 3] = center_lps
        self.images: list[sitk.Image] = []
        for count in sorted(voxel_counts, reverse=True):
            between()
            image = _shrunk(image, count, between)
            self.images.insert(0, self._normalised(image))
        self.mask: sitk.Image | None = None
        if mask is not None:
            self.mask = self._normalised(to_sitk(mask.with_array((mask.array != 0).astype(np.uint8))))
        elif own_foreground:
            between()
            shown = foreground(volume.array)
            if shown.mean() < 0.7:
                radius = [max(1, round(_MARGIN_MM / spacing)) for spacing in volume.spacing_mm]
                shown_itk = to_sitk(volume.with_array(shown.astype(np.uint8)))
                between()
                self.mask = self._normalised(sitk.BinaryDilate(shown_itk, radius))

    def _normalised(self, image: sitk.Image) -> sitk.Image:
        moved = sitk.Image(image)
        unit_mm = self.lps_from_norm[0, 0]
        moved.SetSpacing([side / unit_mm for side in image.GetSpacing()])
        moved.SetOrigin(((np.array(image.GetOrigin()) - self.lps_from_norm[:3, 3]) / unit_mm).tolist())
        return moved


def _shrunk(image: sitk.Image, voxel_count: int, between: Callable[[], None]) -> sitk.Image:
    """Average, smooth and resample the field of view to about ``voxel_count`` voxels, as cubic as they can be."""
    spacing, size = np.array(image.GetSpacing()), np.array(image.GetSize())
    edge = (np.prod(spacing * size) / voxel_count) ** (1 / 3)
    for _ in range(5):  # axes that are coarser than the edge already stay: the others make up for them
        count = np.prod(size * spacing / np.maximum(spacing, edge))
        edge *= max(1.0, count / voxel_count) ** (1 / 3)
    coarser = edge > 1.05 * spacing
    if not coarser.any():
        return image
    new_size = np.where(coarser, np.maximum(np.round(size * spacing / edge), 1), size).astype(int)
    new_spacing = spacing * size / new_size
    direction = np.array(image.GetDirection()).reshape(3, 3)
    origin = np.array(image.GetOrigin()) + direction @ ((new_spacing - spacing) / 2)
    image = sitk.BinShrink(image, np.maximum(new_spacing // (2 * spacing), 1).astype(int).tolist())
    for axis in np.flatnonzero(coarser):
        between()
        if image.GetSize()[axis] >= 4:  # the recursive filter needs four voxels
            image = sitk.RecursiveGaussian(image, float(new_spacing[axis] / 2), direction=int(axis))
    return sitk.Resample(
        sitk.Cast(image, sitk.sitkFloat32),
        new_size.tolist(),
        sitk.Transform(),
        sitk.sitkLinear,
        origin.tolist(),
        new_spacing.tolist(),
        image.GetDirection(),
    )


def _border(array: NDArray) -> NDArray:
    faces = (array[0], array[-1], array[:, 0], array[:, -1], array[:, :, 0], array[:, :, -1])
    return np.concatenate([face.reshape(-1) for face in faces])
