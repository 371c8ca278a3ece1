"""Backbones of timm: the features they give."""

import pytest
import torch
from torch import nn

from seglab.errors import InputError
from seglab.models import (
    BilinearUpsample,
    ConvDecoder,
    DeepLabV3PlusDecoder,
    SegFormerDecoder,
    Segmenter,
    TimmEncoder,
    idle_parameters,
)

# channels behind the image's, and strides
BACKBONES = {
    "resnet18": ([64, 64, 128, 256, 512], [2, 4, 8, 16, 32]),
    "mobilenetv2_100": ([16, 24, 32, 96, 320], [2, 4, 8, 16, 32]),
    "mobilenetv3_small_050": ([16, 8, 16, 24, 288], [2, 4, 8, 16, 32]),
    "efficientnet_b0": ([16, 24, 40, 112, 320], [2, 4, 8, 16, 32]),
    "regnetx_002": ([32, 24, 56, 152, 368], [2, 4, 8, 16, 32]),
    "convnext_atto": ([40, 80, 160, 320], [4, 8, 16, 32]),
    "pvt_v2_b0": ([32, 64, 160, 256], [4, 8, 16, 32]),
    "swin_tiny_patch4_window7_224": ([96, 192, 384, 768], [4, 8, 16, 32]),
    "efficientvit_m0": ([64, 128, 192], [16, 32, 64]),
    "repvgg_a0": ([48, 48, 96, 192, 1280], [2, 4, 8, 16, 32]),
    "vit_tiny_patch16_224": ([48, 96, 192, 192], [4, 8, 16, 32]),
    "test_vit": ([16, 32, 64, 64], [4, 8, 16, 32]),
}


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request):
    torch.manual_seed(0)
    return request.param, TimmEncoder(request.param)


def image(height, width, count=1):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_features_are_the_image_and_what_the_encoder_declares(backbone):
    name, encoder = backbone
    channels, strides = BACKBONES[name]
    assert encoder.channels == [3, *channels] and encoder.strides == [1, *strides]
    encoder.eval()
    for height, width in [(1, 1), (3, 2)]:
        x = image(height * strides[-1], width * strides[-1])
        first, *features = encoder(x)
        assert first is x
        assert [tuple(f.shape) for f in features] == [
            (1, c, x.shape[2] // s, x.shape[3] // s) for c, s in zip(channels, strides, strict=True)
        ]


def test_every_parameter_trains_and_has_a_depth(backbone):
    _, encoder = backbone
    encoder.train()
    sum(feature.square().mean() for feature in encoder(image(64, 128, 2))[1:]).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    depths = encoder.depths()
    assert depths.keys() == dict(encoder.backbone.named_parameters()).keys()
    assert set(depths.values()) == set(range(max(depths.values()) + 1))


def test_a_segmenter_on_it_takes_any_size(backbone):
    _, encoder = backbone
    decoder = ConvDecoder(encoder.channels, encoder.strides, [8] * 5, upsample=BilinearUpsample)
    model = Segmenter(encoder, decoder, 4).eval()
    for size in [(1, 1), (33, 47)]:
        logits = model(torch.zeros(1, 3, *size, dtype=torch.uint8))
        assert logits.shape == (1, 4, *size) and logits.isfinite().all()


def test_a_plain_transformer_gives_four_blocks_through_the_pyramid():
    encoder = TimmEncoder("vit_tiny_patch16_224").eval()
    x = image(64, 96)
    blocks = encoder.backbone.forward_intermediates(x, indices=[2, 5, 8, 11], intermediates_only=True)
    first, *features = encoder(x)
    torch.testing.assert_close(features, encoder.pyramid(blocks))
    assert torch.equal(features[2], blocks[2])
    assert torch.equal(features[3], nn.functional.max_pool2d(blocks[3], 2))


def test_parameters_without_a_gradient_are_found():
    encoder = TimmEncoder("test_vit")
    reading_all = SegFormerDecoder(encoder.channels, encoder.strides)
    assert idle_parameters(Segmenter(encoder, reading_all, 3)) == []
    found = idle_parameters(Segmenter(encoder, DeepLabV3PlusDecoder(encoder.channels, encoder.strides), 3))
    assert found == ["encoder.pyramid.levels.1.weight", "encoder.pyramid.levels.1.bias"]
    assert all(each.grad is None and each.device.type == "cpu" for each in encoder.parameters())


def test_dinov2_takes_patches_of_16_and_refuses_its_own_14():
    assert TimmEncoder("vit_small_patch14_dinov2", patch_size=16).strides == [1, 4, 8, 16, 32]
    with pytest.raises(InputError, match=r"patches of 14 pixels .* \+model.encoder.patch_size=16"):
        TimmEncoder("vit_small_patch14_dinov2")


@pytest.mark.parametrize("name", ["test_coatnet", "inception_v3"])
def test_a_backbone_for_other_sizes_than_any_is_refused(name):
    with pytest.raises(InputError, match=f"model.encoder.name={name} takes no images of any size"):
        TimmEncoder(name)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(InputError, match="model.encoder.name=resnet19 is no model of timm: did you mean resnet18 or"):
        TimmEncoder("resnet19")


def test_a_frozen_batch_norm_is_the_same_in_training():
    torch.manual_seed(0)
    encoder = TimmEncoder("mobilenetv2_100", freeze_norm=True)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    features = encoder.train()(image(64, 64, 2))
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    torch.testing.assert_close(features, encoder.eval()(image(64, 64, 2)))
    assert not any(p.ndim == 1 for p in encoder.parameters())
    assert any(p.ndim == 1 for p in TimmEncoder("mobilenetv2_100").parameters())


def test_norms_that_are_no_batch_norm_cannot_be_frozen():
    with pytest.raises(InputError, match="model.encoder.freeze_norm=true: convnext_atto has no BatchNorm to freeze"):
        TimmEncoder("convnext_atto", freeze_norm=True)


@pytest.mark.parametrize(("name", "count", "last"), [("mobilenetv2_100", 3, "blocks.1."), ("test_vit", 2, "blocks.0.")])
def test_frozen_stages_keep_weights_and_statistics(name, count, last):
    encoder = TimmEncoder(name, frozen_stages=count)
    encoder.train_backbone(False)
    encoder.train_backbone()  # as after `frozen_epochs`
    stage_of = encoder.depths(coarse=True)
    frozen = {key for key, stage in stage_of.items() if stage < count}
    assert any(key.startswith(last) for key in frozen) and 0 < len(frozen) < len(stage_of)
    before = {key: value.clone() for key, value in encoder.backbone.state_dict().items()}
    optimizer = torch.optim.Adam(encoder.parameters())  # however small a gradient, it moves what it trains
    sum(feature.square().mean() for feature in encoder.train()(image(64, 64, 2))[1:]).backward()
    optimizer.step()
    for key, value in encoder.backbone.state_dict().items():
        stays = key in frozen or (key not in stage_of and key.rpartition(".")[0] + ".weight" in frozen)
        assert torch.equal(value, before[key]) == stays, key


def test_frozen_stages_of_another_number_are_refused():
    for count in (0, 99, True, "two"):
        with pytest.raises(InputError, match=f"model.encoder.frozen_stages={count}: give 1, the stem, to 8"):
            TimmEncoder("mobilenetv2_100", frozen_stages=count)
