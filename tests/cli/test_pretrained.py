"""The recipe experiment=pretrained, and other runs on a pretrained backbone, which no longer need the weights' file."""

import json
import shutil

import pytest
import timm
import torch

SCENES = ["data=shapes", "data.source.train=8", "data.source.val=4", "data.source.test=4", "data.crop_size=32"]
SHORT = [*SCENES, "data.batch_size=4", "trainer.max_epochs=2", "trainer.accelerator=cpu", "logger=csv"]


def state(run, checkpoint="best"):
    return torch.load(run / "checkpoints" / f"{checkpoint}.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def run(command, tmp_path_factory):
    """A run of the recipe without a part, its backbone frozen all the time, and the weights' file, which is gone."""
    folder = tmp_path_factory.mktemp("pretrained")
    weights = timm.create_model("mobilenetv2_100").state_dict()
    torch.save(weights, folder / "weights.pth")
    words = [f"model.encoder.weights={folder / 'weights.pth'}", "model.encoder.std=[0.5,0.5,0.5]", "model.width=0.25"]
    words += ["model/encoder=mobilenetv2", "model.fine_tuning.frozen_epochs=5", "data.resize=null", "without=mix"]
    done = command("train.py", "experiment=pretrained", *words, *SHORT, f"hydra.run.dir={folder / 'run'}")
    assert done.returncode == 0, done.stderr
    assert "UserWarning" not in done.stderr and "HINT" not in done.stderr, done.stderr
    (folder / "weights.pth").unlink()
    return folder / "run", weights


def test_the_run_has_the_weights_and_what_they_expect(run):
    folder, weights = run
    trained = state(folder)
    prefix = "model.encoder.backbone."
    backbone = {name.removeprefix(prefix): value for name, value in trained.items() if name.startswith(prefix)}
    assert len(backbone) > 200 and all(torch.equal(value, weights[name]) for name, value in backbone.items())
    assert trained["model.mean"].flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])  # timm's
    assert trained["model.std"].flatten().tolist() == [0.5] * 3  # the command's
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished"
    choices = [summary["choices"][group] for group in ("experiment", "without", "mix", "averaging")]
    assert choices == ["pretrained", "mix", "none", "ema"]


def test_it_is_evaluated_without_the_file(run, call):
    folder, _ = run
    path = folder / "evaluation" / "test" / "metrics.json"
    first = json.loads(path.read_text())
    path.unlink()
    status, _, err = call("evaluate", f"run={folder}", "overlays=false")
    assert status == 0, err
    assert json.loads(path.read_text()) == first


def test_it_goes_on_without_the_file(run, call, tmp_path):
    folder, weights = run
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    status, _, err = call("train", f"resume={copy}", "trainer.max_epochs=3")
    assert status == 0, err
    trained = state(copy, "last")
    assert torch.equal(trained["model.encoder.backbone.conv_stem.weight"], weights["conv_stem.weight"])
    assert trained["model.mean"].flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert json.loads((copy / "summary.json").read_text())["epochs"] == 3


def test_its_checkpoint_is_the_start_of_another_run(run, call, tmp_path):
    folder, weights = run
    best = folder / "checkpoints" / "best.ckpt"
    words = ["model=unet_mobilenetv2", f"model.encoder.weights={best}", "model.fine_tuning.frozen_epochs=5"]
    status, _, err = call("train", *words, *SHORT, "trainer.max_epochs=1", f"hydra.run.dir={tmp_path / 'run'}")
    assert status == 0, err
    trained = state(tmp_path / "run")
    assert torch.equal(trained["model.encoder.backbone.conv_stem.weight"], weights["conv_stem.weight"])
    assert trained["model.std"].flatten().tolist() == [0.5] * 3


def test_without_weights_mean_and_std_are_those_of_the_training_data(call, tmp_path):
    words = ["model=unet_timm", "model.encoder.name=test_resnet", "model.width=0.25", "trainer.max_epochs=1"]
    status, _, err = call("train", *SHORT, *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert status == 0, err
    trained = state(tmp_path / "run")
    assert 0.01 < trained["model.std"].max() < 0.49 and trained["model.mean"].min() > 0.01
    assert len(set(trained["model.mean"].flatten().tolist())) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.encoder.name=resnet19"], "model.encoder.name=resnet19 is no model of timm: did you mean resnet18"),
        (["model=unet_timm"], "model.encoder.name is not given: add model.encoder.name=VALUE"),
        (["model.encoder.weights=no.pth"], "model.encoder.weights=no.pth does not exist: give null, hub or the path"),
        (["model.encoder.frozen_stages=2"], "model.encoder.frozen_stages=2 would freeze random weights: give model."),
        (["model.encoder.freeze_norm=true"], "model.encoder.freeze_norm=True would freeze random weights"),
        (["model.fine_tuning.frozen_epochs=5"], "model.fine_tuning.frozen_epochs=5 would freeze random weights"),
    ],
)
def test_a_mistake_is_refused_before_there_is_a_run(call, tmp_path, words, said):
    status, _, err = call("train", "model=unet_mobilenetv2", *SHORT, *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert status == 2 and err.startswith("error: ") and len(err.strip().splitlines()) == 1
    assert said in err
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.fine_tuning.layer_decay=2"], "model.fine_tuning: layer_decay=2: give a factor"),
        (["model.encoder.name=test_coatnet"], "model.encoder.name=test_coatnet takes no images of any size"),
        (["+model.encoder.depths=3"], "model.encoder: EfficientNet takes no key depths; leave it out"),
    ],
)
def test_a_mistake_that_only_building_shows_is_told_in_a_line(call, tmp_path, words, said):
    status, _, err = call("train", "model=unet_mobilenetv2", *SHORT, *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert status == 2 and said in err and "Traceback" not in err
    assert not (tmp_path / "run" / "checkpoints").exists()
