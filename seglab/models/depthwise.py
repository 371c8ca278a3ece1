"""Depthwise convolutions that a CPU trains quickly, strided and dilated ones too."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` with one group for each channel, which trains quickly on a CPU.

    oneDNN takes ten to a hundred times as long for the gradient of a dilated depthwise convolution, and in bf16 of a
    strided one, as for the output (benchmarks/layers.py). Hence, on a CPU and while training,

    - the pixels that a dilated kernel sees together become a map of their own, whose convolution has no dilation, as
      in the first DeepLab (Chen et al. 2017, arXiv:1606.00915);
    - where such a map would be smaller than three pixels, the kernel's weights multiply shifted maps one by one;
    - a strided convolution computes in float32.

    The same sums in another order. Convolutions that change the size by more than their stride are left to oneDNN.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Maps N x channels x H x W to the same, divided by the stride."""
        on_cpu = self.training and features.device.type == "cpu"
        if on_cpu and max(self.stride) > 1 and torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            with torch.autocast("cpu", enabled=False):
                return super().forward(features.float()).to(dtype)
        if on_cpu and min(self.dilation) > 1 and self._keeps_the_size():
            return self._dilated(features)
        return super().forward(features)

    def _keeps_the_size(self) -> bool:
        same = tuple(rate * (side // 2) for rate, side in zip(self.dilation, self.kernel_size, strict=True))
        is_odd = all(side % 2 for side in self.kernel_size)
        return max(self.stride) == 1 and is_odd and self.padding in ("same", same)

    def _dilated(self, features: Tensor) -> Tensor:
        weight = self.weight
        if torch.is_autocast_enabled("cpu"):
            features, weight = (values.to(torch.get_autocast_dtype("cpu")) for values in (features, weight))
        if any(side <= 2 * rate for side, rate in zip(features.shape[-2:], self.dilation, strict=True)):
            out = _ShiftedSum.apply(features, weight, self.dilation)
            return out if self.bias is None else out + self.bias.to(out.dtype).view(-1, 1, 1)
        padding = [side // 2 for side in self.kernel_size]
        maps = F.conv2d(take_apart(features, *self.dilation), weight, self.bias, padding=padding, groups=self.groups)
        return put_together(maps, *self.dilation, *features.shape[-2:])


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
    pixels = F.pad(features.permute(0, 2, 3, 1), (0, 0, 0, -width % columns, 0, -height % rows))
    maps = pixels.unflatten(2, (-1, columns)).unflatten(1, (-1, rows)).permute(0, 2, 4, 1, 3, 5)
    return maps.flatten(0, 2).permute(0, 3, 1, 2)


def put_together(maps: Tensor, rows: int, columns: int, height: int, width: int) -> Tensor:
    """Returns N x C x height x width from what `take_apart` made of it."""
    pixels = maps.permute(0, 2, 3, 1).unflatten(0, (-1, rows, columns)).permute(0, 3, 1, 4, 2, 5)
    return pixels.flatten(3, 4).flatten(1, 2)[:, :height, :width].permute(0, 3, 1, 2)


class _ShiftedSum(torch.autograd.Function):
    """Maps features and weight to their dilated depthwise convolution, in float32; it can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, dilation: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.dilation = dilation
        pixels, taps = _in_float32(features), weight.float()
        out = torch.zeros_like(pixels)
        for tap, seen, shown in _windows(weight, dilation, pixels):
            out[shown].addcmul_(pixels[seen], taps[:, 0, *tap])
        return out.to(features.dtype).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        pixels, gradients, taps = _in_float32(features), _in_float32(gradient), weight.float()
        pixels_gradient, weight_gradient = torch.zeros_like(pixels), torch.zeros_like(taps)
        for tap, seen, shown in _windows(weight, ctx.dilation, pixels):
            pixels_gradient[seen].addcmul_(gradients[shown], taps[:, 0, *tap])
            weight_gradient[:, 0, *tap] = (pixels[seen] * gradients[shown]).sum((0, 1, 2))
        return pixels_gradient.to(features.dtype).permute(0, 3, 1, 2), weight_gradient.to(weight.dtype), None


def _in_float32(features: Tensor) -> Tensor:
    """Returns N x C x H x W as N x H x W x C of float32."""
    return features.permute(0, 2, 3, 1).float().contiguous()


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
    least, most = min(max(-offset, 0), length), max(length - max(offset, 0), 0)
    shown = slice(least, max(least, most))
    return slice(shown.start + offset, shown.stop + offset) if shown.start < shown.stop else slice(0, 0), shown
