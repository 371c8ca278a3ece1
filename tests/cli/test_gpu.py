"""What a GPU computes, against the CPU's own figures."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: its figures are set against the CPU's")
DATA = ["data.source.train=24", "data.source.val=6", "data.source.test=6", "data.crop_size=64", "data.batch_size=4"]
SHORT = [*DATA, "trainer.max_epochs=2", "logger=csv"]
NETWORKS = {
    "unet4": ["model=unet4", "model.width=0.1", "augment=albu", "loss=weighted_cross_entropy"],
    "resnet18": [
        *("model=unet_timm", "model.encoder.name=resnet18", "model.width=0.25", "model/decoder=deeplabv3plus"),
        *("loss=cross_entropy_lovasz", "mix=copy_paste", "averaging=ema", "optimizer=adamw", "scheduler=warmup_poly"),
    ],
    "mobilenetv2": [
        *("model=unet_mobilenetv2", "model.encoder.weights=null", "model.width=0.25", "model/decoder=segformer"),
        *("loss=cross_entropy_dice", "mix=cutmix"),
    ],
}


def history(run):
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("network", NETWORKS)
def test_training_on_a_gpu_has_the_losses_of_training_on_the_cpu(call, tmp_path, network):
    rows = {}
    for accelerator in ("cpu", "gpu"):
        run = tmp_path / accelerator
        words = [*NETWORKS[network], *SHORT, "trainer.precision=32-true", f"trainer.accelerator={accelerator}"]
        status, _, err = call("train", *words, "model.dropout=0", f"hydra.run.dir={run}")
        assert status == 0, err
        rows[accelerator] = history(run)
    assert json.loads((run / "summary.json").read_text())["device"] != "cpu"
    for key, tolerance in (("train/loss", 0.02), ("val/loss", 0.05)):
        values = {name: [float(row[key]) for row in history] for name, history in rows.items()}
        assert values["gpu"] == pytest.approx(values["cpu"], rel=tolerance), key


def test_a_run_of_the_cpu_is_scored_and_predicted_alike_on_a_gpu(call, trained, photographs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    scores, masks = {}, {}
    for device, accelerator in (("cpu", "cpu"), ("cuda", "gpu")):
        words = [f"run={run}", "trainer.precision=32-true", f"trainer.accelerator={accelerator}", "flip=true"]
        status, out, err = call("evaluate", *words, "scales=[0.75,1]")
        assert status == 0, err
        folder = next(path for path in (run / "evaluation").iterdir() if "flip" in path.name)
        scores[device] = json.loads((folder / "metrics.json").read_text())
        shutil.rmtree(folder)
        out = tmp_path / device
        status, _, err = call("predict", run, photographs, "-o", out, "--device", device)
        assert status == 0, err
        masks[device] = np.stack([np.array(Image.open(path)) for path in sorted((out / "masks").glob("*.png"))])
    assert scores["cuda"]["miou"] == pytest.approx(scores["cpu"]["miou"], abs=2e-3)
    assert scores["cuda"]["loss"] == pytest.approx(scores["cpu"]["loss"], rel=2e-3)
    assert (masks["cuda"] == masks["cpu"]).mean() > 0.995


def test_a_gpu_trains_in_bf16_and_goes_on_with_what_the_cpu_began(call, tmp_path):
    run = tmp_path / "run"
    begun = [*NETWORKS["resnet18"], *SHORT, "trainer.accelerator=cpu", f"hydra.run.dir={run}"]
    assert call("train", *begun)[0] == 0
    status, _, err = call("train", f"resume={run}", "trainer.max_epochs=4", "trainer.accelerator=auto")
    assert status == 0, err
    losses = [float(row["train/loss"]) for row in history(run)]
    assert len(losses) == 4 and losses[-1] < losses[0]
    fresh = tmp_path / "fresh"
    assert call("train", *NETWORKS["resnet18"], *SHORT, f"hydra.run.dir={fresh}")[0] == 0
    summary = json.loads((fresh / "summary.json").read_text())
    assert summary["precision"] == "bf16-mixed" and summary["memory_format"] == "channels_last"


def test_a_gpu_trains_the_same_twice_with_deterministic_algorithms(command, tmp_path):
    words = [*NETWORKS["resnet18"], *SHORT, "model/decoder=upernet", "trainer.deterministic=true"]
    losses = []
    for run in (tmp_path / "first", tmp_path / "second"):
        done = command("train.py", *words, f"hydra.run.dir={run}")
        assert done.returncode == 0, done.stderr
        losses.append([(row["train/loss"], row["val/loss"]) for row in history(run)])
    assert losses[0] == losses[1]


def test_half_precision_on_a_gpu_stays_finite(call, tmp_path):
    run = tmp_path / "run"
    words = [*NETWORKS["resnet18"], *SHORT, "trainer.precision=16-mixed", f"hydra.run.dir={run}"]
    status, _, err = call("train", *words)
    assert status == 0, err
    assert np.isfinite([float(row[key]) for row in history(run) for key in ("train/loss", "val/loss")]).all()
