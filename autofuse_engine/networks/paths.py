"""U-shaped paths: the order of resolutions, the skips between them, and the stages that compute at each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from torch import Tensor, nn

from autofuse_engine.networks.blocks import ConvBlock, Doubling, Halving, Siamese
from autofuse_engine.networks.recomputation import Recomputing

Fuse = Callable[[int, Tensor], Tensor]
LEVELS = (0, 1, 2, 3, 4, 3, 2, 1)
"""Resolution of each stage, 0 = that of the images, each next level half of it; stages 0..4 encode, 5..7 decode."""
LEVELS_TO_THE_TOP = (*LEVELS, 0)
"""The same with one more stage at the resolution of the images, where they are segmented."""
FACTORS = (1, 2, 2, 4, 4)
"""Width of a stage at each level, in widths of level 0."""
DOUBLING_FACTORS = (1, 2, 4, 8, 16)
"""The same for a path whose features go with those of a Swin path."""
_ENCODERS = 5


def stage_widths(base: int, levels: Sequence[int] = LEVELS, factors: Sequence[int] = FACTORS) -> tuple[int, ...]:
    """Channels that each stage of a path hands out, for ``base`` channels at level 0."""
    return tuple(base * factors[level] for level in levels)


class Path(Recomputing):
    """Stages along levels of resolution; on the way up each takes the skip of its level too.

    Convolutional, Swin and other paths differ in the modules that are passed in, and in nothing else.

    Args:
        stages: one per entry of ``levels``; each takes what :func:`stage_inputs` says.
        changes: likewise; takes what the stage before handed out to the level of this one.
        levels: resolution of each stage.
    """

    def __init__(self, stages: Sequence[nn.Module], changes: Sequence[nn.Module], levels: Sequence[int]) -> None:
        super().__init__()
        if not len(stages) == len(changes) == len(levels):
            counts = f"{len(stages)} stages, {len(changes)} changes, {len(levels)} levels"
            raise ValueError(f"a path has one stage and one change per level, received {counts}")
        self.stages = nn.ModuleList(stages)
        self.changes = nn.ModuleList(changes)
        self.levels = tuple(levels)

    def features(self, image: Tensor, fuse: Fuse | None = None) -> Iterator[Tensor]:
        """Outputs of the stages, one at a time, so that a consumer that keeps none keeps memory low.

        A first stage at full resolution is asked for its output at half of it, unless a later stage needs it whole as
        a skip: it is the largest of all and goes nowhere but down.

        Args:
            image: ``(B, C, D, H, W)``, input of the first stage.
            fuse: called with the number and output of each stage; what it returns takes the output's place.
        """
        skips: dict[int, Tensor] = {}
        x, level_of_x = image, 0
        for number, (stage, change, level) in enumerate(zip(self.stages, self.changes, self.levels, strict=True)):
            halved = number == level == 0 and not self._is_skip(0)
            parts = [skips.pop(level)] if level < level_of_x else []
            x = self.run(_step, stage, None if level == level_of_x else change, halved, x, *parts)
            level_of_x = level + 1 if halved else level
            if fuse is not None:
                x = fuse(number, x)
            if self._is_skip(number):
                skips[level] = x
            yield x

    def _is_skip(self, number: int) -> bool:
        """Whether a stage further up, of the same level, takes this stage's output too."""
        return self.levels[number] in self.levels[number + 2 :]


def _step(stage: nn.Module, change: nn.Module | None, halved: bool, x: Tensor, *skip: Tensor) -> Tensor:
    x = x if change is None else change(x)
    return stage(x, halved=True) if halved else stage(x, *skip)


def stage_inputs(in_channels: int, widths: Sequence[int], levels: Sequence[int] = LEVELS) -> list[int]:
    """Channels that each stage receives: the image, the stage before, or that and the skip of the same level."""
    inputs = [in_channels]
    for number in range(1, len(levels)):
        skip = widths[levels.index(levels[number])] if levels[number] < levels[number - 1] else 0
        inputs.append(widths[number - 1] + skip)
    return inputs


def convolutional_path(
    in_channels: int,
    base: int,
    levels: Sequence[int] = LEVELS,
    factors: Sequence[int] = FACTORS,
    *,
    align_corners: bool,
) -> Path:
    """A path whose stages are :class:`~autofuse_engine.networks.blocks.ConvBlock` of :func:`stage_widths`."""
    widths = stage_widths(base, levels, factors)
    stages = [ConvBlock(*pair) for pair in zip(stage_inputs(in_channels, widths, levels), widths, strict=True)]
    return Path(stages, _pooling_changes(levels, align_corners=align_corners), levels)


def siamese_path(base: int, *, shared_decoder: bool, align_corners: bool) -> Path:
    """A convolutional path that sees two images apart, with one set of weights, in its encoder or to its end.

    Its input is the concatenation of the two images; stages hand out the features of both, concatenated. A decoder
    that is not shared sees these together.
    """
    alone, together = stage_widths(base), stage_widths(2 * base)
    inputs_alone, inputs_together = stage_inputs(1, alone), stage_inputs(2, together)
    stages = [
        Siamese(ConvBlock(inputs_alone[number], alone[number]))
        if shared_decoder or number < _ENCODERS
        else ConvBlock(inputs_together[number], together[number])
        for number in range(len(LEVELS))
    ]
    return Path(stages, _pooling_changes(LEVELS, align_corners=align_corners), LEVELS)


def _pooling_changes(levels: Sequence[int], *, align_corners: bool) -> list[nn.Module]:
    changes: list[nn.Module] = [nn.Identity()]
    for before, level in pairwise(levels):
        changes.append(Halving() if level > before else Doubling(align_corners=align_corners))
    return changes
