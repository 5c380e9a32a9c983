"""How far points that belong together are led apart, where it is known where each voxel lies in a reference."""

from __future__ import annotations

from torch import Tensor

from autofuse_engine.spatial.warp import warp

_SOFTNESS_VOX = 1.0


def correspondence_distance(
    fixed_places: Tensor, moving_places: Tensor, displacement_vox: Tensor, weight: Tensor
) -> Tensor:
    """Weighted mean over voxels x of ``sqrt(|m(x + u(x)) - f(x)|^2 + 1) - 1``, voxels of the reference.

    ``f(x)`` and ``m(x)`` say where voxel x of the fixed and of the moving image lies in the reference. Both images show
    the same point where the two agree, so this tells the displacement u over any distance, where the similarity of
    images and the overlap of labels tell only of what lies near. Quadratic below a voxel, linear above: few points that
    were found wrongly count little (the Charbonnier penalty).

    Args:
        fixed_places: ``(1, 3, D, H, W)``, voxels of the reference in tensor axis order.
        moving_places: same shape.
        displacement_vox: same shape, voxels.
        weight: ``(1, 1, D, H, W)``, at least 0: how much each voxel counts; the result is 0 where none does.

    Returns:
        A scalar.

    Raises:
        ValueError: if the shapes differ.
    """
    if not fixed_places.shape == moving_places.shape == displacement_vox.shape:
        shapes = [tuple(one.shape) for one in (fixed_places, moving_places, displacement_vox)]
        raise ValueError(f"places and displacement have one shape (1, 3, D, H, W), received {shapes}")
    squares = (warp(moving_places, displacement_vox) - fixed_places).square().sum(dim=1, keepdim=True)
    distance = (squares + _SOFTNESS_VOX**2).sqrt() - _SOFTNESS_VOX
    return (weight * distance).sum() / weight.sum().clamp(min=1e-6)
