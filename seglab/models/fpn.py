"""The decoder of Panoptic FPN's semantic branch."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from seglab.models.blocks import ConvBlock, GroupNorm, scale_widths
from seglab.models.pyramid import TopDownPathway, pyramid_start, resize


class FPNDecoder(nn.Module):
    """A feature pyramid whose levels climb to its finest one and are summed there.

    Kirillov et al. 2019, arXiv:1901.02446. The finest level is the first feature of stride 4 or more.

    A level climbs by [Conv3x3-Norm-ReLU, bilinear enlargement], once for each level above it; the finest has one that
    enlarges nothing. The first of these takes the place of the 3x3 convolution that the paper's pyramid ends each level
    with.

    Args:
        channels: Channels of the encoder's features, shallow to deep.
        strides: Strides of the encoder's features.
        pyramid_width: Channels of the pyramid's levels.
        branch_width: Channels of the climbs and of the output.
        width: Multiplier of both.
        norm_layer: Makes the norms of the climbs; none if None.

    Raises:
        ValueError: If there are not two features of stride 4 or more.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        pyramid_width: int = 256,
        branch_width: int = 128,
        width: float = 1.0,
        norm_layer: Callable[[int], nn.Module] | None = GroupNorm,
    ) -> None:
        super().__init__()
        self.start = pyramid_start(strides)
        pyramid_width, self.out_channels = scale_widths([pyramid_width, branch_width], width)
        taken = channels[self.start :]
        self.pyramid = TopDownPathway(
            laterals=[nn.Conv2d(feature_channels, pyramid_width, 1) for feature_channels in taken],
            outputs=[nn.Identity() for _ in taken],
        )
        self.branches = nn.ModuleList()
        for level in range(len(taken)):
            climb = [pyramid_width] + [self.out_channels] * max(1, level)
            blocks = [ConvBlock(*pair, norm_layer=norm_layer) for pair in zip(climb, climb[1:], strict=False)]
            self.branches.append(nn.ModuleList(blocks))

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps the encoder's features to (b, out_channels, h, w) at the first taken feature's resolution."""
        levels = self.pyramid(features[self.start :])
        summed = 0
        for i, (x, branch) in enumerate(zip(levels, self.branches, strict=True)):
            for block, above in zip(branch, levels[:i][::-1] or levels[:1], strict=True):
                x = resize(block(x), above)
            summed = summed + x
        return summed
