"""From the field that a network predicts to the displacement that training and validation judge."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from autofuse_engine.configs import NetworkConfig
from autofuse_engine.spatial.integrate import integrate
from autofuse_engine.spatial.smooth import enlarge_field


def displacement_of(field_vox: Tensor, shape: Sequence[int], config: NetworkConfig) -> Tensor:
    """The paper's own order: a velocity is integrated at its own resolution, then the displacement is enlarged.

    ``register`` enlarges the velocity first and integrates it at full resolution, which makes the inverse exact on
    the grid that is stored; here the cost of a step counts (docs/decisions/0009).

    Args:
        field_vox: ``(B, 3, D', H', W')``, voxels of its own grid; a velocity or a displacement, as ``config`` says.
        shape: sides ``(D, H, W)`` of the images.
        config: of the network.

    Returns:
        ``(B, 3, D, H, W)``, voxels of the images, float32.
    """
    field_vox = field_vox.float()
    if config.field == "velocity":
        field_vox = integrate(field_vox, config.integration_steps)
    return enlarge_field(field_vox, shape, align_corners=config.align_corners)
