"""The networks of conf/model at full width: size, shapes and cost, on the meta device."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch.utils.flop_counter import FlopCounterMode

from seglab.models import Segmenter

CONF = Path(__file__).resolve().parents[2] / "conf"
NUM_CLASSES = 9
WIDE = [3, 30, 90, 270, 810, 2430, 2430]

PARAMETERS = {
    "conv5": 2_286_319,
    "encdec5": 39_860_449,
    "encdec6": 105_557_509,
    "encdec6_bn": 105_563_569,
    "encdec6_double": 278_300_169,
    "unet6_wide": 338_086_539,
    "unet4": 11_319_579,
    "resunet6": 340_307_889,
    "unet6": 27_962_275,
}
CHANNELS = {
    "conv5": [3, 30, 90, 270, 810, 10],
    "encdec5": WIDE[:-1],
    "encdec6": WIDE,
    "encdec6_bn": WIDE,
    "encdec6_double": WIDE,
    "unet6_wide": WIDE,
    "unet4": WIDE[:5],
    "resunet6": WIDE,
    "unet6": [10, 32, 64, 128, 256, 512, 1024],
}


def build(name, *overrides, device="meta"):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(overrides=[f"+model={name}", *overrides]).model
    with torch.device(device):
        encoder = instantiate(config.encoder)
        decoder = instantiate(config.decoder)(channels=encoder.channels, strides=encoder.strides)
        return Segmenter(encoder, decoder, NUM_CLASSES, config.dropout)


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_every_model_config_is_held_here():
    on_timm = {path.stem for path in (CONF / "model").glob("*.yaml") if "unet_timm" in path.read_text()}
    assert {path.stem for path in (CONF / "model").glob("*.yaml")} - {"base"} - on_timm == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_and_features_of_the_ladder(name):
    model = build(name)
    assert count(model) == PARAMETERS[name]
    assert model.encoder.channels == CHANNELS[name]
    image = torch.zeros(2, 3, 256, 256, device="meta")
    steps = range(len(CHANNELS[name]))
    sides = [256 if name == "conv5" else 256 >> step for step in steps]
    features = model.encoder(image)
    assert [tuple(f.shape) for f in features] == [(2, CHANNELS[name][i], sides[i], sides[i]) for i in steps]
    assert model.decoder(features).shape == (2, 10, 256, 256)
    assert model(image).shape == (2, NUM_CLASSES, 256, 256)


def test_parameters_of_unet6_by_hand():
    def conv(in_channels, out_channels):  # 3x3 kernels, the norm's scale and shift
        return 9 * in_channels * out_channels + 2 * out_channels

    total = conv(3, 10) + conv(10, 10)
    down = CHANNELS["unet6"]
    for narrow, wide in zip(down, down[1:], strict=False):
        total += conv(narrow, wide) + conv(wide, wide)
        total += (4 * wide * narrow + narrow) + conv(2 * narrow, narrow)  # the decoder's stage on the same floor
    assert total + 10 * NUM_CLASSES + NUM_CLASSES == PARAMETERS["unet6"]
    assert round(PARAMETERS["unet6"] / 1e6, 1) == 28.0


def test_cost_of_unet6():
    with FlopCounterMode(display=False) as counter:
        build("unet6").eval()(torch.zeros(1, 3, 256, 256, device="meta"))
    assert round(counter.get_total_flops() / 1e9, 1) == 14.4  # two for each multiply-add


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_pocket_network_takes_any_size(name):
    model = build(name, "model.width=0.02", device="cpu").eval()
    for size in [(1, 1), (3, 5), (63, 65), (70, 33)]:
        logits = model(torch.zeros(1, 3, *size, dtype=torch.uint8))
        assert logits.shape == (1, NUM_CLASSES, *size)
        assert logits.isfinite().all()


def test_parts_change_from_the_command_line():
    wide = build("unet6")
    assert build("unet6", "model.width=0.5").encoder.channels == [8, 16, 32, 64, 128, 256, 512]
    assert build("unet6", "model.dropout=0.3").dropout.p == 0.3
    assert not any("BatchNorm" in type(m).__name__ for m in build("unet6", "model.norm_layer=null").modules())
    skips = build("unet6", "model.decoder.skip._target_=seglab.models.Add")
    halved = sum(9 * c * c for c in [10, 32, 64, 128, 256, 512])  # the second half of each merged convolution
    assert count(skips) == count(wide) - halved
    shuffled = build("unet6", "model.decoder.upsample._target_=seglab.models.PixelShuffleUpsample")
    assert shuffled(torch.zeros(1, 3, 64, 64, device="meta")).shape == (1, NUM_CLASSES, 64, 64)
