"""The weights that a backbone takes from a file and from timm's hub, against timm's own loading."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from seglab.errors import InputError
from seglab.models import ConvDecoder, Segmenter, TimmEncoder

ROOT = Path(__file__).resolve().parents[2]
MOBILENET = ROOT.parent / "shared" / "weights" / "mobilenetv2_100_imagenet.pth"


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
        f"{len(missing)} missing: {', '.join(missing)}",
        f"12 unknown: {', '.join(f'more.{i}' for i in range(12))}",
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
    first = TimmEncoder("test_vit")
    decoder = ConvDecoder(first.channels, first.strides, [8] * 4)
    mean, std = [0.25, 0.5, 0.75], [0.125, 0.25, 0.5]
    state = {f"model.{k}": v for k, v in Segmenter(first, decoder, 4, mean=mean, std=std).state_dict().items()}
    torch.save({"state_dict": state | {"train_loss.total": torch.zeros(())}}, tmp_path / "best.ckpt")
    second = TimmEncoder("test_vit", str(tmp_path / "best.ckpt"))
    assert (second.mean, second.std) == (mean, std)
    for name, value in second.backbone.state_dict().items():
        assert torch.equal(value, first.backbone.state_dict()[name]), name


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
