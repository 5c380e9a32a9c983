"""Networks of one path on both images, against plain ones written layer by layer."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from autofuse_engine.configs import NETWORKS, NetworkConfig
from autofuse_engine.networks.build import build_network, describe_network
from autofuse_engine.networks.network import RegistrationNetwork
from Testing.engine.reference.plain_autofuse import PlainBlock, PlainHead, randomise

SIDES = (16, 48, 32)


class PlainUnet(nn.Module):
    """Eight blocks of one U-Net, or the first five of it."""

    def __init__(self, in_channels: int, c: int, blocks: int = 8) -> None:
        super().__init__()
        sizes = [
            (in_channels, c), (c, 2 * c), (2 * c, 2 * c), (2 * c, 4 * c), (4 * c, 4 * c),
            (8 * c, 4 * c), (6 * c, 2 * c), (4 * c, 2 * c),
        ]  # fmt: skip
        self.blocks = nn.ModuleList(PlainBlock(*pair) for pair in sizes[:blocks])
        self.down = nn.AvgPool3d(2)
        self.up = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True)

    def encoded(self, x: Tensor) -> list[Tensor]:
        features = [self.blocks[0](x)]
        for block in self.blocks[1:5]:
            features.append(block(self.down(features[-1])))
        return features

    def decoded(self, features: list[Tensor]) -> Tensor:
        x = features[4]
        for block, skip in zip(self.blocks[5:], (features[3], features[2], features[1]), strict=True):
            x = block(torch.cat([self.up(x), skip], dim=1))
        return x


class PlainEarly(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.unet, self.head = PlainUnet(2, c), PlainHead(2 * c)

    def forward(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.unet.decoded(self.unet.encoded(torch.cat([fixed, moving], dim=1))))


class PlainMid(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.encoder, self.unet, self.head = PlainUnet(1, c, blocks=5), PlainUnet(2, 2 * c), PlainHead(4 * c)
        del self.unet.blocks[:5]
        self.unet.blocks = nn.ModuleList([*(nn.Identity() for _ in range(5)), *self.unet.blocks])

    def forward(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
        pairs = zip(self.encoder.encoded(fixed), self.encoder.encoded(moving), strict=True)
        return self.head(self.unet.decoded([torch.cat(pair, dim=1) for pair in pairs]))


class PlainLate(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.unet, self.matching, self.head = PlainUnet(1, c), nn.Conv3d(4 * c, 2 * c, 3, 1, 1), PlainHead(2 * c)

    def forward(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([self.unet.decoded(self.unet.encoded(image)) for image in (fixed, moving)], dim=1)
        return self.head(self.head.norm(self.head.activation(self.matching(both))))


class PlainVoxelMorph(nn.Module):
    """The network of the paper's figure 3; ``half`` and ``full`` are the widths at the end of the decoder."""

    def __init__(self, half: int, full: list[int], c: int = 16) -> None:
        super().__init__()
        w = 2 * c
        encoders, decoders = [(2, c), (c, w), (w, w), (w, w)], [(w, w), (2 * w, w), (2 * w, w), (w + c, w), (w, half)]
        finest = list(pairwise([half + 2, *full]))
        self.encoders = nn.ModuleList(nn.Conv3d(*pair, 3, 2, 1) for pair in encoders)
        self.decoders = nn.ModuleList(nn.Conv3d(*pair, 3, 1, 1) for pair in decoders)
        self.finest = nn.ModuleList(nn.Conv3d(*pair, 3, 1, 1) for pair in finest)
        self.mean_head = nn.Conv3d(full[-1] if full else half, 3, 3, 1, 1)
        self.sigma_head = None if full else nn.Conv3d(half, 3, 3, 1, 1)
        self.act, self.up = nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor | None]:
        x_0 = torch.cat([fixed, moving], dim=1)
        x_1 = self.act(self.encoders[0](x_0))
        x_2 = self.act(self.encoders[1](x_1))
        x_3 = self.act(self.encoders[2](x_2))
        x = self.act(self.decoders[0](self.act(self.encoders[3](x_3))))
        x = self.act(self.decoders[1](torch.cat([self.up(x), x_3], dim=1)))
        x = self.act(self.decoders[2](torch.cat([self.up(x), x_2], dim=1)))
        x = self.act(self.decoders[3](torch.cat([self.up(x), x_1], dim=1)))
        x = self.act(self.decoders[4](x))
        if self.sigma_head is not None:
            return self.mean_head(x), self.sigma_head(x)
        x = torch.cat([self.up(x), x_0], dim=1)
        for layer in self.finest:
            x = self.act(layer(x))
        return self.mean_head(x), None


PLAIN = {
    "early-fuse": (NetworkConfig(kind="early-fuse", channels=3), PlainEarly(3)),
    "mid-fuse": (NetworkConfig(kind="mid-fuse", channels=3), PlainMid(3)),
    "late-fuse": (NetworkConfig(kind="late-fuse", channels=3), PlainLate(3)),
    "voxelmorph-1": (NETWORKS["voxelmorph-1"], PlainVoxelMorph(8, [8])),
    "voxelmorph-2": (NETWORKS["voxelmorph-2"], PlainVoxelMorph(32, [16, 16])),
    "voxelmorph-diff": (NETWORKS["voxelmorph-diff"], PlainVoxelMorph(32, [])),
}


def twins(name: str) -> tuple[RegistrationNetwork, nn.Module]:
    """Both networks with equal weights: their tensors come in the same order, once the changes stand first."""
    config, plain = PLAIN[name]
    randomise(plain, seed=2)
    network = build_network(config)
    tensors = list(plain.state_dict().values())
    keys = sorted(network.state_dict(), key=lambda key: ".changes." not in key)
    assert [network.state_dict()[key].shape for key in keys] == [tensor.shape for tensor in tensors]
    network.load_state_dict(dict(zip(keys, tensors, strict=True)))
    return network, plain


def images(batch: int) -> tuple[Tensor, Tensor]:
    fixed, moving = torch.rand(2, batch, 1, *SIDES, generator=torch.Generator().manual_seed(3))
    return fixed, moving


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", PLAIN)
def test_it_equals_its_layers_in_prediction_and_in_training(name: str, batch: int) -> None:
    network, plain = twins(name)
    with torch.no_grad():
        mean, log_variance = plain(*images(batch))
        predicted = network.eval()(*images(batch), log_variance=True)
    trained = network.train()(*images(batch))
    assert mean.std() > 0.05, "the comparison needs a field that is far from zero"
    assert predicted.is_displacement is (log_variance is None)
    for output in (predicted, trained):
        torch.testing.assert_close(output.velocity_mean, mean, rtol=0, atol=2e-5 * float(mean.abs().max()))
        if log_variance is None:
            assert output.velocity_log_variance is None
        else:
            torch.testing.assert_close(output.velocity_log_variance, log_variance, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("early-fuse", 8_274_921),
        ("mid-fuse", 8_297_330),
        ("late-fuse", 8_328_722),
        ("voxelmorph-1", 259_675),
        ("voxelmorph-2", 300_547),
        ("voxelmorph-diff", 282_806),
    ],
)
def test_the_number_of_parameters(name: str, parameters: int) -> None:
    assert describe_network(name, NETWORKS[name])["parameters"] == parameters


def test_middle_and_late_fusion_see_each_image_apart_and_early_fusion_does_not() -> None:
    # An encoder that sees images apart gives the fixed image's features whatever the moving image is.
    for name, apart in (("early-fuse", False), ("mid-fuse", True), ("late-fuse", True)):
        network, _ = twins(name)
        fixed, moving = images(1)
        with torch.no_grad():
            first, other = (
                list(network.path.features(torch.cat([fixed, image], dim=1)))[1] for image in (moving, 1 - moving)
            )
        assert torch.equal(first[:, :6], other[:, :6]) is apart


def test_a_late_fusion_with_a_displacement_has_no_variance() -> None:
    network = build_network(NetworkConfig(kind="late-fuse", channels=2, field="displacement"))
    output = network(*images(1))
    assert output.is_displacement
    assert output.velocity_log_variance is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "mid-fuse", "classes": 3}, "classes of mid-fuse is 0, received 3"),
        ({"kind": "voxelmorph-1"}, "field of voxelmorph-1 is 'displacement'"),
        ({"kind": "voxelmorph-diff", "field": "displacement"}, "field of voxelmorph-diff is 'velocity'"),
        ({"kind": "voxelmorph-2", "field": "displacement", "channels": 6}, "multiple of 4, received 6"),
        ({"kind": "early-fuse", "conditional": True}, "conditional of early-fuse is False"),
        ({"kind": "fuse"}, "received 'fuse'"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**fields)
