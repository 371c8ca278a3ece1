"""The offline W&B file of a run, read back record by record with the client's own message types."""

import csv
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from wandb.proto import wandb_internal_pb2

from seglab.cli.wandb_runs import drop_cut_record
from seglab.data.shapes import Shapes

ROOT = Path(__file__).resolve().parents[2]
BLOCK = 32768
FULL, FIRST, LAST = 1, 2, 4


def records(path):
    """The messages of a .wandb file, which is a LevelDB log behind a header of 7 bytes."""
    data, place, part = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:  # too little room for a header: the rest of the block is padding
            place += BLOCK - place % BLOCK
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        body = data[place + 7 : place + 7 + length]
        place += 7 + length
        part = body if kind in (FULL, FIRST) else part + body
        if kind in (FULL, LAST):
            message = wandb_internal_pb2.Record()
            message.ParseFromString(part)
            yield message


def values(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def read(run):
    [path] = (run / "wandb").glob("offline-run-*/*.wandb")
    found = {"folder": path.parent / "files", "history": [], "config": {}, "summary": {}, "metrics": [], "files": []}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["run"] = record.run
            found["config"] |= values(record.run.config.update)
        elif kind == "config":
            found["config"] |= values(record.config.update)
        elif kind == "summary":
            found["summary"] |= values(record.summary.update)
        elif kind == "history":
            found["history"].append(values(record.history.item))
        elif kind == "metric":
            found["metrics"].append(record.metric)
        elif kind == "files":
            found["files"] += [file.path for file in record.files.files]
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
    return found


@pytest.fixture(scope="module")
def runs(wandb_sweep):
    folder, _ = wandb_sweep
    return [read(folder / f"lr={lr}") for lr in ("0.001", "1e+30", "0.01")]


@pytest.fixture(scope="module")
def folder(wandb_sweep):
    return wandb_sweep[0] / "lr=0.001"


def test_each_job_of_a_sweep_has_its_own_run_in_one_group_with_an_honest_exit_code(runs, folder):
    assert len({run["run"].run_id for run in runs}) == 3
    assert json.loads((folder / "summary.json").read_text())["wandb_id"] == runs[0]["run"].run_id
    assert {run["run"].run_group for run in runs} == {"lr"}
    assert {run["run"].job_type for run in runs} == {"train"}
    assert [run["config"]["optimizer.lr"] for run in runs] == [1e-3, 1e30, 1e-2]
    assert [run["exit"] for run in runs] == [0, 1, 0]


def test_tags_and_config_name_the_choice_of_each_config_group(runs, folder):
    for run in runs:
        assert {"mine", "data:shapes", "model:unet4", "optimizer:adam", "scheduler:none"} <= set(run["run"].tags)
        assert not any(tag.startswith(("logger:", "trainer:")) for tag in run["run"].tags)
        config = run["config"]
        assert config["choices/model"] == "unet4" and config["choices/trainer"] == "default"
        assert "choices/experiment" not in config
        assert config["model.name"] == "unet4" and config["model.width"] == 0.02
    hashes = [run["config"]["config_hash"] for run in runs]
    assert len(set(hashes)) == 3 and hashes[0] == json.loads((folder / "summary.json").read_text())["config_hash"]


def test_history_has_every_epoch_of_the_table_over_epoch_and_images_seen(runs, folder):
    with (folder / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    for key in ("val/miou", "val/iou/disc", "train/miou", "train/images_per_second", "lr"):
        logged = [row for row in runs[0]["history"] if key in row]
        assert [row["epoch"] for row in logged] == [0, 1]
        assert [row["images_seen"] for row in logged] == [8, 16]
        assert [row[key] for row in logged] == pytest.approx([float(row[key]) for row in table], nan_ok=True)
    definitions = {metric.name or metric.glob_name: metric for metric in runs[0]["metrics"]}
    assert definitions["*"].step_metric == "epoch" and definitions["*"].options.step_sync
    assert all(definitions[axis].options.hidden for axis in ("epoch", "images_seen", "trainer/global_step"))


def test_pictures_are_photographs_with_label_and_prediction_as_masks_with_class_names(runs):
    run = runs[0]
    pictures = [row for row in run["history"] if "predictions/_type" in row]
    assert [row["epoch"] for row in pictures] == [0, 1]
    assert pictures[0]["predictions/captions"] == [f"val_{index:05d}" for index in range(4)]
    names = {str(index): name for index, name in enumerate([*Shapes.class_names, "boundary"])}
    labels = run["config"]["_wandb"]["mask/class_labels"]
    for layer in ("label", "prediction"):
        assert labels[f"predictions_wandb_delimeter_{layer}"]["value"] == names
    source = Shapes(size=32, train=8, val=4, test=4)
    images = np.stack([source.read("val", index)[0] for index in range(4)])
    for index, masks in enumerate(pictures[1]["predictions/all_masks"]):
        label = source.read("val", index)[1]
        assert np.array_equal(np.asarray(Image.open(run["folder"] / masks["label"]["path"])), label)
        prediction = np.asarray(Image.open(run["folder"] / masks["prediction"]["path"]))
        assert prediction.shape == label.shape and prediction.max() < 9
        photograph = np.asarray(Image.open(run["folder"] / pictures[1]["predictions/filenames"][index]))
        assert np.abs(images - photograph.astype(int)).mean((1, 2, 3)).argmin() == index


def test_tables_hold_the_iou_of_each_class_and_the_confusion_of_the_test(runs, folder):
    tables = {}
    for row in runs[0]["history"]:
        tables |= {key.removesuffix("/path"): path for key, path in row.items() if key.endswith("/path")}
    scores = json.loads((folder / "evaluation" / "test" / "metrics.json").read_text())
    with np.load(folder / "evaluation" / "test" / "confusion.npz") as arrays:
        confusion = arrays["confusion"].sum(0)
    iou = json.loads((runs[0]["folder"] / tables["test/iou_per_class"]).read_text())
    assert iou["columns"] == ["class", "iou"]
    expected = [[name, pytest.approx(np.nan if v is None else v, nan_ok=True)] for name, v in scores["iou"].items()]
    assert iou["data"] == expected
    table = json.loads((runs[0]["folder"] / tables["test/confusion"]).read_text())
    assert table["columns"] == ["label", "prediction", "pixels", "share"]
    for label, prediction, pixels, share in table["data"]:
        row = confusion[Shapes.class_names.index(label)]
        assert pixels == row[Shapes.class_names.index(prediction)]
        assert share == pytest.approx(pixels / row.sum() if row.sum() else np.nan, nan_ok=True)
    assert len(table["data"]) == 81


def test_the_summary_has_best_and_test_miou_with_its_interval(runs, folder):
    summary, stamped = runs[0]["summary"], json.loads((folder / "summary.json").read_text())
    for key in ("best_epoch", "best_val_miou", "test_miou", "images_per_second", "parameters", "gflops"):
        assert summary[key] == stamped[key]
    assert summary["test_miou_low"] < summary["test_miou"] < summary["test_miou_high"]
    assert "test_miou" not in runs[1]["summary"]


def test_a_failing_job_leaves_the_others_alone_and_the_sweep_says_so(wandb_sweep):
    folder, done = wandb_sweep
    assert done.returncode == 1
    assert "lr=1e+30: failed" in done.stderr and "diverged" in done.stderr and "Traceback" not in done.stderr
    states = [json.loads((folder / f"lr={lr}" / "summary.json").read_text())["status"] for lr in ("0.001", "1e+30")]
    assert states == ["finished", "failed"]


def test_without_a_key_there_is_one_warning_with_the_command_that_uploads(folder):
    log = (folder / "train.log").read_text()
    assert log.count("W&B is offline") == 1
    assert f"To upload this run: seglab wandb sync {folder}" in log


def test_a_record_that_a_hard_kill_has_cut_is_dropped(folder, tmp_path):
    [path] = (folder / "wandb").glob("offline-run-*/*.wandb")
    whole, written = path.read_bytes(), list(records(path))
    cut = tmp_path / "run.wandb"
    for size in (len(whole) - 1, len(whole) - 8, BLOCK + 9, BLOCK + 3, BLOCK - 3, 9000):
        cut.write_bytes(whole[:size])
        drop_cut_record(cut)
        kept = list(records(cut))
        assert 0 < len(kept) < len(written) and kept == written[: len(kept)]
        assert cut.stat().st_size <= size and cut.read_bytes() == whole[: cut.stat().st_size]


def test_a_refused_key_keeps_the_run_offline(environment, refusing_server, tmp_path):
    words = ["model=unet4", "model.width=0.02", "data.source.train=4", "data.source.val=2", "data.source.test=1"]
    words += ["data.crop_size=32", "data.batch_size=2", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path / 'run'}"]
    command = [sys.executable, "train.py", *words]
    variables = environment | refusing_server.environment
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "run" / "train.log").read_text()
    assert log.count("W&B refused (invalid key)") == 1 and "seglab wandb sync" in log
    run = read(tmp_path / "run")
    assert run["exit"] == 0
    assert "test_miou" in run["summary"] and "test_miou_low" not in run["summary"]  # of a single test image


def test_a_tag_that_wandb_does_not_take_is_refused(call, tmp_path):
    tag = "t" * 65
    words = [f"logger.wandb.tags=[{tag}]", "data.source.train=4", "data.crop_size=32", f"hydra.run.dir={tmp_path}"]
    status, _, said = call("train", *words)
    assert status == 2 and f"logger.wandb.tags: '{tag}' has 65 characters" in said
