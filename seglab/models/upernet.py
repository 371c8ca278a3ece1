"""The decoder of UPerNet."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from seglab.models.blocks import ConvBlock, scale_widths
from seglab.models.pyramid import PooledContext, TopDownPathway, pyramid_start, resize


class PyramidPooling(nn.Module):
    """Fuses a feature with its means over grids of several sizes (PSPNet, Zhao et al. 2016, arXiv:1612.01105).

    Args:
        in_channels: Channels of the feature.
        out_channels: Channels of each context and of the output.
        bins: Cells along a side of each grid.
        norm_layer: Makes the norms; none if None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bins: Sequence[int],
        norm_layer: Callable[[int], nn.Module] | None,
    ) -> None:
        super().__init__()
        self.contexts = nn.ModuleList(PooledContext(in_channels, out_channels, count, norm_layer) for count in bins)
        self.fuse = ConvBlock(in_channels + len(bins) * out_channels, out_channels, norm_layer=norm_layer)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (b, in_channels, h, w) to (b, out_channels, h, w)."""
        return self.fuse(torch.cat([x, *(context(x) for context in self.contexts)], dim=1))


class UPerNetDecoder(nn.Module):
    """A feature pyramid on pooled context, its levels fused at the finest (Xiao et al. 2018, arXiv:1807.10221).

    The finest level is the first feature of stride 4 or more.

    Args:
        channels: Channels of the encoder's features, shallow to deep.
        strides: Strides of the encoder's features.
        pyramid_width: Channels of the context, of the pyramid's levels and of the output; 512 in the authors' large
            networks.
        bins: Cells along a side of each grid that the deepest feature is pooled to.
        width: Multiplier of the width.
        norm_layer: Makes the norms; none if None.

    Raises:
        ValueError: If there are not two features of stride 4 or more.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        pyramid_width: int = 256,
        bins: Sequence[int] = (1, 2, 3, 6),
        width: float = 1.0,
        norm_layer: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.start = pyramid_start(strides)
        (self.out_channels,) = scale_widths([pyramid_width], width)
        *shallower, deepest = channels[self.start :]

        def block(in_channels: int, kernel_size: int) -> nn.Module:
            return ConvBlock(in_channels, self.out_channels, norm_layer=norm_layer, kernel_size=kernel_size)

        context = PyramidPooling(deepest, self.out_channels, bins, norm_layer)
        self.pyramid = TopDownPathway(
            laterals=[*(block(feature_channels, 1) for feature_channels in shallower), context],
            outputs=[*(block(self.out_channels, 3) for _ in shallower), nn.Identity()],
        )
        self.fuse = block((len(shallower) + 1) * self.out_channels, 3)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps the encoder's features to (b, out_channels, h, w) at the first taken feature's resolution."""
        levels = self.pyramid(features[self.start :])
        return self.fuse(torch.cat([resize(level, levels[0]) for level in levels], dim=1))
