"""The depthwise convolution of ours against PyTorch's and timm's."""

import copy
import pickle

import numpy as np
import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from seglab.models import TimmEncoder, depthwise
from seglab.models.depthwise import DepthwiseConv2d, computes_bf16, put_together, take_apart
from seglab.models.timm_layers import DepthwiseConv2dSame, quick_depthwise

SIZES = [(1, 1), (2, 5), (8, 8), (20, 13), (7, 30)]


@pytest.fixture
def ways(monkeypatch):
    """Returns the list that grows by each way of ours that a convolution takes."""
    taken = []
    for name in ("take_apart", "_windows"):
        way = getattr(depthwise, name)
        monkeypatch.setattr(depthwise, name, lambda *a, name=name, way=way: taken.append(name) or way(*a))
    return taken


def pair(kernel_size=3, **options):
    """Returns a layer of six channels of ours and PyTorch's, with the same weights."""
    torch.manual_seed(0)
    theirs = nn.Conv2d(6, 6, kernel_size, groups=6, **options)
    ours = DepthwiseConv2d(6, kernel_size, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def output_and_gradients(layer, features, bf16=False):
    features = features.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = torch.relu_(layer(features))
    weighed = torch.linspace(-1, 1, out.numel()).view_as(out).to(out.dtype)
    return [out, *torch.autograd.grad(out, [features, *layer.parameters()], weighed)]


@pytest.mark.parametrize("dilation", [(2, 2), (3, 3), (6, 6), (12, 12), (2, 3)])
@pytest.mark.parametrize("kernel_size", [1, 3, 5, (3, 5)])
@pytest.mark.parametrize("padding", ["same", "numbers"])
def test_dilated_it_is_the_same_convolution(padding, kernel_size, dilation, ways):
    sides = np.broadcast_to(kernel_size, 2)
    if padding == "numbers":
        padding = tuple(int(rate * (side // 2)) for rate, side in zip(dilation, sides, strict=True))
    for size in SIZES:
        layers = pair(kernel_size, dilation=dilation, bias=size[0] > 2, padding=padding)
        features = torch.randn(2, 6, *size, dtype=torch.float64)
        found, expected = (output_and_gradients(layer.double(), features) for layer in layers)
        torch.testing.assert_close(found, expected)
        is_wide = all(side > 2 * rate for side, rate in zip(size, dilation, strict=True))
        assert set(ways) == ({"take_apart"} if is_wide else {"_windows"})
        ways.clear()


@pytest.mark.parametrize("side", [9, 10, 4])  # maps taken apart, without a rest and with one, and shifted ones
@pytest.mark.parametrize("bias", [True, False])
def test_bf16_and_channels_last_are_kept(bias, side):
    ours, theirs = pair(dilation=3, padding="same", bias=bias)
    features = torch.randn(2, 6, side, side).to(memory_format=torch.channels_last)
    found, expected = (output_and_gradients(layer, features, bf16=True) for layer in (ours, theirs))
    assert [value.dtype for value in found] == [value.dtype for value in expected]
    if not computes_bf16():  # PyTorch's own gradients are off by a tenth there
        found, expected = [value.float() for value in found], output_and_gradients(theirs, features)
    torch.testing.assert_close(found, expected, rtol=2**-6, atol=2**-6)
    assert found[0].is_contiguous(memory_format=torch.channels_last)


def test_strided_it_computes_in_float32_under_autocast():
    timms = Conv2dSame(6, 6, 3, stride=2, groups=6)
    same = copy.deepcopy(timms)
    quick_depthwise(same)
    for ours, theirs in (pair(stride=2, padding=1), (same, timms)):
        features = torch.randn(2, 6, 9, 12)
        exact = output_and_gradients(theirs, features)
        found, expected = (output_and_gradients(layer, features, bf16=True) for layer in (ours, theirs))
        assert torch.equal(found[0], exact[0].bfloat16()) and not torch.equal(expected[0], found[0])
        assert [value.dtype for value in found] == [value.dtype for value in expected]
        torch.testing.assert_close(found[1:], exact[1:], rtol=2**-6, atol=2**-6)


@pytest.mark.parametrize(
    "options",
    [
        {"padding": 0},
        {"padding": 1},
        {"padding": 2, "stride": 2},
        {"padding": "same", "kernel_size": 2},
        {"padding": "same", "padding_mode": "reflect"},
        {"padding": "same", "padding_mode": "circular"},
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding")  # of even kernels, PyTorch's own
def test_what_it_does_not_do_is_left_to_pytorch(options, ways):
    for dilation in (2, 5):
        layers = pair(dilation=dilation, **options)
        features = torch.randn(2, 6, 11, 14)
        found, expected = (output_and_gradients(layer, features) for layer in layers)
        torch.testing.assert_close(found, expected)
    assert not ways


@pytest.mark.parametrize("options", [{"dilation": 2}, {"dilation": 9}, {"stride": 2}])
def test_in_evaluation_mode_it_is_pytorchs_own(options, ways):
    ours, theirs = pair(padding=options.get("dilation", 1), **options)
    features = torch.randn(2, 6, 10, 10)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours.eval()(features), theirs(features))
    assert not ways


def test_other_types_of_weights_under_autocast_are_as_pytorch_takes_them():
    for dtype, options in ((torch.bfloat16, {"stride": 2}), (torch.float64, {"stride": 2}), (torch.float64, {})):
        ours, theirs = (layer.to(dtype) for layer in pair(padding=2, dilation=2, **options))
        features = torch.randn(2, 6, 10, 10, dtype=dtype)
        found, expected = (output_and_gradients(layer, features, bf16=True) for layer in (ours, theirs))
        torch.testing.assert_close(found, expected)


def test_it_trains_on_frozen_features_and_with_a_frozen_weight():
    for side in (4, 9):
        ours, theirs = pair(dilation=3, padding="same")
        features = torch.randn(2, 6, side, side)
        for layer in (ours, theirs):
            layer(features).sum().backward()
        torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
        given = features.requires_grad_()
        found, expected = (
            torch.autograd.grad(layer.requires_grad_(False)(given).square().sum(), given) for layer in (ours, theirs)
        )
        torch.testing.assert_close(found, expected)


def test_maps_taken_apart_hold_every_pixel_once():
    features = torch.arange(2 * 3 * 5 * 7.0).view(2, 3, 5, 7)
    maps = take_apart(features, 2, 3)
    assert maps.shape == (12, 3, 3, 3)
    assert torch.equal(maps[5], nn.functional.pad(features[0, :, 1::2, 2::3], (0, 1, 0, 1)))
    assert torch.equal(put_together(maps, 2, 3, 5, 7), features)


@pytest.mark.parametrize("padding", ["", "same"])
def test_every_depthwise_convolution_of_a_backbone_is_one_of_ours(padding):
    encoder = pickle.loads(pickle.dumps(TimmEncoder("mobilenetv2_100", output_stride=16, pad_type=padding)))
    found = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    assert len(found) == 17 and all(isinstance(layer, DepthwiseConv2d) for layer in found)
    assert {type(layer) is DepthwiseConv2dSame for layer in found if layer.stride == (2, 2)} == {padding == "same"}
    dilated = [layer for layer in found if layer.dilation == (2, 2)]
    assert len(dilated) == 3 and all(layer._keeps_the_size() for layer in dilated)
