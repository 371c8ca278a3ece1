"""Backbones of timm: the features they give, and the weights they take, against timm's own."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from seglab.errors import InputError
from seglab.models import BilinearUpsample, ConvDecoder, Segmenter, TimmEncoder

ROOT = Path(__file__).resolve().parents[2]
MOBILENET = ROOT.parent / "shared" / "weights" / "mobilenetv2_100_imagenet.pth"

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


@pytest.fixture
def unused_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def image(height, width, count=1):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def saved(path, name="test_resnet", change=None, **options):
    """Writes the state dict of a model of timm, changed in place, and returns it."""
    torch.manual_seed(1)
    state = timm.create_model(name, **options).state_dict()
    if change:
        change(state)
    torch.save(state, path)
    return state


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


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "regnetx_002"])
def test_features_with_weights_are_those_of_timms_features_only(name, tmp_path):
    state = saved(tmp_path / "weights.pth", name)
    strides = TimmEncoder(name).strides[1:]
    reference = timm.create_model(
        name, features_only=True, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)}
    ).eval()
    _, *features = TimmEncoder(name, str(tmp_path / "weights.pth")).eval()(image(64, 96))
    expected = reference(image(64, 96))
    assert len(features) == len(expected) == len(strides)
    for feature, other in zip(features, expected, strict=True):
        torch.testing.assert_close(feature, other)


def test_a_plain_transformer_gives_four_blocks_through_the_pyramid():
    encoder = TimmEncoder("vit_tiny_patch16_224").eval()
    x = image(64, 96)
    blocks = encoder.backbone.forward_intermediates(x, indices=[2, 5, 8, 11], intermediates_only=True)
    first, *features = encoder(x)
    torch.testing.assert_close(features, encoder.pyramid(blocks))
    assert torch.equal(features[2], blocks[2])
    assert torch.equal(features[3], nn.functional.max_pool2d(blocks[3], 2))


def test_patches_and_positions_of_another_size_are_resampled_as_timm_does(tmp_path):
    state = saved(tmp_path / "weights.pth", "test_vit")
    encoder = TimmEncoder("test_vit", str(tmp_path / "weights.pth"), patch_size=8)
    options = {"patch_size": 8, "dynamic_img_size": True}
    expected = timm.create_model(
        "test_vit", pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)}, **options
    )
    assert encoder.strides == [1, 2, 4, 8, 16]
    assert encoder.backbone.patch_embed.proj.weight.shape[-2:] == (8, 8)
    assert encoder.backbone.pos_embed.shape != state["pos_embed"].shape
    for name, value in encoder.backbone.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name]), name


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


def test_weights_that_were_measured_load_into_every_layer():
    if not MOBILENET.is_file():
        pytest.skip(f"{MOBILENET} is missing: this test needs real weights")
    encoder = TimmEncoder("mobilenetv2_100.ra_in1k", str(MOBILENET), mean=[0.5] * 3, std=[0.5] * 3)
    file = torch.load(MOBILENET, weights_only=True)
    assert encoder.mean == encoder.std == [0.5] * 3
    for name, value in encoder.backbone.state_dict().items():
        assert torch.equal(value, file[name]), name


def test_a_state_dict_loads_from_safetensors_from_a_checkpoint_and_without_its_classifier(tmp_path):
    state = saved(tmp_path / "plain.pth")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "checkpoint.ckpt")
    save_file(state, tmp_path / "weights.safetensors")
    bare = {k: v for k, v in state.items() if not k.startswith("fc.") and not k.endswith("num_batches_tracked")}
    torch.save(bare, tmp_path / "bare.pth")
    for path in tmp_path.iterdir():
        loaded = TimmEncoder("test_resnet", str(path)).backbone.state_dict()
        assert all(torch.equal(loaded[name], state[name]) for name in loaded)


def test_weights_that_do_not_fit_are_listed(tmp_path):
    def spoil(state):
        for name in [name for name in state if name.startswith("layer1.")]:
            del state[name]
        state |= {f"more.{i}": torch.zeros(1) for i in range(12)}
        state["conv1.0.weight"] = torch.zeros(1, 2, 3, 3)

    whole = timm.create_model("test_resnet").state_dict()
    missing = [n for n in whole if n.startswith("layer1.") and not n.endswith("num_batches_tracked")]
    path = tmp_path / "weights.pth"
    saved(path, change=spoil)
    with pytest.raises(InputError) as refused:
        TimmEncoder("test_resnet", str(path))
    shape = tuple(whole["conv1.0.weight"].shape)
    assert str(refused.value).splitlines() == [
        f"model.encoder.weights={path} do not fit model.encoder.name:",
        f"{len(missing)} missing: {', '.join(missing[:10])}{' ...' if len(missing) > 10 else ''}",
        f"12 unknown: {', '.join(f'more.{i}' for i in range(10))} ...",
        f"1 of another shape: conv1.0.weight (1, 2, 3, 3) for {shape}",
    ]
    for content in ({}, {"epoch": 3, "optimizer": {}}):
        torch.save(content, path)
        with pytest.raises(InputError, match=r"\n\d+ missing: conv1.0.weight, "):
            TimmEncoder("test_resnet", str(path))


class NotTensors:
    """What no file of weights may hold: code."""


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("content", ["truncated", "text", "no tensors", "code"])
def test_a_file_that_is_no_state_dict_is_refused_in_a_line(tmp_path, suffix, content):
    path = tmp_path / f"weights.{suffix}"
    if content == "truncated":
        state = saved(path)
        if suffix == "safetensors":
            save_file(state, path)
        path.write_bytes(path.read_bytes()[:1000])
    elif content == "text":
        path.write_text("weights")
    else:
        torch.save([1, 2] if content == "no tensors" else {"conv1.weight": NotTensors()}, path)
    with pytest.raises(InputError, match=f"model.encoder.weights={path} cannot be read as weights") as refused:
        TimmEncoder("test_resnet", str(path))
    assert "\n" not in str(refused.value)


def test_mean_and_std_are_those_the_weights_expect(tmp_path):
    path = str(tmp_path / "weights.pth")
    saved(path, "regnetx_002")
    assert TimmEncoder("regnetx_002").mean is None
    expected = timm.get_pretrained_cfg("regnetx_002")
    encoder = TimmEncoder("regnetx_002", path)
    assert (encoder.mean, encoder.std) == (expected.mean, expected.std)
    given = TimmEncoder("regnetx_002", path, mean=[0.1, 0.2, 0.3])
    assert (given.mean, given.std) == ([0.1, 0.2, 0.3], expected.std)


def test_a_checkpoint_of_seglab_gives_backbone_mean_and_std(tmp_path):
    torch.manual_seed(2)
    first = TimmEncoder("test_vit", freeze_norm=True)
    decoder = ConvDecoder(first.channels, first.strides, [8] * 4)
    mean, std = [0.25, 0.5, 0.75], [0.125, 0.25, 0.5]
    state = {f"model.{k}": v for k, v in Segmenter(first, decoder, 4, mean=mean, std=std).state_dict().items()}
    torch.save({"state_dict": state | {"train_loss.total": torch.zeros(())}}, tmp_path / "best.ckpt")
    second = TimmEncoder("test_vit", str(tmp_path / "best.ckpt"))
    assert (second.mean, second.std) == (mean, std)
    for name, value in second.backbone.state_dict().items():
        assert torch.equal(value, first.backbone.state_dict()[name]), name


def test_a_frozen_batch_norm_is_the_same_in_training():
    torch.manual_seed(0)
    encoder = TimmEncoder("mobilenetv2_100", freeze_norm=True)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    features = encoder.train()(image(64, 64, 2))
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    torch.testing.assert_close(features, encoder.eval()(image(64, 64, 2)))
    assert not any(p.ndim == 1 for p in encoder.parameters())
    assert any(p.ndim == 1 for p in TimmEncoder("mobilenetv2_100").parameters())


HUB = """
import http.server, sys, threading, timm, torch
from safetensors.torch import save
from seglab.errors import InputError
from seglab.models import TimmEncoder

state = timm.create_model("test_resnet").state_dict()

class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = self.path == "/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"
        data = save(state) if found else b""
        self.send_response(200 if found else 404)
        for name, value in {"etag": "x", "x-repo-commit": "0" * 40, "content-length": len(data)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, *arguments):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
encoder = TimmEncoder("test_resnet.r160_in1k", "hub")
print(all(torch.equal(v, state[k]) for k, v in encoder.backbone.state_dict().items()), *encoder.mean)
try:
    TimmEncoder("test_vit.r160_in1k", "hub")
except InputError as error:
    print(error)
"""


def test_weights_come_from_timms_hub_or_a_line_says_what_to_do(tmp_path, unused_port):
    variables = {"HF_ENDPOINT": f"http://127.0.0.1:{unused_port}", "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", HUB, str(unused_port)],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    first, second = done.stdout.splitlines()
    assert first == "True 0.5 0.5 0.5", done.stderr
    assert second.startswith("the weights of test_vit.r160_in1k cannot be fetched from timm's hub (")
    assert second.endswith("give a file of them with model.encoder.weights=PATH")


def test_timm_is_imported_by_its_users_only():
    code = "import sys, seglab.models; print('timm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr
