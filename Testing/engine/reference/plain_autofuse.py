"""AutoFuse (CNN) once more, layer by layer and without any thought of speed: the judge of the engine's network.

Written from the paper's description alone. The names of the parameters are those of the weights that the paper's
authors published, so a state dict of this network stands in for such a file in the tests of the import.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PlainBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.Conv_1 = nn.Conv3d(in_channels, out_channels, 3, 1, "same")
        self.Conv_2 = nn.Conv3d(out_channels, out_channels, 3, 1, "same")
        self.activation = nn.LeakyReLU(0.2)
        self.norm = nn.InstanceNorm3d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv_1(x)
        x = self.activation(x)
        x = self.norm(x)
        x = self.Conv_2(x)
        x = self.activation(x)
        return self.norm(x)


class PlainLargeKernels(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.Conv_1 = nn.Conv3d(channels, half, (3, 3, 3), 1, "same")
        self.Conv_2 = nn.Conv3d(channels, half, (5, 1, 1), 1, "same")
        self.Conv_3 = nn.Conv3d(channels, half, (1, 5, 1), 1, "same")
        self.Conv_4 = nn.Conv3d(channels, half, (1, 1, 5), 1, "same")
        self.Conv = nn.Conv3d(4 * half, channels, 1)
        self.activation = nn.LeakyReLU(0.2)
        self.norm = nn.InstanceNorm3d(channels)

    def forward(self, y: Tensor) -> Tensor:
        branches = torch.cat([self.Conv_1(y), self.Conv_2(y), self.Conv_3(y), self.Conv_4(y)], dim=1)
        x = self.Conv(branches)
        x = x + y
        x = self.activation(x)
        return self.norm(x)


class PlainGate(nn.Module):
    def __init__(self, channels: int, large_kernels: bool) -> None:
        super().__init__()
        self.Conv = nn.Conv3d(channels, channels, 3, 1, "same")
        self.Conv_in = nn.Conv3d(2 * channels, channels, 1)
        self.Conv_con = nn.Conv3d(2 * channels, channels, 1)
        self.activation = nn.LeakyReLU(0.2)
        self.norm = nn.InstanceNorm3d(channels)
        if large_kernels:
            self.ELK = PlainLargeKernels(channels)

    def forward(self, x_in: Tensor, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
        x_con = self.Conv(torch.cat([fixed, moving], dim=1))
        x_con = self.activation(x_con)
        x_con = self.norm(x_con)
        both = torch.cat([x_in, x_con], dim=1)
        exp_in = torch.exp(self.Conv_in(both))
        exp_con = torch.exp(self.Conv_con(both))
        w_in = exp_in / (exp_in + exp_con)
        w_con = exp_con / (exp_in + exp_con)
        y = w_in * x_in + w_con * x_con
        if hasattr(self, "ELK"):
            y = self.ELK(y)
        return y, w_in


class PlainHead(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.Conv = nn.Conv3d(channels, channels, 3, 1, "same")
        self.mean_head = nn.Conv3d(channels, 3, 3, 1, "same")
        self.sigma_head = nn.Conv3d(channels, 3, 3, 1, "same")
        self.activation = nn.LeakyReLU(0.2)
        self.norm = nn.InstanceNorm3d(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.activation(self.Conv(x)))
        return self.mean_head(x), self.sigma_head(x)


class PlainSinglePath(nn.Module):
    def __init__(self, c: int, align_corners: bool) -> None:
        super().__init__()
        self.conv_1 = PlainBlock(1, c)
        self.conv_2 = PlainBlock(c, 2 * c)
        self.conv_3 = PlainBlock(2 * c, 2 * c)
        self.conv_4 = PlainBlock(2 * c, 4 * c)
        self.conv_5 = PlainBlock(4 * c, 4 * c)
        self.conv_6 = PlainBlock(4 * c + 4 * c, 4 * c)
        self.conv_7 = PlainBlock(4 * c + 2 * c, 2 * c)
        self.conv_8 = PlainBlock(2 * c + 2 * c, 2 * c)
        self.down = nn.AvgPool3d(2)
        self.up = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=align_corners)

    def forward(self, image: Tensor) -> list[Tensor]:
        x_1 = self.conv_1(image)
        x_2 = self.conv_2(self.down(x_1))
        x_3 = self.conv_3(self.down(x_2))
        x_4 = self.conv_4(self.down(x_3))
        x_5 = self.conv_5(self.down(x_4))
        x_6 = self.conv_6(torch.cat([self.up(x_5), x_4], dim=1))
        x_7 = self.conv_7(torch.cat([self.up(x_6), x_3], dim=1))
        x_8 = self.conv_8(torch.cat([self.up(x_7), x_2], dim=1))
        return [x_2, x_3, x_4, x_5, x_6, x_7, x_8]


class PlainFusionPath(nn.Module):
    def __init__(self, c: int, align_corners: bool, large_kernels: bool) -> None:
        super().__init__()
        self.conv_1 = PlainBlock(2, 2 * c)
        self.conv_2 = PlainBlock(2 * c, 4 * c)
        self.conv_3 = PlainBlock(4 * c, 4 * c)
        self.conv_4 = PlainBlock(4 * c, 8 * c)
        self.conv_5 = PlainBlock(8 * c, 8 * c)
        self.conv_6 = PlainBlock(8 * c + 8 * c, 8 * c)
        self.conv_7 = PlainBlock(8 * c + 4 * c, 4 * c)
        self.conv_8 = PlainBlock(4 * c + 4 * c, 4 * c)
        self.FG_2 = PlainGate(4 * c, large_kernels)
        self.FG_3 = PlainGate(4 * c, large_kernels)
        self.FG_4 = PlainGate(8 * c, large_kernels)
        self.FG_5 = PlainGate(8 * c, large_kernels)
        self.FG_6 = PlainGate(8 * c, large_kernels)
        self.FG_7 = PlainGate(4 * c, large_kernels)
        self.FG_8 = PlainGate(4 * c, large_kernels)
        self.reghead = PlainHead(4 * c)
        self.down = nn.AvgPool3d(2)
        self.up = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=align_corners)

    def forward(
        self, fixed: Tensor, moving: Tensor, f: list[Tensor], m: list[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        x = self.conv_1(torch.cat([fixed, moving], dim=1))
        x_2, w_2 = self.FG_2(self.conv_2(self.down(x)), f[0], m[0])
        x_3, w_3 = self.FG_3(self.conv_3(self.down(x_2)), f[1], m[1])
        x_4, w_4 = self.FG_4(self.conv_4(self.down(x_3)), f[2], m[2])
        x_5, w_5 = self.FG_5(self.conv_5(self.down(x_4)), f[3], m[3])
        x_6, w_6 = self.FG_6(self.conv_6(torch.cat([self.up(x_5), x_4], dim=1)), f[4], m[4])
        x_7, w_7 = self.FG_7(self.conv_7(torch.cat([self.up(x_6), x_3], dim=1)), f[5], m[5])
        x_8, w_8 = self.FG_8(self.conv_8(torch.cat([self.up(x_7), x_2], dim=1)), f[6], m[6])
        mean, log_variance = self.reghead(x_8)
        return mean, log_variance, [w_2, w_3, w_4, w_5, w_6, w_7, w_8]


class PlainAutoFuse(nn.Module):
    """``(B, 1, D, H, W)`` twice to mean and log-variance ``(B, 3, D/2, H/2, W/2)`` and seven gate weights."""

    def __init__(self, channels: int = 16, align_corners: bool = True, large_kernels: bool = True) -> None:
        super().__init__()
        self.SinglePath = PlainSinglePath(channels, align_corners)
        self.FusionPath = PlainFusionPath(channels, align_corners, large_kernels)

    def forward(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        return self.FusionPath(fixed, moving, self.SinglePath(fixed), self.SinglePath(moving))


def randomise(network: nn.Module, seed: int) -> None:
    """Weights such that every part of the network shows in its output, whose scale is about one voxel.

    Fresh weights would hide mistakes: gates start at one half and heads near zero.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        fan_in = max(parameter[0].numel(), 1) if parameter.ndim > 1 else 9
        scale = (2.0 / fan_in) ** 0.5 if "sigma_head" not in name else 0.1 / fan_in
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
