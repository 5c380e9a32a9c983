"""AutoFuse-Trans once more, layer by layer: the judge of the engine's Swin paths and of the import of their weights.

Written from the description alone; the names of the parameters are those of the published weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from Testing.engine.reference.plain_autofuse import PlainBlock, PlainGate, PlainHead
from Testing.engine.reference.plain_semi import PlainSegmentationHead
from Testing.engine.reference.plain_swin import PlainSwinStage


class PlainPatch(nn.Module):
    """A strided convolution, or a transposed one, and a norm over channels, under the release's names."""

    def __init__(self, name: str, in_channels: int, out_channels: int) -> None:
        super().__init__()
        kind = nn.ConvTranspose3d if name == "up_conv" else nn.Conv3d
        self.name = name
        self.add_module(name, kind(in_channels, out_channels, 2, 2))
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.get_submodule(self.name)(x)
        return torch.stack([self.norm(sample.permute(1, 2, 3, 0)).permute(3, 0, 1, 2) for sample in x])


class PlainTransPath(nn.Module):
    def __init__(self, in_channels: int, e: int, fused: bool) -> None:
        super().__init__()
        self.PatchEmbed = PlainPatch("proj", in_channels, e)
        widths, heads = [e, 2 * e, 4 * e, 8 * e, 4 * e, 2 * e, e], [4, 8, 16, 32, 16, 8, 4]
        for stage in range(1, 8):
            self.add_module(f"trans_{stage}", PlainSwinStage(widths[stage - 1], heads[stage - 1], first_rows=True))
            if fused:
                self.add_module(f"FG_{stage}", PlainGate(widths[stage - 1], True))
        self.downsample_1 = PlainPatch("down_conv", e, 2 * e)
        self.downsample_2 = PlainPatch("down_conv", 2 * e, 4 * e)
        self.downsample_3 = PlainPatch("down_conv", 4 * e, 8 * e)
        self.upsample_4 = PlainPatch("up_conv", 8 * e, 4 * e)
        self.upsample_5 = PlainPatch("up_conv", 4 * e, 2 * e)
        self.upsample_6 = PlainPatch("up_conv", 2 * e, e)
        self.backdim_5 = nn.Conv3d(8 * e, 4 * e, 1)
        self.backdim_6 = nn.Conv3d(4 * e, 2 * e, 1)
        self.backdim_7 = nn.Conv3d(2 * e, e, 1)
        if fused:
            self.reghead = PlainHead(e)

    def step(self, stage: int, x: Tensor, singles: list[tuple[Tensor, Tensor]] | None) -> Tensor:
        x = self.get_submodule(f"trans_{stage}")(x)
        return x if singles is None else self.get_submodule(f"FG_{stage}")(x, *singles[stage - 1])[0]

    def forward(self, image: Tensor, singles: list[tuple[Tensor, Tensor]] | None = None) -> list[Tensor]:
        x_1 = self.step(1, self.PatchEmbed(image), singles)
        x_2 = self.step(2, self.downsample_1(x_1), singles)
        x_3 = self.step(3, self.downsample_2(x_2), singles)
        x_4 = self.step(4, self.downsample_3(x_3), singles)
        x_5 = self.step(5, self.backdim_5(torch.cat([self.upsample_4(x_4), x_3], dim=1)), singles)
        x_6 = self.step(6, self.backdim_6(torch.cat([self.upsample_5(x_5), x_2], dim=1)), singles)
        x_7 = self.step(7, self.backdim_7(torch.cat([self.upsample_6(x_6), x_1], dim=1)), singles)
        return [x_1, x_2, x_3, x_4, x_5, x_6, x_7]


class PlainTrans(nn.Module):
    """``(B, 1, D, H, W)`` twice to mean and log-variance ``(B, 3, D/2, H/2, W/2)``; ``channels`` is c = 16 in full."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.SinglePath = PlainTransPath(1, 2 * channels, fused=False)
        self.FusionPath = PlainTransPath(2, 4 * channels, fused=True)

    def forward(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
        singles = list(zip(self.SinglePath(fixed), self.SinglePath(moving), strict=True))
        last = self.FusionPath(torch.cat([fixed, moving], dim=1), singles)[-1]
        return self.FusionPath.reghead(last)


class PlainMatchingPath(nn.Module):
    """The convolutional path of the semi-supervised network, as wide as half of the Swin path that it goes with."""

    def __init__(self, c: int, classes: int) -> None:
        super().__init__()
        sizes = [
            (1, c), (c, 2 * c), (2 * c, 4 * c), (4 * c, 8 * c), (8 * c, 16 * c),
            (16 * c + 8 * c, 8 * c), (8 * c + 4 * c, 4 * c), (4 * c + 2 * c, 2 * c), (2 * c + c, c),
        ]  # fmt: skip
        for number, pair in enumerate(sizes, start=1):
            self.add_module(f"conv_{number}", PlainBlock(*pair))
        self.seghead = PlainSegmentationHead(c, classes)
        self.down = nn.AvgPool3d(2)
        self.up = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True)

    def forward(self, image: Tensor) -> list[Tensor]:
        x_1 = self.conv_1(image)
        x_2 = self.conv_2(self.down(x_1))
        x_3 = self.conv_3(self.down(x_2))
        x_4 = self.conv_4(self.down(x_3))
        x_5 = self.conv_5(self.down(x_4))
        x_6 = self.conv_6(torch.cat([self.up(x_5), x_4], dim=1))
        x_7 = self.conv_7(torch.cat([self.up(x_6), x_3], dim=1))
        x_8 = self.conv_8(torch.cat([self.up(x_7), x_2], dim=1))
        x_9 = self.conv_9(torch.cat([self.up(x_8), x_1], dim=1))
        return [x_2, x_3, x_4, x_5, x_6, x_7, x_8, self.seghead.seg_head(x_9)]


class PlainSemiTrans(nn.Module):
    """``(B, 1, D, H, W)`` twice to mean, log-variance and the logits of both images; the maps are the argmax."""

    def __init__(self, channels: int = 16, classes: int = 4) -> None:
        super().__init__()
        self.SinglePath = PlainMatchingPath(channels, classes)
        self.FusionPath = PlainTransPath(4, 4 * channels, fused=True)

    def forward(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        *f, fixed_logits = self.SinglePath(fixed)
        *m, moving_logits = self.SinglePath(moving)
        maps = [logits.argmax(dim=1, keepdim=True) / logits.shape[1] for logits in (fixed_logits, moving_logits)]
        singles = list(zip(f, m, strict=True))
        last = self.FusionPath(torch.cat([fixed, moving, *maps], dim=1), singles)[-1]
        return *self.FusionPath.reghead(last), fixed_logits, moving_logits
