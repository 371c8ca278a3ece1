"""Encoders: from an image to features of falling resolution.

An encoder is any module with `channels` and `strides`, two lists of one entry for each feature, whose forward maps an
image (b, in_channels, h, w) to its features from shallow to deep, feature i being (b, channels[i], h / strides[i],
w / strides[i]). Its first feature has the image's resolution.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from seglab.models.blocks import ConvBlock, scale_widths
from seglab.models.sampling import MaxPoolDownsample


class ConvEncoder(nn.Module):
    """A plain stack of stages, each a block and a downsampling, after an optional stem.

    The features are the input of the first stage (the stem's output or, without one, the image itself) and the output
    of every stage.

    Args:
        widths: Channels of the stages.
        width: Multiplier of every width, the stem's too.
        stem: Channels of a block at full resolution before the first stage; none if None.
        block: Makes a block from its input's and its output's width.
        downsample: Makes the downsampling from its width.
        in_channels: Channels of the image.
        drop_path_rate: Probability that the last block's branch is left out while training; it rises in equal steps
            from 0, of the stem, as in Huang et al. (2016, arXiv:1603.09382). The blocks must take a `drop_path`, as
            `ResidualBlock` does; they are not given one if None.
    """

    def __init__(
        self,
        widths: Sequence[int],
        width: float = 1.0,
        stem: int | None = None,
        block: Callable[[int, int], nn.Module] = ConvBlock,
        downsample: Callable[[int], nn.Module] = MaxPoolDownsample,
        in_channels: int = 3,
        drop_path_rate: float | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.strides = [in_channels], [1]
        self.stem: nn.Module = nn.Identity()
        if stem is not None:
            self.channels = scale_widths([stem], width)
            self.stem = block(in_channels, *self.channels)
        self.stages = nn.ModuleList()
        for i, channels in enumerate(scale_widths(widths, width), start=1):
            down = downsample(channels)
            options = {} if drop_path_rate is None else {"drop_path": drop_path_rate * i / len(widths)}
            self.stages.append(nn.Sequential(block(self.channels[-1], channels, **options), down))
            self.channels.append(channels)
            self.strides.append(self.strides[-1] * down.stride)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps (b, in_channels, h, w), h and w multiples of the last stride, to the features from shallow to deep."""
        features = [self.stem(image)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features
