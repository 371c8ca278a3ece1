"""What the decoders compute, against plain arithmetic and their papers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seglab.models import (
    BilinearUpsample,
    ConvDecoder,
    DeepLabV3PlusDecoder,
    FPNDecoder,
    SegFormerDecoder,
    UNetPlusPlusDecoder,
    UPerNetDecoder,
)


def test_unetplusplus_of_two_levels_is_a_unet():
    torch.manual_seed(0)
    channels, strides = [3, 8, 10], [1, 2, 4]
    nested = UNetPlusPlusDecoder(channels, strides, widths=[6, 5])
    plain = ConvDecoder(channels, strides, widths=[6, 5], upsample=BilinearUpsample)
    plain.stages[0].load_state_dict(nested.columns[0][0].state_dict())
    plain.stages[1].load_state_dict(nested.last.state_dict())
    features = [torch.rand(1, c, 16 // s, 16 // s) for c, s in zip(channels, strides, strict=True)]
    assert torch.equal(nested(features), plain(features))


def test_unetplusplus_merges_all_nodes_of_a_level():
    nested = UNetPlusPlusDecoder([3, 15, 17, 19, 2], [1, 2, 4, 8, 16], widths=[14, 13, 12, 11])
    merged = [[node.skip.out_channels for node in column] for column in nested.columns]
    assert merged == [[12 + 15, 13 + 17, 14 + 19], [12 + 15 + 12, 13 + 17 + 13], [12 + 15 + 12 + 12]]
    assert nested.last.skip.out_channels == 11 + 3
    assert nested.out_channels == 11


def test_segformer_is_the_papers_function():
    torch.manual_seed(0)
    head = SegFormerDecoder([3, 5, 6, 7], [1, 4, 8, 16], mlp_width=8, norm_layer=None)
    features = [torch.randn(2, c, 32 // s, 48 // s) for c, s in zip([3, 5, 6, 7], [1, 4, 8, 16], strict=True)]
    projected = [
        F.interpolate(project[0](feature), (8, 12), mode="bilinear")
        for project, feature in zip(head.projections, features[1:], strict=True)
    ]
    fuse = torch.cat([project[1].weight for project in head.projections], dim=1)
    torch.testing.assert_close(head(features), F.conv2d(torch.cat(projected, dim=1), fuse).relu())


@pytest.mark.parametrize(("stride", "rates"), [(8, [12, 24, 36]), (16, [6, 12, 18]), (32, [3, 6, 9]), (64, [2, 3, 4])])
def test_atrous_rates_reach_as_many_pixels_at_any_stride(stride, rates):
    aspp = DeepLabV3PlusDecoder([3, 8, 8], [1, 4, stride], norm_layer=None).aspp
    dilated = [m.dilation[0] for m in aspp.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert dilated == rates


def test_pyramids_hand_the_deepest_feature_down():
    for make in [FPNDecoder, UPerNetDecoder, DeepLabV3PlusDecoder, SegFormerDecoder]:
        torch.manual_seed(0)
        head = make([3, 6, 8, 10], [1, 4, 8, 16], width=0.1).eval()
        features = [torch.rand(1, c, 64 // s, 64 // s) for c, s in zip([3, 6, 8, 10], [1, 4, 8, 16], strict=True)]
        expected = head(features)
        assert torch.equal(head([torch.zeros_like(features[0]), *features[1:]]), expected)
        assert not torch.allclose(head([*features[:3], 5 * features[3]]), expected)
