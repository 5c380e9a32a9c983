"""Show an image in the contrast of another one: what each of its labels looks like there, by least squares.

Where the labels of one image are known, the other one need not be understood: it is enough to know how bright each
label is in it, and how that changes with the first image's own intensity within the label. Both follow from the two
images as they lie on each other so far. They lie badly at first; what a label's voxels show there is then a mixture of
its neighbours. So the intensities are fitted to labels that are blurred as much as the alignment is unsure, which
undoes the mixture, as partial volumes are corrected in emission tomography (Rousset et al., J Nucl Med 39:904, 1998).
The contrast that comes out can be any function of place and label; cf. the polynomial of Guimond et al. (IEEE TMI
20:58, 2001), one for the whole image.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.spatial.resample import resample
from autofuse_engine.spatial.smooth import shrink, smooth_image

_FOREGROUND = 0.005
_COARSER = 2
_RIDGE, _RIDGE_OF_SLOPES, _LEAST_RIDGE = 0.003, 0.005, 1e-3
"""Shares of a label's size by which its level is held near the mean of its voxels, and its slope near 0."""
_DARKEST = 1e-3


class ContrastTransfer:
    """An image with known labels, ready to be shown in the contrast of others."""

    def __init__(
        self,
        image: Tensor,
        probabilities: Tensor,
        spacing_mm: NDArray[np.float64],
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            image: ``(1, 1, D, H, W)``, 0 outside of what it shows; even sides.
            probabilities: ``(1, K, D, H, W)``, of the labels at each voxel, background first: in the foreground that is
                what has no label.
            spacing_mm: ``(3,)``, of both, along i, j, k.
            between: called between pieces of the work; may raise to stop.
        """
        self.probabilities, self.between = probabilities, between
        self._spacing = np.asarray(spacing_mm, dtype=np.float64)[::-1] * _COARSER
        shown = (image > _FOREGROUND).float()
        self._shown = shrink(shown, _COARSER) > 0.5
        means, levels, slopes = [], [], []
        for number in range(self.labels):
            between()
            member = probabilities[:, number : number + 1] * shown
            mean = float((member * image).sum() / member.sum().clamp(min=1e-3))
            means.append(mean)
            levels.append(shrink(member, _COARSER))
            slopes.append(shrink(member * (image - mean), _COARSER))
        self._means = means
        self._basis = torch.cat([*levels, *slopes], dim=1)

    @property
    def labels(self) -> int:
        """How many there are, background counted."""
        return self.probabilities.shape[1]

    def fit(self, other: Tensor, blur_mm: float) -> Tensor:
        """Level and slope of each label in another image, ``(2, K)``.

        Args:
            other: ``(1, 1, D, H, W)``, on the grid of the image, as it is aligned so far; 0 where it shows nothing.
            blur_mm: standard deviation of what the alignment is unsure of.
        """
        values = shrink(other, _COARSER)
        counted = self._shown & (shrink((other > _FOREGROUND).float(), _COARSER) > 0.5)
        sigmas = [float(blur_mm / side) for side in self._spacing]
        rows = []
        for number in range(self._basis.shape[1]):
            self.between()
            rows.append(smooth_image(self._basis[:, number : number + 1], sigmas)[counted].double())
        known, values = torch.stack(rows), values[counted].double()
        sizes = self._basis[:, : self.labels].sum(dim=(0, 2, 3, 4)).double()
        weights = torch.cat([_RIDGE * sizes, _RIDGE_OF_SLOPES * sizes]) + _LEAST_RIDGE
        products = known @ values
        expected = torch.zeros_like(products)
        expected[: self.labels] = products[: self.labels] / known[: self.labels].sum(dim=1).clamp(min=1e-6)
        normal = known @ known.T + torch.diag(weights)
        return torch.linalg.solve(normal, products + weights * expected).float().view(2, -1)

    def show(
        self, image: Tensor, covered: Tensor, grid_from_image_vox: NDArray[np.float64], contrast: Tensor
    ) -> Tensor:
        """The image in another contrast.

        Args:
            image: ``(1, 1, D', H', W')``, the same image on any grid.
            covered: that shape, how much of each voxel its foreground covers: a border that interpolation smeared
                would otherwise be as bright as the inside.
            grid_from_image_vox: 4x4, tensor axis order; takes its voxels to those of the labels' grid.
            contrast: from :meth:`fit`.

        Returns:
            Of the image's shape, 0 outside of the foreground.
        """
        shape = tuple(image.shape[2:])
        same = shape == tuple(self.probabilities.shape[2:]) and np.allclose(grid_from_image_vox, np.eye(4), atol=1e-6)
        maps = torch.zeros_like(self.probabilities[:, :2])  # what is added to the image, and what multiplies it
        for number, (level, slope) in enumerate(zip(*contrast.tolist(), strict=True)):
            self.between()
            member = self.probabilities[:, number : number + 1]
            maps += torch.cat([member * (level - slope * self._means[number]), member * slope], dim=1)
        if not same:  # sums of labels may be looked up instead of labels: it is linear
            maps = resample(maps, grid_from_image_vox, shape, continued=True, between=self.between)
        result = maps[:, :1] + maps[:, 1:] * image
        return torch.where(image > _FOREGROUND, result.clamp(min=_DARKEST), torch.zeros_like(image)) * covered
