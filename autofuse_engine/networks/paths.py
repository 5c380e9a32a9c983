"""U-shaped paths: the order of resolutions, the skips between them, and the stages that compute at each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor, nn

from autofuse_engine.networks.blocks import ConvBlock, double, halve
from autofuse_engine.networks.recomputation import Recomputing

Fuse = Callable[[int, Tensor], Tensor]
LEVELS = (0, 1, 2, 3, 4, 3, 2, 1)
"""Resolution of each stage, 0 = that of the images, each next level half of it; stages 0..4 encode, 5..7 decode."""
LEVELS_TO_THE_TOP = (*LEVELS, 0)
"""The same with one more stage at the resolution of the images, where they are segmented."""


def stage_widths(base: int, levels: Sequence[int] = LEVELS) -> tuple[int, ...]:
    """Channels that each stage of a path hands out, for ``base`` channels at level 0."""
    return tuple(base * (1, 2, 2, 4, 4)[level] for level in levels)


class Path(Recomputing):
    """Stages along :data:`LEVELS`: averaged on the way down, upsampled and joined with a skip on the way up.

    Args:
        stages: one per entry of ``levels``; each takes what :func:`stage_inputs` says.
        levels: resolution of each stage.
        align_corners: geometry of the upsampling, see :func:`~autofuse_engine.networks.blocks.double`.
    """

    def __init__(self, stages: Sequence[nn.Module], levels: Sequence[int], *, align_corners: bool) -> None:
        super().__init__()
        if len(stages) != len(levels):
            raise ValueError(f"a path has one stage per level, received {len(stages)} stages, {len(levels)} levels")
        self.stages = nn.ModuleList(stages)
        self.levels = tuple(levels)
        self.align_corners = align_corners

    def features(self, image: Tensor, fuse: Fuse | None = None) -> Iterator[Tensor]:
        """Outputs of the stages, one at a time, so that a consumer that keeps none keeps memory low.

        The first stage's output is yielded at half its resolution unless a later stage needs it whole as a skip:
        it is the largest of all and goes nowhere but down.

        Args:
            image: ``(B, C, D, H, W)``, input of the first stage.
            fuse: called with the number and output of each later stage; what it returns takes the output's place.
        """
        skips: dict[int, Tensor] = {}
        x, level_of_x = image, self.levels[0]
        for number, (stage, level) in enumerate(zip(self.stages, self.levels, strict=True)):
            halved = number == 0 and not self._is_skip(0)
            if level < level_of_x:
                x = self.run(self._up, stage, x, skips.pop(level))
            else:
                x = self.run(_down, stage, x, level > level_of_x, halved)
            level_of_x = level + 1 if halved else level
            if fuse is not None and number > 0:
                x = fuse(number, x)
            if self._is_skip(number):
                skips[level] = x
            yield x

    def _up(self, stage: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
        return stage(double(x, align_corners=self.align_corners), skip)

    def _is_skip(self, number: int) -> bool:
        """Whether a stage further up, of the same level, takes this stage's output too."""
        return self.levels[number] in self.levels[number + 2 :]


def _down(stage: nn.Module, x: Tensor, halve_first: bool, halved: bool) -> Tensor:
    return stage(halve(x) if halve_first else x, halved=halved)


def stage_inputs(in_channels: int, widths: Sequence[int], levels: Sequence[int] = LEVELS) -> list[int]:
    """Channels that each stage receives: the image, the stage before, or that and the skip of the same level."""
    inputs = [in_channels]
    for number in range(1, len(levels)):
        skip = widths[levels.index(levels[number])] if levels[number] < levels[number - 1] else 0
        inputs.append(widths[number - 1] + skip)
    return inputs


def convolutional_path(in_channels: int, base: int, levels: Sequence[int] = LEVELS, *, align_corners: bool) -> Path:
    """A path whose stages are :class:`~autofuse_engine.networks.blocks.ConvBlock` of :func:`stage_widths`."""
    widths = stage_widths(base, levels)
    stages = [ConvBlock(*pair) for pair in zip(stage_inputs(in_channels, widths, levels), widths, strict=True)]
    return Path(stages, levels, align_corners=align_corners)
