"""Layers that change the resolution.

Encoders receive a callable `downsample(channels) -> nn.Module` whose result has a `stride`, decoders a callable
`upsample(in_channels, out_channels, scale) -> nn.Module`. Every upsampling changes the width too, so that a decoder
stage never carries the wider of its two widths at the higher of its two resolutions.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.models.blocks import ConvBlock
from seglab.models.convolution import SameConv2d


class MaxPoolDownsample(nn.MaxPool2d):
    """Halves the resolution by the largest value of each 2x2 window."""

    def __init__(self, channels: int) -> None:
        super().__init__(kernel_size=2)


class StridedDownsample(nn.Sequential):
    """Halves the resolution by Conv3x3-ReLU of stride 2 (Springenberg et al. 2014, arXiv:1412.6806)."""

    stride = 2

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Conv2d(channels, channels, 3, stride=2, padding=1), nn.ReLU(inplace=True))


class NoDownsample(nn.Identity):
    """Keeps the resolution."""

    stride = 1


class BilinearUpsample(nn.Sequential):
    """Conv3x3-[Norm]-ReLU, then bilinear enlargement: (b, in_channels, h, w) to (b, out_channels, scale h, scale w)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale: int = 2,
        norm_layer: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__(
            ConvBlock(in_channels, out_channels, norm_layer=norm_layer),
            nn.Upsample(scale_factor=scale, mode="bilinear"),
        )


class TransposedUpsample(nn.Sequential):
    """ConvTranspose-ReLU whose kernel equals its stride, so that no two input pixels overlap in the output.

    Of the usual kernels only this one gives the final network its 28.0 million parameters. On a CPU it trains
    channels_last maps in bf16 as one matrix product, from each pixel to the scale x scale pixels that it becomes.
    """

    def __init__(self, in_channels: int, out_channels: int, scale: int = 2) -> None:
        super().__init__(nn.ConvTranspose2d(in_channels, out_channels, scale, scale), nn.ReLU(inplace=True))

    def forward(self, features: Tensor) -> Tensor:
        """Maps (b, in_channels, h, w) to (b, out_channels, scale h, scale w)."""
        slow = features.dtype == torch.bfloat16 and features.device.type == "cpu"  # in oneDNN (benchmarks/layers.py)
        if self.training and slow and features.is_contiguous(memory_format=torch.channels_last):
            return self._matrix_product(features)
        return super().forward(features)

    def _matrix_product(self, features: Tensor) -> Tensor:
        conv, relu = self
        (scale, _), width = conv.stride, conv.out_channels
        weight = conv.weight.permute(2, 3, 1, 0).flatten(0, 2)
        pixels = relu(F.linear(features.permute(0, 2, 3, 1), weight, conv.bias.repeat(scale**2)))
        n, h, w, _ = pixels.shape
        squares = pixels.view(n, h, w, scale, scale, width).transpose(2, 3)
        return squares.reshape(n, scale * h, scale * w, width).permute(0, 3, 1, 2)


class PixelShuffleUpsample(nn.Sequential):
    """Conv3x3-PixelShuffle-ReLU, the sub-pixel convolution of Shi et al. (2016, arXiv:1609.05158).

    Maps (b, in_channels, h, w) to (b, out_channels, scale h, scale w).
    """

    def __init__(self, in_channels: int, out_channels: int, scale: int = 2) -> None:
        super().__init__(
            SameConv2d(in_channels, out_channels * scale**2, 3),
            nn.PixelShuffle(scale),
            nn.ReLU(inplace=True),
        )
