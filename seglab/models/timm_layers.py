"""Layers of timm's backbones that train on a CPU in our way. Imports timm, which takes seconds."""

from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from seglab.models.depthwise import DepthwiseConv2d


class DepthwiseConv2dSame(DepthwiseConv2d, Conv2dSame):
    """timm's strided convolution with TensorFlow's padding, as one of ours."""


def quick_depthwise(backbone: nn.Module) -> None:
    """Makes every plain depthwise convolution of a backbone one of ours."""
    ours = {nn.Conv2d: DepthwiseConv2d, Conv2dSame: DepthwiseConv2dSame}
    for layer in backbone.modules():
        if type(layer) in ours and 1 < layer.groups == layer.in_channels == layer.out_channels:
            layer.__class__ = ours[type(layer)]
