"""Blocks, samplings and skips against plain tensor arithmetic."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seglab.models import (
    Add,
    AttentionGate,
    BilinearUpsample,
    Concatenate,
    ConvBlock,
    ConvEncoder,
    GroupNorm,
    MaxPoolDownsample,
    NoDownsample,
    NoSkip,
    PixelShuffleUpsample,
    ResidualBlock,
    SqueezeExcite,
    SqueezeExciteBlock,
    StridedDownsample,
    TransposedUpsample,
)
from seglab.models.blocks import scale_widths


def test_conv_block_is_conv_norm_relu_repeated():
    torch.manual_seed(0)
    block = ConvBlock(3, 5, depth=2, norm_layer=nn.BatchNorm2d)
    x = torch.randn(2, 3, 7, 6)
    expected = x
    for conv in (layer for layer in block if isinstance(layer, nn.Conv2d)):
        y = F.conv2d(expected, conv.weight, padding=1)
        mean, var = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), keepdim=True, unbiased=False)
        expected = ((y - mean) / (var + 1e-5).sqrt()).relu()
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("norm_layer", [None, nn.BatchNorm2d, partial(nn.GroupNorm, 1)])
def test_only_a_block_without_norm_has_biases(norm_layer):
    convs = [m for m in ConvBlock(3, 4, 2, norm_layer).modules() if isinstance(m, nn.Conv2d)]
    assert [conv.bias is None for conv in convs] == [norm_layer is not None] * 2


@pytest.mark.parametrize("block", [ConvBlock, ResidualBlock])
def test_block_of_no_depth_is_refused(block):
    with pytest.raises(ValueError, match="depth of at least 1, got 0"):
        block(3, 3, depth=0)


def test_residual_block_with_a_silent_body_passes_its_input_on():
    block = ResidualBlock(4, 4, norm_layer=nn.BatchNorm2d)
    nn.init.zeros_(block.body[-1].weight)
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(block(x), x.relu())


@pytest.mark.parametrize(("norm_layer", "extra"), [(None, 3 * 8 + 8), (nn.BatchNorm2d, 3 * 8 + 2 * 8)])
def test_residual_block_projects_where_widths_differ(norm_layer, extra):
    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(ResidualBlock(3, 8, 2, norm_layer)) == count(ConvBlock(3, 8, 2, norm_layer)) + extra
    assert count(ResidualBlock(8, 8, 2, norm_layer)) == count(ConvBlock(8, 8, 2, norm_layer))


def test_stochastic_depth_leaves_the_branch_out_for_whole_images_and_keeps_its_mean():
    torch.manual_seed(0)
    block = ResidualBlock(3, 4, drop_path=0.25)
    x = torch.randn(1, 3, 5, 5).expand(2000, -1, -1, -1)
    branch, shortcut = block.body(x[:1]), block.shortcut(x[:1])
    out = block(x)
    skipped = (out - shortcut.relu()).abs().amax((1, 2, 3)) < 1e-5
    assert 0.22 < skipped.float().mean() < 0.28
    torch.testing.assert_close(
        out[~skipped], (shortcut + branch / 0.75).relu().expand(int((~skipped).sum()), -1, -1, -1)
    )
    torch.testing.assert_close(block.eval()(x[:1]), (shortcut + branch).relu())


def test_the_depth_of_a_block_says_how_often_it_is_skipped():
    encoder = ConvEncoder([8, 8, 8, 8], stem=8, block=ResidualBlock, drop_path_rate=0.2)
    rates = [block.drop_path.p for block in (encoder.stem, *(stage[0] for stage in encoder.stages))]
    assert rates == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    with pytest.raises(ValueError, match="probability below 1, got 1"):
        ConvEncoder([8], block=ResidualBlock, drop_path_rate=1)


@pytest.mark.parametrize(("channels", "groups"), [(256, 32), (64, 32), (32, 16), (8, 4), (10, 1), (9, 1), (1, 1)])
def test_group_norm_keeps_two_channels_in_a_group(channels, groups):
    assert GroupNorm(channels).num_groups == groups
    if channels > 1:
        assert GroupNorm(channels)(torch.randn(1, channels, 1, 1)).isfinite().all()


@pytest.mark.parametrize("groups", [0, 9, 48])
def test_group_norm_refuses_groups_that_are_no_power_of_two(groups):
    with pytest.raises(ValueError, match=f"groups={groups}: give a power of two"):
        GroupNorm(36, groups)


def test_squeeze_excite_weights_channels_by_their_means():
    torch.manual_seed(0)
    module, x = SqueezeExcite(32), torch.randn(2, 32, 5, 4)
    first, second = module.channel[1], module.channel[3]
    hidden = (x.mean((2, 3)) @ first.weight[:, :, 0, 0].T + first.bias).relu()
    weights = (hidden @ second.weight[:, :, 0, 0].T + second.bias).sigmoid()
    assert hidden.shape == (2, 2)
    excited = x * weights[:, :, None, None]
    torch.testing.assert_close(module(x), excited)
    both = SqueezeExcite(32, spatial=True)
    both.channel.load_state_dict(module.channel.state_dict())
    pixel = torch.einsum("oc,bchw->bohw", both.spatial[0].weight[:, :, 0, 0], x) + both.spatial[0].bias
    torch.testing.assert_close(both(x), excited + x * pixel.sigmoid())


def test_squeeze_excite_block_is_a_block_with_one_more_module():
    block = SqueezeExciteBlock(3, 8, depth=2, norm_layer=nn.BatchNorm2d)
    x = torch.randn(2, 3, 6, 6)
    conv, excite = block
    assert [type(m) for m in conv] == [type(m) for m in ConvBlock(3, 8, 2, nn.BatchNorm2d)]
    torch.testing.assert_close(block(x), excite(conv(x)))


def test_blocks_take_other_kernels():
    assert [m.kernel_size for m in ConvBlock(3, 4, 2, kernel_size=1) if isinstance(m, nn.Conv2d)] == [(1, 1)] * 2
    assert ConvBlock(3, 4, kernel_size=5)(torch.rand(1, 3, 6, 7)).shape == (1, 4, 6, 7)


@pytest.mark.parametrize(
    ("downsample", "stride"), [(MaxPoolDownsample, 2), (StridedDownsample, 2), (NoDownsample, 1)], ids=lambda v: str(v)
)
def test_downsampling_divides_the_resolution_by_its_stride(downsample, stride):
    down = downsample(4)
    assert down.stride == stride
    assert down(torch.randn(1, 4, 6, 8)).shape == (1, 4, 6 // stride, 8 // stride)


@pytest.mark.parametrize("upsample", [BilinearUpsample, TransposedUpsample, PixelShuffleUpsample])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_upsampling_multiplies_the_resolution_and_sets_the_width(upsample, scale):
    x = upsample(6, 5, scale)(torch.randn(2, 6, 3, 4))
    assert x.shape == (2, 5, 3 * scale, 4 * scale)
    assert x.min() >= 0


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_transposed_upsampling_as_a_matrix_product_has_the_same_values_and_gradients(scale):
    torch.manual_seed(0)
    up = TransposedUpsample(6, 5, scale).double()
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    found, expected = up._matrix_product(x), up(x)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    gradients, expected_gradients = (
        torch.autograd.grad((out * weights).sum(), [x, *up.parameters()]) for out in (found, expected)
    )
    torch.testing.assert_close(gradients, expected_gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("training", [True, False])
def test_transposed_upsampling_is_a_matrix_product_in_bf16_training_alone(dtype, memory_format, training, monkeypatch):
    taken, product = [], TransposedUpsample._matrix_product
    monkeypatch.setattr(TransposedUpsample, "_matrix_product", lambda *given: taken.append(given) or product(*given))
    x = torch.randn(2, 6, 3, 4).to(dtype, memory_format=memory_format)
    up = TransposedUpsample(6, 5).train(training)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = up(x)
    assert out.dtype == dtype
    assert bool(taken) == (training and dtype == torch.bfloat16 and memory_format == torch.channels_last)
    torch.testing.assert_close(out.float(), nn.Sequential.forward(up, x.float()), rtol=0.02, atol=0.02)


def test_bilinear_upsampling_keeps_a_flat_area_flat():
    up = BilinearUpsample(1, 1)
    nn.init.zeros_(up[0][0].weight)
    nn.init.constant_(up[0][0].bias, 3.0)
    torch.testing.assert_close(up(torch.randn(1, 1, 4, 4)), torch.full((1, 1, 8, 8), 3.0))


def test_skips_merge_as_they_say():
    x, same, other = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3), torch.randn(2, 6, 3, 3)
    assert NoSkip(4, 6)(x, other) is x
    merge = Concatenate(4, 6)
    merged = merge(x, other)
    assert merge.out_channels == 10
    assert torch.equal(merged[:, :4], x) and torch.equal(merged[:, 4:], other)
    assert torch.equal(Add(4, 4)(x, same), x + same)
    add = Add(4, 6)
    expected = x + torch.einsum("oc,bchw->bohw", add.projection.weight[:, :, 0, 0], other)
    torch.testing.assert_close(add(x, other), expected + add.projection.bias[:, None, None])


def test_attention_gate_weights_each_pixel_of_the_skip():
    torch.manual_seed(0)
    gate, x, skip = AttentionGate(4, 6), torch.randn(2, 4, 3, 5), torch.randn(2, 6, 3, 5)
    added = torch.einsum("oc,bchw->bohw", gate.gate.weight[:, :, 0, 0], x) + gate.gate.bias[:, None, None]
    added = added + torch.einsum("oc,bchw->bohw", gate.query.weight[:, :, 0, 0], skip)
    weight = torch.einsum("oc,bchw->bohw", gate.weight[1].weight[:, :, 0, 0], added.relu()) + gate.weight[1].bias
    assert added.shape[1] == 3 and gate.out_channels == 10
    torch.testing.assert_close(gate(x, skip), torch.cat([x, skip * weight.sigmoid()], dim=1))
    assert AttentionGate(4, 1)(x, skip[:, :1]).shape == (2, 5, 3, 5)


def test_width_multiplier_rounds_and_never_drops_a_layer():
    assert scale_widths([10, 32, 1024], 0.25) == [8, 8, 256]
    assert scale_widths([10, 3], 0.01) == [8, 3]
    assert scale_widths([10, 3], 1.5) == [15, 4]


@pytest.mark.parametrize(("widths", "width"), [([8, 0], 1.0), ([8], 0.0), ([8], -1.0)])
def test_widths_that_are_not_positive_are_refused(widths, width):
    with pytest.raises(ValueError, match="must be positive"):
        scale_widths(widths, width)
