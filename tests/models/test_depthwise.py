"""The depthwise convolution of ours against PyTorch's and timm's."""

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from seglab.models import TimmEncoder
from seglab.models.depthwise import DepthwiseConv2d, put_together, take_apart
from seglab.models.timm_layers import DepthwiseConv2dSame

SIZES = [(1, 1), (2, 5), (8, 8), (20, 13), (7, 30)]


def pair(ours, theirs, kernel_size, **options):
    """Returns a layer of six channels of each kind, with the same weights."""
    torch.manual_seed(0)
    layers = [kind(6, 6, kernel_size, groups=6, **options) for kind in (ours, theirs)]
    layers[1].load_state_dict(layers[0].state_dict())
    return layers


def output_and_gradients(layer, features, bf16=False):
    features = features.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = layer(features)
    weighed = torch.linspace(-1, 1, out.numel()).view_as(out).to(out.dtype)
    return [out, *torch.autograd.grad(out, [features, *layer.parameters()], weighed)]


@pytest.mark.parametrize("dilation", [(2, 2), (3, 3), (6, 6), (12, 12), (2, 3)])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("kind", ["same", "padding", "timm"])
def test_dilated_it_is_the_same_convolution(kind, kernel_size, dilation):
    kinds = (DepthwiseConv2dSame, Conv2dSame) if kind == "timm" else (DepthwiseConv2d, nn.Conv2d)
    padding = {
        "same": {"padding": "same"},
        "padding": {"padding": tuple(rate * (kernel_size // 2) for rate in dilation)},
        "timm": {},
    }[kind]
    for size in SIZES:
        ours, theirs = pair(*kinds, kernel_size, dilation=dilation, bias=size[0] > 2, **padding)
        features = torch.randn(2, 6, *size)
        expected = output_and_gradients(theirs, features)
        torch.testing.assert_close(output_and_gradients(ours, features), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("side", "dilation"), [(9, 3), (4, 3)])  # maps taken apart, and shifted ones
def test_bf16_and_layout_are_kept(side, dilation):
    ours, theirs = pair(DepthwiseConv2d, nn.Conv2d, 3, dilation=dilation, padding="same")
    features = torch.randn(2, 6, side, side).to(memory_format=torch.channels_last)
    found, expected = (output_and_gradients(layer, features, bf16=True) for layer in (ours, theirs))
    assert [value.dtype for value in found] == [torch.bfloat16] + [torch.float32] * 3
    torch.testing.assert_close(found, expected, rtol=2**-6, atol=2**-6)
    assert found[0].is_contiguous(memory_format=torch.channels_last)


def test_strided_in_bf16_it_is_as_near_to_float32_as_pytorchs_own():
    for kinds in ((DepthwiseConv2d, nn.Conv2d), (DepthwiseConv2dSame, Conv2dSame)):
        ours, theirs = pair(*kinds, 3, stride=2, **({"padding": 1} if kinds[1] is nn.Conv2d else {}))
        features = torch.randn(2, 6, 9, 12)
        exact = output_and_gradients(theirs, features)
        found, expected = (output_and_gradients(layer, features, bf16=True) for layer in (ours, theirs))
        assert [value.dtype for value in found] == [value.dtype for value in expected]
        for value, other, truth in zip(found, expected, exact, strict=True):
            assert (value - truth).abs().max() <= (other - truth).abs().max() + 1e-6


@pytest.mark.parametrize("options", [{"padding": 0}, {"padding": 1}, {"padding": 2, "stride": 2}])
def test_what_does_not_keep_the_size_is_left_alone(options):
    ours, theirs = pair(DepthwiseConv2d, nn.Conv2d, 3, dilation=2, **options)
    features = torch.randn(2, 6, 11, 14)
    torch.testing.assert_close(output_and_gradients(ours, features), output_and_gradients(theirs, features))


def test_in_evaluation_mode_it_is_pytorchs_own_to_the_bit():
    ours, theirs = pair(DepthwiseConv2d, nn.Conv2d, 3, dilation=3, padding="same")
    features = torch.randn(2, 6, 10, 10)
    assert not torch.equal(ours(features), ours.eval()(features))  # or this test would show nothing
    assert torch.equal(ours.eval()(features), theirs(features))


def test_maps_taken_apart_hold_every_pixel_once():
    features = torch.arange(2 * 3 * 5 * 7.0).view(2, 3, 5, 7)
    maps = take_apart(features, 2, 3)
    assert maps.shape == (12, 3, 3, 3)
    assert torch.equal(maps[5], nn.functional.pad(features[0, :, 1::2, 2::3], (0, 1, 0, 1)))
    assert torch.equal(put_together(maps, 2, 3, 5, 7), features)


@pytest.mark.parametrize("padding", ["", "same"])
def test_every_depthwise_convolution_of_a_backbone_is_one_of_ours(padding):
    encoder = TimmEncoder("mobilenetv2_100", output_stride=16, pad_type=padding)
    depthwise = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    assert len(depthwise) == 17 and all(isinstance(layer, DepthwiseConv2d) for layer in depthwise)
    assert {type(layer) is DepthwiseConv2dSame for layer in depthwise if layer.stride == (2, 2)} == {padding == "same"}
    dilated = [layer for layer in depthwise if layer.dilation == (2, 2)]
    assert len(dilated) == 3 and all(layer._keeps_the_size() for layer in dilated)
