"""Networks in plain PyTorch: blocks make encoders and decoders, and a `Segmenter` joins one of each."""

from seglab.models.blocks import ConvBlock, GroupNorm, ResidualBlock, SqueezeExcite, SqueezeExciteBlock
from seglab.models.decoders import ConvDecoder, DecoderStage, NoDecoder
from seglab.models.deeplabv3plus import ASPP, DeepLabV3PlusDecoder
from seglab.models.encoders import ConvEncoder
from seglab.models.fisher_classifier import FisherClassifier
from seglab.models.fpn import FPNDecoder
from seglab.models.sampling import (
    BilinearUpsample,
    MaxPoolDownsample,
    NoDownsample,
    PixelShuffleUpsample,
    StridedDownsample,
    TransposedUpsample,
)
from seglab.models.segformer import SegFormerDecoder
from seglab.models.segmenter import Segmenter, forward_flops, idle_parameters
from seglab.models.skips import Add, AttentionGate, Concatenate, NoSkip
from seglab.models.timm_encoder import TimmEncoder
from seglab.models.unetplusplus import UNetPlusPlusDecoder
from seglab.models.upernet import PyramidPooling, UPerNetDecoder

__all__ = [
    "ASPP",
    "Add",
    "AttentionGate",
    "BilinearUpsample",
    "Concatenate",
    "ConvBlock",
    "ConvDecoder",
    "ConvEncoder",
    "DecoderStage",
    "DeepLabV3PlusDecoder",
    "FPNDecoder",
    "FisherClassifier",
    "GroupNorm",
    "MaxPoolDownsample",
    "NoDecoder",
    "NoDownsample",
    "NoSkip",
    "PixelShuffleUpsample",
    "PyramidPooling",
    "ResidualBlock",
    "SegFormerDecoder",
    "Segmenter",
    "SqueezeExcite",
    "SqueezeExciteBlock",
    "StridedDownsample",
    "TimmEncoder",
    "TransposedUpsample",
    "UNetPlusPlusDecoder",
    "UPerNetDecoder",
    "forward_flops",
    "idle_parameters",
]
