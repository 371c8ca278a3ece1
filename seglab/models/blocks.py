"""Convolution blocks: they change the width and keep the resolution.

A block is any callable `block(in_channels, out_channels) -> nn.Module`; encoders and decoders receive one, to which
conf/model/base.yaml has given `depth` and `norm_layer`.
"""

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from seglab.models.batch_norm import quick_batch_norm
from seglab.models.convolution import SameConv2d

LEAST_WIDTH = 8


def scale_widths(widths: Sequence[int], width: float) -> list[int]:
    """Multiplies every number of channels by `width`, to the nearest whole number.

    None falls below 8, or below itself where it is less: the last channels, which the head reads, must still tell the
    classes apart (MobileNet, Howard et al. 2017, arXiv:1704.04861, keeps the same least width).

    Raises:
        ValueError: If a width or the multiplier is not positive.
    """
    if not 0 < width < math.inf or any(channels < 1 for channels in widths):
        raise ValueError(f"widths and their multiplier must be positive, got {list(widths)} times {width}")
    return [max(min(channels, LEAST_WIDTH), round(channels * width)) for channels in widths]


def conv_norm(
    in_channels: int, out_channels: int, kernel_size: int, norm_layer: Callable[[int], nn.Module] | None
) -> nn.Sequential:
    """Returns Conv or Conv-Norm of the same resolution; the norm's own shift replaces the convolution's bias."""
    conv = SameConv2d(in_channels, out_channels, kernel_size, bias=norm_layer is None)
    if norm_layer is None:
        return nn.Sequential(conv)
    return nn.Sequential(conv, quick_batch_norm(norm_layer(out_channels)))


class GroupNorm(nn.GroupNorm):
    """Normalisation within each image, over groups of channels (Wu and He 2018, arXiv:1803.08494).

    Args:
        channels: Width of the input.
        groups: The most groups, a power of two; fewer where the width is no multiple of twice as many, so that a group
            has two channels at least: one alone on a map of 1x1 has no deviation.

    Raises:
        ValueError: `groups` is no power of two.
    """

    def __init__(self, channels: int, groups: int = 32) -> None:
        if groups < 1 or groups & (groups - 1):
            raise ValueError(f"groups={groups}: give a power of two")
        super().__init__(max(1, math.gcd(channels, 2 * groups) // 2), channels)


class ConvBlock(nn.Sequential):
    """Repeats [Conv-Norm-ReLU] `depth` times; the first convolution changes the width.

    The double convolution of U-Net (Ronneberger et al. 2015, arXiv:1505.04597), with 'same' padding and, where it is
    asked for, batch normalisation (Ioffe and Szegedy 2015, arXiv:1502.03167).

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        depth: Number of convolutions, at least 1.
        norm_layer: Called with the width to make each norm, such as `nn.BatchNorm2d`; none if None.
        kernel_size: Side of the kernels.

    Raises:
        ValueError: If `depth` is below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int = 1,
        norm_layer: Callable[[int], nn.Module] | None = None,
        kernel_size: int = 3,
    ) -> None:
        if depth < 1:
            raise ValueError(f"a block needs a depth of at least 1, got {depth}")
        layers: list[nn.Module] = []
        for channels in [in_channels] + [out_channels] * (depth - 1):
            layers += [*conv_norm(channels, out_channels, kernel_size, norm_layer), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class ResidualBlock(nn.Module):
    """A `ConvBlock` that adds its input to its output before the last ReLU.

    The basic block of ResNet (He et al. 2015, arXiv:1512.03385) for any depth; where the widths differ the input goes
    through a 1x1 projection, normalised like the other convolutions.

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        depth: Number of convolutions, at least 1.
        norm_layer: Called with the width to make each norm; none if None.
        drop_path: Probability that an image goes through the shortcut alone while training; what the convolutions add
            to the others is divided by 1 - `drop_path` (stochastic depth, Huang et al. 2016, arXiv:1603.09382).

    Raises:
        ValueError: If `depth` is below 1, or `drop_path` is no probability below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int = 2,
        norm_layer: Callable[[int], nn.Module] | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path must be a probability below 1, got {drop_path}")
        *body, self.activation = ConvBlock(in_channels, out_channels, depth, norm_layer)
        self.body = nn.Sequential(*body)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else conv_norm(in_channels, out_channels, 1, norm_layer)
        self.drop_path = StochasticDepth(drop_path, mode="row")

    def forward(self, x: Tensor) -> Tensor:
        """Maps (b, in_channels, h, w) to (b, out_channels, h, w)."""
        return self.activation(self.drop_path(self.body(x)) + self.shortcut(x))


class SqueezeExcite(nn.Module):
    """Weights every channel by what the whole map holds (Hu et al. 2017, arXiv:1709.01507).

    Args:
        channels: Width of the input and of the output.
        reduction: How many times fewer channels the weights are computed in.
        spatial: Adds the map with every pixel weighted by its channels: scSE (Roy et al. 2018, arXiv:1803.02579).
    """

    def __init__(self, channels: int, reduction: int = 16, spatial: bool = False) -> None:
        super().__init__()
        squeezed = max(1, channels // reduction)
        self.channel = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )
        self.spatial = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.Sigmoid()) if spatial else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps (b, channels, h, w) to the same shape."""
        excited = x * self.channel(x)
        return excited if self.spatial is None else excited + x * self.spatial(x)


class SqueezeExciteBlock(nn.Sequential):
    """A `ConvBlock` and a `SqueezeExcite` of its output; the arguments are theirs."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int = 1,
        norm_layer: Callable[[int], nn.Module] | None = None,
        reduction: int = 16,
        spatial: bool = False,
    ) -> None:
        super().__init__(
            ConvBlock(in_channels, out_channels, depth, norm_layer), SqueezeExcite(out_channels, reduction, spatial)
        )
