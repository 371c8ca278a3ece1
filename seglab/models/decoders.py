"""Decoders: from an encoder's features to one map of features.

A decoder is any module built with the encoder's `channels` and `strides`, whose forward maps the features to
(b, out_channels, h, w) at any resolution; the `Segmenter` enlarges the logits to the image's. Those of this file climb
stage by stage to the resolution of the first feature.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from seglab.models.blocks import ConvBlock, scale_widths
from seglab.models.sampling import TransposedUpsample
from seglab.models.skips import Concatenate


class DecoderStage(nn.Module):
    """One step up: upsampling to `width` channels, the skip's merge, then a block.

    `out_channels` is `width`, or the merge's width where there is no block.

    Args:
        in_channels: Channels of the deeper feature.
        skip_channels: Channels of the encoder's feature, of all that come together.
        width: Channels after the upsampling and after the block.
        scale: What height and width are multiplied by.
        block: Called with the merge's channels and `width`; none if None.
        upsample: Called with `in_channels`, `width` and `scale`, see `seglab.models.sampling`.
        skip: Called with `width` and `skip_channels`, see `seglab.models.skips`.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        width: int,
        scale: int,
        block: Callable[[int, int], nn.Module] | None,
        upsample: Callable[[int, int, int], nn.Module],
        skip: Callable[[int, int], nn.Module],
    ) -> None:
        super().__init__()
        self.upsample = upsample(in_channels, width, scale)
        self.skip = skip(width, skip_channels)
        self.block = nn.Identity() if block is None else block(self.skip.out_channels, width)
        self.out_channels = self.skip.out_channels if block is None else width

    def forward(self, x: Tensor, *skips: Tensor) -> Tensor:
        """Maps (b, in_channels, h, w) and the skip (b, skip_channels, H, W) to (b, out_channels, H, W), H = scale h."""
        return self.block(self.skip(self.upsample(x), *skips))


def widths_and_scales(strides: Sequence[int], widths: Sequence[int], width: float) -> list[tuple[int, int]]:
    """Returns the width and the upsampling of every decoder stage, deep to shallow.

    Widths are counted from the shallow end, so that those of a deep encoder's decoder serve a shallower encoder, too.

    Raises:
        ValueError: If there are fewer widths than stages, or a stride is no multiple of the one before.
    """
    steps = list(zip(strides, strides[1:], strict=False))
    if len(widths) < len(steps):
        raise ValueError(f"an encoder of {len(strides)} features needs {len(steps)} decoder widths, got {list(widths)}")
    if any(deep % shallow for shallow, deep in steps):
        raise ValueError(f"each stride must be a multiple of the one before, got {list(strides)}")
    scales = [deep // shallow for shallow, deep in reversed(steps)]
    return list(zip(scale_widths(widths[len(widths) - len(steps) :], width), scales, strict=True))


class ConvDecoder(nn.Module):
    """A stack of `DecoderStage`, one for each stage of the encoder.

    Stage i of n merges the input of encoder stage n + 1 - i, which has the resolution that the stage upsamples to.

    Args:
        channels: Channels of the encoder's features, shallow to deep.
        strides: Strides of the encoder's features.
        widths: Channels of the stages, deep to shallow; of more than there are stages, the last.
        width: Multiplier of every width.
        block: Makes a block from its input's and its output's width; no block after the merge if None.
        upsample: Makes the upsampling from its input's width, its output's width and its scale.
        skip: Makes the merge from the upsampled width and the skip's width.

    Raises:
        ValueError: If there are fewer widths than stages, or a stride is no multiple of the one before.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        widths: Sequence[int],
        width: float = 1.0,
        block: Callable[[int, int], nn.Module] | None = ConvBlock,
        upsample: Callable[[int, int, int], nn.Module] = TransposedUpsample,
        skip: Callable[[int, int], nn.Module] = Concatenate,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        self.out_channels = channels[-1]
        for i, (stage_width, scale) in enumerate(widths_and_scales(strides, widths, width), start=2):
            stage = DecoderStage(self.out_channels, channels[-i], stage_width, scale, block, upsample, skip)
            self.stages.append(stage)
            self.out_channels = stage.out_channels

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps the encoder's features to (b, out_channels, h, w) at the first feature's resolution."""
        x, *skips = reversed(features)
        for stage, skip in zip(self.stages, skips, strict=True):
            x = stage(x, skip)
        return x


class NoDecoder(nn.Module):
    """Hands on the deepest feature.

    With a downsampling encoder this is FCN-32s without its learned enlargement (Long et al. 2014, arXiv:1411.4038).
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.out_channels = channels[-1]

    def forward(self, features: list[Tensor]) -> Tensor:
        """Returns the deepest feature, (b, out_channels, h, w)."""
        return features[-1]
