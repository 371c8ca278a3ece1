"""The nested decoder of UNet++."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from seglab.models.blocks import ConvBlock
from seglab.models.decoders import DecoderStage, widths_and_scales
from seglab.models.sampling import BilinearUpsample
from seglab.models.skips import Concatenate


class UNetPlusPlusDecoder(nn.Module):
    """Decoders of every depth in one, with dense skips between them (Zhou et al. 2018, arXiv:1807.10165).

    Column 0 holds the encoder's features after the first; each later column is one level shorter. A node enlarges the
    node below it in the column before and merges it with all nodes of its own level that came before it. The first
    feature, the image or a shallow stem at full resolution, only meets the last node: dense skips there, which the
    paper has, would take most of the time. A node has the width of its level, or that of the level's feature where this
    is less.

    Args:
        channels: Channels of the encoder's features, shallow to deep.
        strides: Strides of the encoder's features.
        widths: Channels of the levels, deep to shallow; of more than there are levels, the last.
        width: Multiplier of every width.
        block: Makes a block from its input's and its output's width; no block after the merge if None.
        upsample: Makes the upsampling from its input's width, its output's width and its scale.

    Raises:
        ValueError: If there are fewer widths than levels, or a stride is no multiple of the one before.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        widths: Sequence[int],
        width: float = 1.0,
        block: Callable[[int, int], nn.Module] | None = ConvBlock,
        upsample: Callable[[int, int, int], nn.Module] = BilinearUpsample,
    ) -> None:
        super().__init__()
        first, *levels = widths_and_scales(strides, widths, width)[::-1]  # shallow to deep
        levels = [(min(own, feature), scale) for (own, scale), feature in zip(levels, channels[1:], strict=False)]
        before, skips = list(channels[1:]), list(channels[1:])
        self.columns = nn.ModuleList()
        while len(before) > 1:
            column = [
                DecoderStage(below, skip, level_width, scale, block, upsample, Concatenate)
                for below, skip, (level_width, scale) in zip(before[1:], skips, levels, strict=False)
            ]
            before = [node.out_channels for node in column]
            skips = [skip + new for skip, new in zip(skips, before, strict=False)]
            self.columns.append(nn.ModuleList(column))
        self.last = DecoderStage(before[0], channels[0], *first, block, upsample, Concatenate)
        self.out_channels = self.last.out_channels

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps the encoder's features to (b, out_channels, h, w) at the first feature's resolution."""
        nodes = [[feature] for feature in features[1:]]  # of each level, column after column
        for column in self.columns:
            new = [node(below[-1], *level) for node, level, below in zip(column, nodes, nodes[1:], strict=False)]
            for level, x in zip(nodes, new, strict=False):
                level.append(x)
        return self.last(nodes[0][-1], features[0])
