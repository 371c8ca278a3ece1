"""Every decoder of conf/model/decoder on encoders of many kinds, at pocket widths."""

from functools import cache, partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import nn

import seglab.models
from seglab.models import (
    BilinearUpsample,
    ConvBlock,
    ConvEncoder,
    Segmenter,
)

CONF = Path(__file__).resolve().parents[2] / "conf"
RESNET50 = [3, 64, 256, 512, 1024, 2048], [1, 2, 4, 8, 16, 32]
PARAMETERS = {
    "unet": 9_800_016,
    "unetplusplus": 13_212_048,
    "fpn": 2_607_872,
    "deeplabv3plus": 3_169_040,
    "segformer": 1_246_720,
    "upernet": 13_768_448,
}
PYRAMIDS = set(PARAMETERS) - {"unet", "unetplusplus"}


class Patches(nn.Module):
    """An encoder of any channels and strides: the image, and a chain of convolutions of it."""

    def __init__(self, channels, strides):
        super().__init__()
        self.channels, self.strides = channels, strides
        scales = [deep // shallow for shallow, deep in zip(strides, strides[1:], strict=False)]
        self.convs = nn.ModuleList(map(nn.Conv2d, channels, channels[1:], scales, scales))

    def forward(self, image):
        features = [image]
        for conv in self.convs:
            features.append(conv(features[-1]))
        return features


bn_block = partial(ConvBlock, norm_layer=nn.BatchNorm2d)
ENCODERS = {
    "conv": lambda: ConvEncoder([6, 8, 10, 12], block=bn_block),
    "conv with a stem": lambda: ConvEncoder([6, 8, 10, 12, 14, 16], stem=4),
    "mobilenetv2": lambda: Patches([3, 16, 24, 32, 96, 320], [1, 2, 4, 8, 16, 32]),
    "convnext": lambda: Patches([3, 96, 192, 384, 768], [1, 4, 8, 16, 32]),
    "vit": lambda: Patches([3, 48, 96, 192, 192], [1, 4, 8, 16, 32]),
}
TIMM = ["test_resnet", "mobilenetv2_050", "convnext_atto", "vit_tiny_patch16_224"]


@cache
def config(name, *overrides, model="unet6"):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(overrides=[f"+model={model}", f"+model/decoder={name}", *overrides]).model


def decoder(name, channels, strides, *overrides):
    return instantiate(config(name, *overrides).decoder, _convert_="all")(channels=channels, strides=strides)


def build(encoder, name, **kwargs):
    torch.manual_seed(0)
    encoder = encoder()
    return Segmenter(encoder, decoder(name, encoder.channels, encoder.strides, "model.width=0.1"), 4, **kwargs)


def photos(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_every_decoder_config_is_held_here():
    assert {path.stem for path in (CONF / "model" / "decoder").glob("*.yaml")} - {"base"} == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_pair_maps_and_differentiates(encoder, name):
    model = build(ENCODERS[encoder], name)
    logits = model(photos(2, 3, 33, 47))
    assert logits.shape == (2, 4, 33, 47)
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert any(p.grad.abs().sum() > 0 for p in model.encoder.parameters())


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_evaluation_takes_any_size_and_sees_each_image_by_itself(encoder, name):
    model = build(ENCODERS[encoder], name)
    model(photos(2, 3, 64, 64))  # move the running statistics from their start
    model.eval()
    for size in [(1, 1), (33, 47)]:
        batch = photos(3, 3, *size, seed=1)
        logits = model(batch)
        assert logits.shape == (3, 4, *size)
        torch.testing.assert_close(logits, torch.cat([model(image[None]) for image in batch]))


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_resolution_and_width_are_those_declared(encoder, name):
    model = build(ENCODERS[encoder], name)
    features = model.encoder(torch.rand(2, 3, 64, 128))
    side = 4 if name in PYRAMIDS else 1
    assert model.decoder(features).shape == (2, model.decoder.out_channels, 64 // side, 128 // side)


@pytest.mark.parametrize("name", PARAMETERS)
def test_batches_of_one_train_and_deepest_features_of_one_pixel_do_in_a_batch_of_two(name):
    model = build(ENCODERS["mobilenetv2"], name)
    model(photos(1, 3, 64, 64)).sum().backward()
    model(photos(2, 3, 32, 32)).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    if name in {"unet", "unetplusplus", "deeplabv3plus", "upernet"}:  # a BatchNorm at the deepest feature
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            model(photos(1, 3, 32, 32))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_with_the_channels_of_resnet50(name):
    with torch.device("meta"):
        assert count(decoder(name, *RESNET50)) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_decoder_replaces_that_of_any_network(name):
    chosen = config(name)
    assert chosen.decoder._target_.startswith("seglab.models.")
    for model in ["conv5", "encdec6", "resunet6"]:
        assert config(name, model=model).decoder == chosen.decoder
        assert config(name, model=model).name == model


@pytest.mark.parametrize("backbone", TIMM)
def test_decoders_fit_the_encoders_of_timm(backbone):
    pytest.importorskip("timm")
    encoder = seglab.models.TimmEncoder(backbone)
    for name in PARAMETERS:
        model = build(lambda: encoder, name)
        model(photos(2, 3, 33, 47)).sum().backward()
        assert all(p.grad.isfinite().all() for p in model.decoder.parameters())
        assert model.eval()(photos(1, 3, 33, 47)).shape == (1, 4, 33, 47)
        model.train()


@pytest.mark.parametrize("name", PARAMETERS)
def test_channels_last_changes_no_logit(name):
    model, image = build(ENCODERS["mobilenetv2"], name).eval(), photos(2, 3, 40, 70)
    expected = model(image)
    torch.testing.assert_close(
        model.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last)), expected
    )


@pytest.mark.parametrize("name", sorted(PYRAMIDS))
@pytest.mark.parametrize(
    ("strides", "start"), [([1, 8, 16], 1), ([1, 3, 9, 27], 2), ([1, 4, 4, 8], 1), ([1, 2, 4, 8, 8], 2)], ids=str
)
def test_pyramids_take_other_strides(name, strides, start):
    channels = [3, 6, 8, 10, 12][: len(strides)]
    model = build(lambda: Patches(channels, strides), name)
    side = 2 * strides[-1]
    features = model.encoder(torch.rand(2, 3, side, side))
    assert model.decoder(features).shape[-2:] == features[start].shape[-2:]
    assert model(photos(2, 3, 33, 47)).shape == (2, 4, 33, 47)


@pytest.mark.parametrize("strides", [[1, 1, 1], [1, 2, 4], [1]])
@pytest.mark.parametrize("name", sorted(PYRAMIDS))
def test_pyramids_refuse_an_encoder_without_two_deep_features(name, strides):
    with pytest.raises(ValueError, match="two features of stride 4 or more, the encoder's strides are \\[1"):
        decoder(name, [3, 6, 8][: len(strides)], strides)


@pytest.mark.parametrize("name", ["unet", "unetplusplus"])
def test_a_shallow_encoder_has_no_use_for_the_first_widths(name):
    shallow = decoder(name, [3, 40, 80], [1, 4, 8])
    assert {m.out_channels for m in shallow.modules() if isinstance(m, seglab.models.DecoderStage)} == {32, 16}
    with pytest.raises(ValueError, match="8 features needs 7 decoder widths, got \\[512, 256, 128, 64, 32, 16\\]"):
        decoder(name, [3] * 8, [2**i for i in range(8)])
    with pytest.raises(ValueError, match="multiple of the one before"):
        decoder(name, [3, 6, 8], [1, 2, 3])


def test_a_node_of_unetplusplus_is_no_wider_than_its_level_s_feature():
    narrow = decoder("unetplusplus", [3, 16, 24, 96], [1, 2, 4, 8])
    widths = [[node.out_channels for node in column] for column in narrow.columns]
    assert widths == [[16, 24], [16]] and narrow.out_channels == 16


def test_unet_takes_skips_blocks_and_upsamplings_from_the_command_line():
    plain = decoder("unet", *RESNET50)
    gated = decoder("unet", *RESNET50, "model.decoder.skip._target_=seglab.models.AttentionGate")
    assert count(gated) > count(plain)
    block = "model.decoder.block._target_=seglab.models.SqueezeExciteBlock"
    for name in ["unet", "unetplusplus"]:
        excited = decoder(name, *RESNET50, block)
        both = decoder(name, *RESNET50, block, "+model.decoder.block.spatial=true")
        assert count(both) > count(excited) > count(decoder(name, *RESNET50))
    shuffled = decoder(
        "unet",
        *RESNET50,
        "model.decoder.upsample._target_=seglab.models.PixelShuffleUpsample",
        "~model.decoder.upsample.norm_layer",
    )
    assert not any(isinstance(m, BilinearUpsample) for m in shuffled.modules())
    bare = decoder("unet", *RESNET50, "model.decoder.block.norm_layer=null")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in bare.modules())
