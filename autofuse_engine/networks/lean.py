"""The same arithmetic for prediction on a CPU: slab by slab, so that it stays in the cache and needs little memory.

A convolution runs over a few planes (along D) at a time, in channels-last order. What follows it, the activation and
the sums for the norm, is done while the slab is in the cache; the norm itself is one pass over the finished tensor.
Nothing of full resolution is ever stored: the first block is pooled slab by slab. Equal to the plain path up to
rounding, but not differentiable. docs/decisions/0012 tells what was measured.

Inside of this file an array is ``(D, H, W, C)``, one sample; the functions take and return ``(1, C, D, H, W)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autofuse_engine.networks.slabs import run_by_slab

NEGATIVE_SLOPE = 0.2
NORM_EPSILON = 1e-5


def suits(x: Tensor, *weights: Tensor | None) -> bool:
    """Whether this file is the way to go for an input: one sample, on the CPU, and nobody needs gradients."""
    learns = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in (x, *weights))
    return x.device.type == "cpu" and x.shape[0] == 1 and not learns


def convolve(parts: Sequence[Tensor], conv: nn.Conv3d) -> Tensor:
    """``conv`` of the parts' concatenation; any odd kernel, zero padding that keeps the size."""
    result = parts[0].new_empty((*parts[0].shape[2:], conv.out_channels))

    def work(start: int, stop: int) -> None:
        result[start:stop] = _convolved(parts, conv, start, stop)

    run_by_slab(work, _as_array(parts[0]))
    return _as_features(result)


def convolve_activate_normalise(parts: Sequence[Tensor], conv: nn.Conv3d) -> Tensor:
    """Convolution of the parts' concatenation, LeakyReLU, instance norm."""
    return _activate_normalise(lambda start, stop: _convolved(parts, conv, start, stop), parts[0], conv.out_channels)


def halve(x: Tensor) -> Tensor:
    """Mean of each 2x2x2 neighbourhood."""
    array = _as_array(x)
    depth, height, width, channels = array.shape
    result = array.new_empty((depth // 2, height // 2, width // 2, channels))

    def work(start: int, stop: int) -> None:
        result[start // 2 : stop // 2] = _halved(array[start:stop])

    run_by_slab(work, array, multiple=2)
    return _as_features(result)


def block_and_halve(x: Tensor, first: nn.Conv3d, second: nn.Conv3d) -> Tensor:
    """Twice convolution, LeakyReLU, instance norm; then the mean of each 2x2x2 neighbourhood.

    Works twice over the input instead of storing the first convolution's output; as averaging and the norm
    commute, the norm of the second is applied to the small result, with the sums of the large one.
    """
    # A copy, as the memory of one or two channels does not tell its order, and convolutions ask for it.
    x = torch.empty_like(x, memory_format=torch.channels_last_3d).copy_(x)
    depth, height, width = x.shape[2:]
    inner = x.new_empty((depth, height, width, first.out_channels), device="meta")
    result = x.new_empty((depth // 2, height // 2, width // 2, second.out_channels))

    def first_moments(start: int, stop: int) -> Moments:
        return Moments.of(F.leaky_relu_(_convolved([x], first, start, stop), NEGATIVE_SLOPE))

    scale, offset = Moments.merged(run_by_slab(first_moments, inner, multiple=2)).scale_and_offset()

    def work(start: int, stop: int) -> Moments:
        low, high = max(start - 1, 0), min(stop + 1, depth)
        slab = F.leaky_relu_(_convolved([x], first, low, high), NEGATIVE_SLOPE)
        _scale_(slab, scale, offset)
        slab = F.leaky_relu_(_convolved([_as_features(slab)], second, start - low, stop - low), NEGATIVE_SLOPE)
        result[start // 2 : stop // 2] = _halved(slab)
        return Moments.of(slab)

    _normalise_(result, Moments.merged(run_by_slab(work, inner, multiple=2)))
    return _as_features(result)


def gate_(pair: Tensor, matched: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted sum ``w * pair + (1 - w) * matched``, ``w = sigmoid(weight @ [pair, matched] + bias)``.

    Overwrites ``matched`` and returns it, with the mean of ``w``, shape ``(1,)``.
    """
    pair_array, matched_array = _as_array(pair), _as_array(matched)
    channels = pair_array.shape[3]
    pair_weight, matched_weight = weight.flatten(1).t().split(channels)

    def work(start: int, stop: int) -> Tensor:
        ours = pair_array[start:stop].reshape(-1, channels)
        theirs = matched_array[start:stop].view(-1, channels)
        share = torch.addmm(bias, ours, pair_weight).addmm_(theirs, matched_weight).sigmoid_()
        torch.lerp(theirs, ours, share, out=theirs)
        return share.sum(dtype=torch.float32).double()

    total = torch.stack(run_by_slab(work, pair_array)).sum()
    return _as_features(matched_array), (total / matched_array.numel()).float().reshape(1)


def large_kernels(x: Tensor, branches: Sequence[nn.Conv3d], merge: nn.Conv3d) -> Tensor:
    """``norm(lrelu(merge([branch(x) for each branch]) + x))``, ``merge`` a 1x1x1 convolution."""
    array = _as_array(x)
    weights = merge.weight.flatten(1).t().split([branch.out_channels for branch in branches])

    def merged(start: int, stop: int) -> Tensor:
        total = array[start:stop].reshape(-1, array.shape[3])
        total = total + merge.bias if merge.bias is not None else total.clone()
        for branch, weight in zip(branches, weights, strict=True):
            total.addmm_(_convolved([x], branch, start, stop).flatten(0, 2), weight)
        return total.view(stop - start, *array.shape[1:])

    return _activate_normalise(merged, x, merge.out_channels)


@dataclass(frozen=True, eq=False)
class Moments:
    """Number of values per channel, their mean, and the sum of their squared distances from it; float64 ``(C,)``."""

    count: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, slab: Tensor) -> Moments:
        """Moments of ``(..., C)``; two passes in float32, as slabs are small."""
        rows = slab.flatten(0, -2).float()
        mean = rows.mean(dim=0)
        return cls(rows.shape[0], mean.double(), (rows - mean).square_().sum(dim=0).double())

    @classmethod
    def merged(cls, parts: Sequence[Moments]) -> Moments:
        """Moments of all parts together (Chan, Golub, LeVeque 1979), in float64 and in the order given."""
        whole = parts[0]
        for part in parts[1:]:
            count = whole.count + part.count
            shift = part.mean - whole.mean
            squares = whole.squares + part.squares + shift.square() * (whole.count * part.count / count)
            whole = cls(count, whole.mean + shift * (part.count / count), squares)
        return whole

    def scale_and_offset(self) -> tuple[Tensor, Tensor]:
        """Factors per channel, float32, such that ``x * scale + offset`` has mean 0 and variance 1."""
        scale = (self.squares / self.count + NORM_EPSILON).rsqrt()
        return scale.float(), (-self.mean * scale).float()


def _activate_normalise(compute: Callable[[int, int], Tensor], like: Tensor, channels: int) -> Tensor:
    """LeakyReLU and instance norm of what ``compute(start, stop)`` gives for the planes ``start`` to ``stop``."""
    result = like.new_empty((*like.shape[2:], channels))

    def work(start: int, stop: int) -> Moments:
        slab = F.leaky_relu_(compute(start, stop), NEGATIVE_SLOPE)
        result[start:stop] = slab
        return Moments.of(slab)

    _normalise_(result, Moments.merged(run_by_slab(work, result)))
    return _as_features(result)


def _normalise_(array: Tensor, moments: Moments) -> None:
    scale, offset = moments.scale_and_offset()
    run_by_slab(lambda start, stop: _scale_(array[start:stop], scale, offset), array)


def _scale_(slab: Tensor, scale: Tensor, offset: Tensor) -> None:
    if slab.dtype == torch.float32:
        torch.addcmul(offset, slab, scale, out=slab)
    else:
        slab.copy_(torch.addcmul(offset, slab.float(), scale))


def _halved(array: Tensor) -> Tensor:
    # In float32: avg_pool3d is slow in this order of memory, and absent in half precision.
    array = array[0::2].float() + array[1::2]
    array = array[:, 0::2] + array[:, 1::2]
    return (array[:, :, 0::2] + array[:, :, 1::2]).mul_(0.125)


def _convolved(parts: Sequence[Tensor], conv: nn.Conv3d, start: int, stop: int) -> Tensor:
    """Planes ``start`` to ``stop`` of the convolution of the parts' concatenation, ``(planes, H, W, C)``."""
    reach = conv.kernel_size[0] // 2
    padding = (0, conv.kernel_size[1] // 2, conv.kernel_size[2] // 2)
    result: Tensor | None = None
    first = 0
    for part in parts:
        weight = conv.weight[:, first : first + part.shape[1]]
        first += part.shape[1]
        slab = _planes(part, start - reach, stop + reach)
        if result is None:
            result = _as_array(_conv3d(slab, weight, conv.bias, padding))
        else:
            result += _as_array(_conv3d(slab, weight, None, padding))
    if result is None:
        raise ValueError("a convolution needs at least one part, received none")
    return result


def _conv3d(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int, int]) -> Tensor:
    # conv3d takes a slow path for small slabs of float32 (it looks at sizes only), 10 times slower than oneDNN's.
    if _has_onednn(x.dtype):
        return torch.mkldnn_convolution(x, weight, bias, padding, (1, 1, 1), (1, 1, 1), 1)
    return F.conv3d(x, weight, bias, padding=padding)


def _has_onednn(dtype: torch.dtype) -> bool:
    here = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    return here and (dtype == torch.float32 or (dtype == torch.bfloat16 and has_fast_bfloat16()))


def has_fast_bfloat16() -> bool:
    """Whether this computer's CPU, and PyTorch as it was built, have instructions for bfloat16."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _planes(x: Tensor, start: int, stop: int) -> Tensor:
    """Planes ``start`` to ``stop`` along D, zeros beyond the volume."""
    inside = x[:, :, max(start, 0) : min(stop, x.shape[2])]
    missing = max(-start, 0), max(stop - x.shape[2], 0)
    return F.pad(inside, (0, 0, 0, 0, *missing)) if any(missing) else inside


def _as_array(x: Tensor) -> Tensor:
    """``(1, C, D, H, W)`` to ``(D, H, W, C)``, contiguous; without a copy where the memory is in that order."""
    return x[0].permute(1, 2, 3, 0).contiguous()


def _as_features(array: Tensor) -> Tensor:
    # In this order: unsqueeze after permute gives the batch axis a stride that is not taken for channels-last.
    return array.unsqueeze(0).permute(0, 4, 1, 2, 3)
