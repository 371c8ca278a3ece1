"""The networks of conf/model on a backbone of timm: size, shapes and combinations, on the meta device."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from seglab.models import FPNDecoder, Segmenter, TimmEncoder

CONF = Path(__file__).resolve().parents[2] / "conf"
BACKBONES = {path.stem for path in (CONF / "model" / "encoder").glob("*.yaml")} - {"base", "timm"}

PARAMETERS = {
    "unet_mobilenetv2": 4_792_041,
    "unet_efficientnet_lite2": 7_485_737,
    "unet_resnet34": 25_223_465,
    "unet_resnet50": 33_308_201,
    "unet_convnext_tiny": 29_774_409,
    "unet_dinov2": 24_169_929,
}


def compose_model(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=list(overrides)).model


def build(*overrides):
    config = compose_model(*overrides)
    with torch.device("meta"):
        encoder = instantiate(config.encoder)
        decoder = instantiate(config.decoder)(channels=encoder.channels, strides=encoder.strides)
        return Segmenter(encoder, decoder, 9, config.dropout)


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_every_backbone_has_a_network():
    assert {f"unet_{name}" for name in BACKBONES} == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_and_shapes(name):
    model = build(f"model={name}")
    assert count(model) == PARAMETERS[name]
    assert model(torch.zeros(2, 3, 250, 256, device="meta")).shape == (2, 9, 250, 256)
    header = (CONF / "model" / f"{name}.yaml").read_text()
    assert f" {count(model) / 1e6:.1f} million parameters, {count(model.encoder.backbone) / 1e6:.1f} of" in header


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "efficientvit_m0", "vgg11", "vit_tiny_patch16_224"])
def test_any_backbone_by_its_name(name):
    model = build("model=unet_timm", f"model.encoder.name={name}")
    assert model(torch.zeros(2, 3, 64, 64, device="meta")).shape == (2, 9, 64, 64)


def test_width_multiplies_the_decoders_alone():
    whole, narrow = build("model=unet_mobilenetv2"), build("model=unet_mobilenetv2", "model.width=0.5")
    assert narrow.encoder.channels == whole.encoder.channels
    assert [s.out_channels for s in narrow.decoder.stages] == [s.out_channels // 2 for s in whole.decoder.stages]


def test_a_backbone_takes_another_decoder_and_another_network_a_backbone():
    assert isinstance(build("model=unet_mobilenetv2", "model/decoder=fpn").decoder, FPNDecoder)
    other = build("model=unet6", "+model/encoder=mobilenetv2")
    assert isinstance(other.encoder, TimmEncoder)
    assert [stage.out_channels for stage in other.decoder.stages] == [256, 128, 64, 32, 10]


def test_other_networks_have_no_key_of_fine_tuning():
    assert "fine_tuning" not in compose_model("model=unet6")
