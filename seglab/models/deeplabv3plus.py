"""The decoder of DeepLabv3+."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from seglab.models.blocks import ConvBlock, scale_widths
from seglab.models.depthwise import DepthwiseConv2d
from seglab.models.pyramid import PooledContext, pyramid_start, resize

RATES_STRIDE = 16


class SeparableBlock(nn.Sequential):
    """A 3x3 convolution of each channel, dilated by `rate`, then Conv1x1-[Norm]-ReLU: atrous, separable."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm_layer: Callable[[int], nn.Module] | None = None,
        rate: int = 1,
    ) -> None:
        depthwise = DepthwiseConv2d(in_channels, 3, padding="same", dilation=rate, bias=False)
        super().__init__(depthwise, ConvBlock(in_channels, out_channels, norm_layer=norm_layer, kernel_size=1))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: convolutions of several reaches side by side, and the map's mean.

    As in DeepLabv3 (Chen et al. 2017, arXiv:1706.05587), with separable convolutions.

    Args:
        in_channels: Channels of the feature.
        out_channels: Channels of each branch and of the output.
        rates: Dilations of the 3x3 convolutions, in the feature's pixels.
        norm_layer: Makes the norms; none if None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        rates: Sequence[int],
        norm_layer: Callable[[int], nn.Module] | None,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                ConvBlock(in_channels, out_channels, norm_layer=norm_layer, kernel_size=1),
                *(SeparableBlock(in_channels, out_channels, norm_layer, rate) for rate in rates),
                PooledContext(in_channels, out_channels, 1, norm_layer),
            ]
        )
        self.fuse = ConvBlock(len(self.branches) * out_channels, out_channels, norm_layer=norm_layer, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (b, in_channels, h, w) to (b, out_channels, h, w)."""
        return self.fuse(torch.cat([branch(x) for branch in self.branches], dim=1))


class DeepLabV3PlusDecoder(nn.Module):
    """ASPP on the deepest feature, refined with a shallow one (Chen et al. 2018, arXiv:1802.02611).

    The shallow one is the first feature of stride 4 or more.

    Args:
        channels: Channels of the encoder's features, shallow to deep.
        strides: Strides of the encoder's features.
        aspp_width: Channels of the ASPP and of the output.
        low_level_width: Channels that the shallow feature is reduced to.
        rates: Dilations of the ASPP at stride 16; at another stride they are scaled to reach as many pixels.
        width: Multiplier of both widths.
        norm_layer: Makes the norms; none if None.

    Raises:
        ValueError: If there are not two features of stride 4 or more.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        aspp_width: int = 256,
        low_level_width: int = 48,
        rates: Sequence[int] = (6, 12, 18),
        width: float = 1.0,
        norm_layer: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.start = pyramid_start(strides)
        self.out_channels, low_level_width = scale_widths([aspp_width, low_level_width], width)
        rates = [max(1, round(rate * RATES_STRIDE / strides[-1])) for rate in rates]
        self.aspp = ASPP(channels[-1], self.out_channels, rates, norm_layer)
        self.reduce = ConvBlock(channels[self.start], low_level_width, norm_layer=norm_layer, kernel_size=1)
        self.refine = nn.Sequential(
            SeparableBlock(self.out_channels + low_level_width, self.out_channels, norm_layer),
            SeparableBlock(self.out_channels, self.out_channels, norm_layer),
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps the encoder's features to (b, out_channels, h, w) at the shallow one's resolution."""
        low_level = self.reduce(features[self.start])
        return self.refine(torch.cat([resize(self.aspp(features[-1]), low_level), low_level], dim=1))
