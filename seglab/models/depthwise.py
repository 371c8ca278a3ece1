"""Depthwise convolutions that a CPU trains quickly, strided and dilated ones too."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class DepthwiseConv2d(nn.Conv2d):
    """A convolution of each channel by itself, which trains quickly on a CPU.

    oneDNN is many times slower than it could be at the gradient of a dilated depthwise convolution, and under autocast
    to bf16 at that of a strided one (benchmarks/layers.py). Hence, on a CPU and while training,

    - the pixels that a dilated kernel sees together become a map of their own, whose convolution has no dilation, as
      in the first DeepLab (Chen et al. 2017, arXiv:1606.00915);
    - where such a map would be smaller than three pixels, the kernel's weights multiply shifted maps one by one, which
      can be differentiated once;
    - a strided convolution computes in float32 under autocast, and keeps its input in float32 for the backward pass;
      on a CPU without instructions for bf16 every one does, since PyTorch then sums its gradients in bf16.

    The same sums in another order. Left to oneDNN are even kernels, padding other than with zeros, and dilated
    convolutions that are strided or change the size.

    Args:
        channels: Width of the input and of the output.
        kernel_size: Side of the kernel.
        **options: Passed on to `nn.Conv2d`: `stride`, `padding`, `dilation`, `bias`, `padding_mode`.
    """

    def __init__(self, channels: int, kernel_size: int, **options: Any) -> None:
        super().__init__(channels, channels, kernel_size, groups=channels, **options)

    def forward(self, features: Tensor) -> Tensor:
        """Maps N x channels x H x W to the same width and the size that `nn.Conv2d` gives."""
        is_autocast = torch.is_autocast_enabled("cpu")
        if not self.training or features.device.type != "cpu" or (is_autocast and self.weight.dtype != torch.float32):
            return super().forward(features)
        if is_autocast and (max(self.stride) > 1 or not computes_bf16()):
            with torch.autocast("cpu", enabled=False):
                return self.forward(features.float()).to(torch.get_autocast_dtype("cpu"))
        if min(self.dilation) > 1 and self._keeps_the_size():
            return self._dilated(features)
        return super().forward(features)

    def _keeps_the_size(self) -> bool:
        is_plain = max(self.stride) == 1 and self.padding_mode == "zeros" and all(side % 2 for side in self.kernel_size)
        same = tuple(rate * (side // 2) for rate, side in zip(self.dilation, self.kernel_size, strict=True))
        return is_plain and self.padding in ("same", same)

    def _dilated(self, features: Tensor) -> Tensor:
        if all(side > 2 * rate for side, rate in zip(features.shape[-2:], self.dilation, strict=True)):
            padding = [side // 2 for side in self.kernel_size]
            maps = take_apart(features, *self.dilation)
            maps = F.conv2d(maps, self.weight, self.bias, padding=padding, groups=self.groups)
            return put_together(maps, *self.dilation, *features.shape[-2:])
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else features.dtype
        exact = torch.promote_types(features.dtype, torch.float32)
        pixels = features.permute(0, 2, 3, 1).to(exact)
        out = _ShiftedSum.apply(pixels, self.weight.to(exact), self.dilation)
        return (out if self.bias is None else out + self.bias).to(dtype).permute(0, 3, 1, 2)


def computes_bf16() -> bool:
    """Returns whether oneDNN computes in bf16 on this CPU, and not PyTorch's own slower and less exact code."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def take_apart(features: Tensor, rows: int, columns: int) -> Tensor:
    """Makes every so many rows and columns of a map, from each start, maps of their own, side by side in the batch.

    Args:
        features: N x C x H x W.
        rows: How many rows apart the rows of one of the maps are.
        columns: How many columns apart its columns are.

    Returns:
        (N rows columns) x C x ceil(H / rows) x ceil(W / columns), zero where there is no pixel, in channels_last.
    """
    height, width = features.shape[-2:]
    pixels = features.permute(0, 2, 3, 1)
    if height % rows or width % columns:
        pixels = F.pad(pixels, (0, 0, 0, -width % columns, 0, -height % rows))
    maps = pixels.unflatten(2, (-1, columns)).unflatten(1, (-1, rows)).permute(0, 2, 4, 1, 3, 5)
    return maps.flatten(0, 2).permute(0, 3, 1, 2)


def put_together(maps: Tensor, rows: int, columns: int, height: int, width: int) -> Tensor:
    """Returns N x C x height x width, in channels_last, from what `take_apart` made of it."""
    pixels = maps.permute(0, 2, 3, 1).unflatten(0, (-1, rows, columns)).permute(0, 3, 1, 4, 2, 5)
    whole = pixels.flatten(3, 4).flatten(1, 2)[:, :height, :width]
    return whole.contiguous().permute(0, 3, 1, 2)


class _ShiftedSum(torch.autograd.Function):
    """Maps pixels N x H x W x C and a weight C x 1 x k x l to their dilated convolution that keeps the size."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, weight: Tensor, dilation: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(pixels, weight)
        ctx.dilation = dilation
        out = torch.zeros_like(pixels, memory_format=torch.contiguous_format)
        for tap, seen, shown in _windows(weight, dilation, pixels):
            out[shown].addcmul_(pixels[seen], weight[:, 0, *tap])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        pixels, weight = ctx.saved_tensors
        pixels_gradient, weight_gradient = torch.zeros_like(pixels), torch.zeros_like(weight)
        for tap, seen, shown in _windows(weight, ctx.dilation, pixels):
            pixels_gradient[seen].addcmul_(gradient[shown], weight[:, 0, *tap])
            weight_gradient[:, 0, *tap] = (pixels[seen] * gradient[shown]).sum((0, 1, 2))
        return pixels_gradient, weight_gradient, None


def _windows(
    weight: Tensor, dilation: tuple[int, int], pixels: Tensor
) -> Iterator[tuple[tuple[int, int], tuple[slice, ...], tuple[slice, ...]]]:
    """Yields for each weight of the kernel the pixels that it sees and those that it adds them to."""
    rows, columns = (
        [_shifted(rate * (tap - side // 2), length) for tap in range(side)]
        for side, rate, length in zip(weight.shape[-2:], dilation, pixels.shape[1:3], strict=True)
    )
    for i, (seen_rows, shown_rows) in enumerate(rows):
        for j, (seen_columns, shown_columns) in enumerate(columns):
            yield (i, j), (slice(None), seen_rows, seen_columns), (slice(None), shown_rows, shown_columns)


def _shifted(offset: int, length: int) -> tuple[slice, slice]:
    """Returns the part of a side that lies within it after a shift, and where that part comes to lie."""
    least = min(max(-offset, 0), length)
    most = max(length - max(offset, 0), least)
    return slice(least + offset, most + offset), slice(least, most)
