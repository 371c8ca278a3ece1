"""`seglab export`: a file that needs no seglab, and says what the run says."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from seglab.cli.build import build_model
from seglab.cli.conf_groups import CONF
from seglab.cli.export import describe, export, parser
from seglab.cli.exported import open_exported, trace, write_onnx
from seglab.cli.network import load_model
from seglab.cli.resolvers import register_resolvers
from seglab.cli.run_folder import load_config
from seglab.models.exportable import Exportable

DOC = Path(__file__).resolve().parents[2] / "docs" / "export.md"
DECODERS = sorted(path.stem for path in (CONF / "model" / "decoder").glob("*.yaml") if path.stem != "base")


def with_resize(run, copy, resize):
    shutil.copytree(run, copy)
    config = OmegaConf.load(copy / ".hydra" / "config.yaml")
    config.data.resize = resize
    OmegaConf.save(config, copy / ".hydra" / "config.yaml")
    return copy


def run_export(*words):
    return export(parser().parse_args(list(map(str, words))))


def photos(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def resized_run(trained, tmp_path_factory):
    """A run whose photographs are resized to 24 pixels."""
    return with_resize(trained, tmp_path_factory.mktemp("export") / "run", 24)


@pytest.fixture(scope="module")
def model(resized_run):
    """Its ONNX file, with all outputs."""
    path = resized_run.parent / "model.onnx"
    assert run_export(resized_run, "-o", path, "--logits", "--probabilities") == 0
    return path


def test_the_metadata_is_read_by_onnx_alone(model, resized_run):
    loaded = onnx.load(model)
    onnx.checker.check_model(loaded)
    metadata = {entry.key: entry.value for entry in loaded.metadata_props}
    summary = json.loads((resized_run / "summary.json").read_text())
    names = json.loads(metadata["class_names"])
    assert names[0] == "background" and len(names) == 9 and len(json.loads(metadata["palette"])) == 9
    assert metadata["resize"] == "24" and metadata["ignore_index"] == "9" and metadata["data"] == "shapes"
    assert metadata["config_hash"] == summary["config_hash"] and float(metadata["test_miou"]) == summary["test_miou"]
    shapes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in [*loaded.graph.input, *loaded.graph.output]
    }
    maps = ["batch", 9, "height", "width"]
    assert shapes == {
        "image": ["batch", 3, "height", "width"],
        "mask": ["batch", "height", "width"],
        "logits": maps,
        "probabilities": maps,
    }


def test_a_checkpoint_has_no_other_ones_score(trained):
    cfg = load_config(trained)
    about = {name: describe(trained, cfg, load_model(trained, cfg, name), name) for name in ("best", "last")}
    assert about["best"]["test_miou"] is not None and about["last"]["test_miou"] is None
    assert [each["checkpoint"] for each in about.values()] == ["best", "last"]


def test_what_was_compared_stands_beside_the_file(model):
    report = json.loads(Path(f"{model}.json").read_text())
    assert report["parity"]["pixels_equal"] >= 0.9999 and report["parity"]["photographs"] == "shapes, split test"
    sizes = [(case["batch"], case["height"], case["width"]) for case in report["parity"]["cases"]]
    assert sizes == [(2, 33, 17), (2, 97, 131), (2, 225, 161), *[(1, 32, 32)] * 4]
    assert all(0 <= case["differences"]["probabilities"] < 1e-2 for case in report["parity"]["cases"])
    assert len(report["class_names"]) == 9


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (24, 24), (31, 77)], ids=str)
def test_the_file_predicts_what_seglab_predict_does(call, model, resized_run, tmp_path, size):
    images = photos(3, *size, 3)
    for place, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{place}.png")
    words = [*tmp_path.glob("*.png"), "-o", tmp_path / "out", "--device", "cpu", "--probabilities"]
    assert call("predict", resized_run, *words)[0] == 0
    found = open_exported(model)(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    for place in range(3):
        probabilities = np.load(tmp_path / "out" / "probabilities" / f"{place}.npy")
        assert np.abs(found["probabilities"][place] - probabilities).max() < 2e-2  # predict may take bfloat16
    assert np.array_equal(found["mask"], found["logits"].argmax(1))


@pytest.mark.parametrize("snippet", ["onnxruntime", "torch.export"])
def test_the_documented_snippets_need_no_seglab(trained, model, tmp_path, snippet):
    code = next(code for code in re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL) if snippet in code)
    assert "seglab " not in code and "import seglab" not in code
    if snippet == "onnxruntime":
        shutil.copy(model, tmp_path / "model.onnx")
    else:
        assert run_export(trained, "-o", tmp_path / "model.pt2") == 0
    Image.fromarray(photos(37, 50, 3)).save(tmp_path / "photo.jpg")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "background" in done.stdout, done.stderr
    if snippet == "onnxruntime":
        image = np.asarray(Image.open(tmp_path / "photo.jpg"))
        expected = open_exported(model)(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))["mask"][0]
        assert np.array_equal(np.asarray(Image.open(tmp_path / "mask.png")), expected)


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_graph_of_every_decoder_holds_for_every_size(decoder):
    words = ["model=unet4", "model.width=0.02", f"model/decoder={decoder}", "data=shapes"]
    words += ["model.encoder.widths=[100,200,300]"]
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        network = build_model(compose("train", words), [0.5] * 3, [0.2] * 3).eval()
    program = trace(Exportable(network, None, ["logits"]), (17, 25)).module()
    for shape in [(1, 3, 1, 1), (1, 3, 3, 29), (3, 3, 8, 8), (2, 3, 41, 23)]:
        images = torch.from_numpy(photos(*shape))
        with torch.no_grad():
            torch.testing.assert_close(program(images)["logits"], network(images))


@pytest.mark.parametrize(("encoder", "decoder"), [*(("test_resnet", name) for name in DECODERS), ("test_vit", "unet")])
def test_onnxruntime_agrees_on_backbones_of_timm_at_odd_sizes(encoder, decoder, tmp_path):
    words = ["model=unet_timm", f"model.encoder.name={encoder}", f"model/decoder={decoder}", "model.width=0.1"]
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        network = build_model(compose("train", [*words, "data=shapes"]), [0.5] * 3, [0.2] * 3).eval()
    with torch.no_grad():
        network.head.bias -= network(torch.from_numpy(photos(1, 3, 97, 131))).mean((0, 2, 3))  # no class is everywhere
    program = trace(Exportable(network, None, ["mask"]), (2 * network.stride + 1, 3 * network.stride + 1))
    write_onnx(program, tmp_path / "model.onnx", {}, ["mask"], None)
    predict = open_exported(tmp_path / "model.onnx")
    for shape in [(1, 3, 33, 17), (2, 3, 97, 131), (1, 3, 161, 113)]:
        images = photos(*shape)
        with torch.no_grad():
            expected = network(torch.from_numpy(images)).argmax(1).numpy()
        assert len(np.unique(expected)) > 1 and (predict(images)["mask"] == expected).mean() >= 0.9999


def test_another_result_is_said(call, trained, model, tmp_path, monkeypatch):
    monkeypatch.setattr("seglab.cli.export.write", lambda arguments, *_: shutil.copy(model, arguments.out))
    photo = tmp_path / "photo.png"
    Image.fromarray(photos(40, 60, 3)).save(photo)
    status, said, err = call("export", trained, "-o", tmp_path / "other.onnx", "--check", photo)
    assert status == 1 and "NOT equal to the run" in said and err == ""
    assert json.loads((tmp_path / "other.onnx.json").read_text())["parity"]["pixels_equal"] < 0.9999


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{tmp}", "-o", "{tmp}/model.onnx"], "is not a run folder"),
        (["{run}", "-o", "{tmp}/model.tflite"], "the suffix says the format; give a file that ends in .onnx or .pt2"),
        (["{run}", "-o", "{tmp}/nowhere/model.onnx"], "there is no folder"),
        (["{run}", "-o", "{tmp}/model.onnx", "--checkpoint", "beast"], "checkpoint=beast"),
        (["{run}", "-o", "{tmp}/model.onnx", "--opset", "3"], "argument --opset"),
        (["{run}", "-o", "{tmp}/model.pt2", "--opset", "20"], "--opset 20 is ONNX's: leave it out"),
        (["{run}", "-o", "{tmp}/model.onnx", "--check", "{tmp}"], "holds no photograph"),
        (["{run}"], "-o"),
    ],
)
def test_a_mistake_is_one_line(call, trained, tmp_path, words, message):
    status, out, err = call("export", *(word.format(run=trained, tmp=tmp_path) for word in words))
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_remedy(call, trained, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    status, _, err = call("export", trained, "-o", tmp_path / "model.onnx")
    assert status == 2 and err == "error: .onnx needs onnxscript: pip install -c requirements.lock -e '.[export]'\n"
