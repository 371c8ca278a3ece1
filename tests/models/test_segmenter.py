"""Encoders, decoders and the Segmenter around them, at pocket widths."""

import io
from functools import partial
from itertools import product

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
    ConvDecoder,
    ConvEncoder,
    MaxPoolDownsample,
    NoDecoder,
    NoDownsample,
    NoSkip,
    PixelShuffleUpsample,
    ResidualBlock,
    Segmenter,
    SqueezeExciteBlock,
    StridedDownsample,
    TransposedUpsample,
)

WIDTHS = [6, 8, 10]
bn_block = partial(ConvBlock, depth=2, norm_layer=nn.BatchNorm2d)

ENCODERS = {
    f"{block_name}-{down.__name__}-stem{stem}": partial(ConvEncoder, block=block, downsample=down, stem=stem)
    for (block_name, block), down, stem in product(
        {"plain": ConvBlock, "bn": bn_block, "residual": partial(ResidualBlock, norm_layer=nn.BatchNorm2d)}.items(),
        [MaxPoolDownsample, StridedDownsample, NoDownsample],
        [None, 4],
    )
}
DECODERS = {"none": NoDecoder} | {
    f"{block_name}-{upsample.__name__}-{skip.__name__}": partial(
        ConvDecoder, widths=[8, 6, 5], block=block, upsample=upsample, skip=skip
    )
    for (block_name, block), upsample, skip in product(
        {"bare": None, "bn": bn_block}.items(),
        [BilinearUpsample, TransposedUpsample, PixelShuffleUpsample],
        [NoSkip, Concatenate, Add],
    )
}
DECODERS["attention"] = partial(
    ConvDecoder,
    widths=[8, 6, 5],
    block=partial(SqueezeExciteBlock, norm_layer=nn.BatchNorm2d, spatial=True),
    skip=AttentionGate,
)


def build(encoder=ConvEncoder, decoder=None, num_classes=4, **kwargs):
    torch.manual_seed(0)
    encoder = encoder(WIDTHS, stem=4, block=bn_block) if encoder is ConvEncoder else encoder(WIDTHS)
    decoder = (decoder or DECODERS["bn-TransposedUpsample-Concatenate"])(encoder.channels, encoder.strides)
    return Segmenter(encoder, decoder, num_classes, **kwargs)


def photos(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_pair_maps_and_differentiates(encoder, decoder):
    model = build(ENCODERS[encoder], DECODERS[decoder])
    logits = model(photos(2, 3, 16, 24))
    assert logits.shape == (2, 4, 16, 24)
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert any(p.grad.abs().sum() > 0 for p in model.encoder.parameters())


@pytest.mark.parametrize("encoder", ENCODERS)
def test_features_have_the_channels_and_strides_the_encoder_declares(encoder):
    model = ENCODERS[encoder](WIDTHS)
    features = model(torch.rand(1, 3, 16, 24))
    declared = [(1, c, 16 // s, 24 // s) for c, s in zip(model.channels, model.strides, strict=True)]
    assert [tuple(f.shape) for f in features] == declared


def test_without_a_stem_the_first_feature_is_the_image():
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(ConvEncoder(WIDTHS)(image)[0], image)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (63, 65), (70, 33), (64, 64), (2, 200)], ids=str)
def test_any_size_comes_back_as_it_went_in(size):
    model = build().eval()
    logits = model(photos(1, 3, *size))
    assert logits.shape == (1, 4, *size)
    assert logits.isfinite().all()


def test_logits_smaller_than_the_padded_image_are_enlarged_and_cropped():
    model = build(decoder=NoDecoder).eval()
    image = photos(2, 3, 21, 30)
    small = model.head(model.encoder(model.prepare(image))[-1])
    assert small.shape == (2, 4, 3, 4)
    expected = F.interpolate(small, (24, 32), mode="bilinear")[..., :21, :30]
    torch.testing.assert_close(model(image), expected)


def test_auxiliary_heads_answer_while_training_only():
    model, plain = build(auxiliary_weights={4: 0.4, 2: 0.2}), build()
    plain.load_state_dict(model.state_dict(), strict=False)
    image = photos(2, 3, 21, 30)
    logits, *auxiliary = model(image)
    assert model.auxiliary_weights == [0.4, 0.2]
    torch.testing.assert_close(logits, plain(image))
    features = model.encoder(model.prepare(image))
    for head, feature, aux in zip(model.auxiliary_heads, [features[2], features[1]], auxiliary, strict=True):
        expected = F.interpolate(head(feature), (24, 32), mode="bilinear")[..., :21, :30]
        torch.testing.assert_close(aux, expected)
        assert aux.dtype == torch.float32
    (logits + sum(auxiliary)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())

    calls = []
    for head in model.auxiliary_heads:
        head.register_forward_hook(lambda *_: calls.append(1))
    assert model.eval()(image).shape == (2, 4, 21, 30)
    assert not calls


def test_without_auxiliary_weights_nothing_is_added():
    model = build()
    assert model.auxiliary_weights == []
    assert not any(name.startswith("auxiliary") for name in model.state_dict())
    assert isinstance(model(photos(2, 3, 16, 16)), torch.Tensor)


@pytest.mark.parametrize("weights", [{16: 0.4}, {4: 0.0}, {4: -1.0}, {4: 0.4, 3: 0.4}], ids=str)
def test_auxiliary_heads_that_cannot_work_are_refused(weights):
    with pytest.raises(ValueError, match=r"positive, for strides among \[1, 2, 4, 8\], got \{"):
        build(auxiliary_weights=weights)


def test_padding_mirrors_the_image_at_the_right_and_the_bottom():
    model = build().eval()
    image = photos(1, 3, 21, 30)
    mirrored = F.pad(image.float(), (0, 2, 0, 3), mode="reflect")
    torch.testing.assert_close(model(image), model(mirrored)[..., :21, :30])
    assert model.prepare(photos(1, 3, 2, 30)).shape == (1, 3, 8, 32)


def test_uint8_images_are_normalised_by_the_model():
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    model, plain = build(mean=mean, std=std).eval(), build().eval()
    image = photos(2, 3, 16, 16)
    normalised = (image / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(model(image), plain(normalised * 255))
    torch.testing.assert_close(model(image), model(image.float()))


def test_state_holds_weights_and_normalisation():
    model = build(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)).eval()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = build().eval()
    other.load_state_dict(torch.load(file, weights_only=True))
    image = photos(1, 3, 20, 20)
    assert torch.equal(other(image), model(image))


def test_evaluation_sees_each_image_by_itself():
    model = build(dropout=0.5)
    model(photos(4, 3, 16, 16))  # move the running statistics from their start
    model.eval()
    batch = photos(3, 3, 16, 16, seed=1)
    torch.testing.assert_close(model(batch), torch.cat([model(image[None]) for image in batch]))


def test_channels_last_changes_no_logit():
    model, image = build().eval(), photos(2, 3, 20, 24)
    expected = model(image)
    model = model.to(memory_format=torch.channels_last)
    x = image.to(memory_format=torch.channels_last)
    assert all(f.is_contiguous(memory_format=torch.channels_last) for f in model.encoder(model.prepare(x)))
    torch.testing.assert_close(model(x), expected)


def test_logits_are_float32_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert build()(photos(2, 3, 16, 16)).dtype == torch.float32


def test_dropout_falls_after_the_encoder_and_after_the_decoder():
    model = build(dropout=1.0).train()
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, args: seen.extend(args[0]))
    logits = model(photos(2, 3, 16, 16))
    assert [bool(f.any()) for f in seen] == [True, True, True, False]
    assert torch.equal(logits, model.head.bias.view(1, -1, 1, 1).expand_as(logits))
    model.eval()
    assert torch.equal(model(photos(1, 3, 16, 16)), model(photos(1, 3, 16, 16)))


def test_width_multiplies_stem_encoder_and_decoder():
    encoder = ConvEncoder([32, 64], width=0.25, stem=10)
    decoder = ConvDecoder(encoder.channels, encoder.strides, widths=[32, 10], width=0.25)
    assert encoder.channels == [8, 8, 16]
    assert [stage.out_channels for stage in decoder.stages] == [8, 8]
    assert decoder.out_channels == 8


def test_decoder_follows_strides_that_skip_or_repeat_a_resolution():
    decoder = ConvDecoder([3, 5, 6, 7], [1, 4, 4, 8], widths=[4, 4, 4])
    features = [torch.rand(1, c, 16 // s, 16 // s) for c, s in zip([3, 5, 6, 7], [1, 4, 4, 8], strict=True)]
    assert decoder(features).shape == (1, 4, 16, 16)


def test_a_decoder_that_does_not_fit_its_encoder_is_refused():
    with pytest.raises(ValueError, match="4 features needs 3 decoder widths, got \\[8, 8\\]"):
        ConvDecoder([3, 6, 8, 10], [1, 2, 4, 8], widths=[8, 8])
    with pytest.raises(ValueError, match="multiple of the one before"):
        ConvDecoder([3, 6, 8], [1, 2, 3], widths=[8, 8])


def test_a_segmenter_that_cannot_work_is_refused():
    encoder = ConvEncoder(WIDTHS)
    decoder = NoDecoder(encoder.channels, encoder.strides)
    with pytest.raises(ValueError, match="standard deviations must be positive"):
        Segmenter(encoder, decoder, 4, std=(0.2, 0.0, 0.2))
    with pytest.raises(ValueError, match="dropout probability"):
        Segmenter(encoder, decoder, 4, dropout=1.5)
    encoder.strides = [2, 4, 8, 16]
    with pytest.raises(ValueError, match="first feature must have stride 1"):
        Segmenter(encoder, decoder, 4)
