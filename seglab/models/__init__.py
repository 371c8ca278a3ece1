"""Networks in plain PyTorch: blocks make encoders and decoders, and a `Segmenter` joins one of each."""

from seglab.models.blocks import ConvBlock, ResidualBlock
from seglab.models.decoders import ConvDecoder, DecoderStage, NoDecoder
from seglab.models.encoders import ConvEncoder
from seglab.models.sampling import (
    BilinearUpsample,
    MaxPoolDownsample,
    NoDownsample,
    PixelShuffleUpsample,
    StridedDownsample,
    TransposedUpsample,
)
from seglab.models.segmenter import Segmenter, forward_flops
from seglab.models.skips import Add, Concatenate, NoSkip

__all__ = [
    "Add",
    "BilinearUpsample",
    "Concatenate",
    "ConvBlock",
    "ConvDecoder",
    "ConvEncoder",
    "DecoderStage",
    "MaxPoolDownsample",
    "NoDecoder",
    "NoDownsample",
    "NoSkip",
    "PixelShuffleUpsample",
    "ResidualBlock",
    "Segmenter",
    "StridedDownsample",
    "TransposedUpsample",
    "forward_flops",
]
