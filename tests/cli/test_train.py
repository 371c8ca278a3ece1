"""What `python train.py` writes, and that several processes, odd paths and TensorBoard work with it."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import timm
import torch
from omegaconf import OmegaConf
from PIL import Image

from seglab.cli.ending import Interrupted, ended_by_signals, recorded_ending

ROOT = Path(__file__).resolve().parents[2]
POCKET = ["model=unet4", "model.width=0.02", "data.crop_size=32", "data.batch_size=2", "trainer.max_epochs=2"]
SCENES = ["data.source.train=8", "data.source.val=5", "data.source.test=5", "trainer.accelerator=cpu"]
ONE_SLURM_TASK = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
ONE_SLURM_TASK |= {"SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NODELIST": "localhost"}


def summary(run):
    return json.loads((run / "summary.json").read_text())


def test_a_run_folder_holds_what_it_promises(trained):
    values = summary(trained)
    assert values["status"] == "finished" and values["epochs"] == 2 and values["images_seen"] == 24
    assert values["precision"] in ("bf16-mixed", "32-true") and values["memory_format"] == "channels_last"
    assert {"seed", "config_hash", "git_commit", "versions", "seconds", "images_per_second", "parameters"} <= set(
        values
    )
    with (trained / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    columns = {"lr", "train/loss", "train/miou", "train/images_per_second", "images_seen", "val/loss", "val/miou"}
    assert columns | {"val/iou/background", "val/iou/blob"} <= set(rows[0])
    assert values["best_val_miou"] == max(float(row["val/miou"]) for row in rows)
    for name in ("epoch-0001.png", "epoch-0002.png"):
        assert Image.open(trained / "images" / name).size[0] >= 420
    best = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    assert "model.head.weight" in best["state_dict"] and "model.mean" in best["state_dict"]
    assert len(list((trained / "evaluation" / "test" / "predictions").glob("*.png"))) == 4
    assert OmegaConf.load(trained / ".hydra" / "config.yaml").model.width == 0.02
    said = (trained / "train.log").read_text()
    assert "epoch 2/2" in said and said.index(f"run {trained}\n") < said.index("epoch 1/2")


def test_the_last_line_says_where_the_run_is_and_its_miou(call, tmp_path):
    run = tmp_path / "a run (1)"
    status, out, err = call("train", *POCKET, *SCENES, "logger=tensorboard", f"hydra.run.dir='{run}'")
    assert status == 0, err
    last = (out + err).strip().splitlines()[-1]
    assert str(run) in last and f"test mIoU {summary(run)['test_miou']:.4f}" in last
    events = b"".join(path.read_bytes() for path in (run / "tensorboard").glob("events.*"))
    assert b"predictions" in events and b"val/miou" in events and b"test/miou" in events


def test_two_processes_train_one_run_and_the_same_seed_repeats_it(command, tmp_path):
    runs = [tmp_path / name for name in ("first", "second")]
    words = [*POCKET, *SCENES, "logger=csv", "trainer.devices=2", "callbacks.strips=null"]
    with ThreadPoolExecutor() as pool:
        ended = pool.map(lambda run: command("train.py", *words, f"hydra.run.dir={run}"), runs)
    for run, done in zip(runs, ended, strict=True):
        assert done.returncode == 0, done.stderr
        values = summary(run)
        assert (values["status"], values["images_seen"]) == ("finished", 16)
        assert json.loads((run / "evaluation" / "test" / "metrics.json").read_text())["num_images"] == 5
    first, second = (torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"] for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_processes_in_one_task_of_slurm_train_a_network_with_parameters_that_get_no_gradient(command, tmp_path):
    words = ["model=unet_timm", "model.encoder.name=test_vit", "model/decoder=deeplabv3plus", "data.crop_size=32"]
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "weights.pth")
    words += [f"model.encoder.weights={tmp_path}/weights.pth", "model.fine_tuning.frozen_epochs=1"]
    words += ["trainer.max_epochs=2", "trainer.devices=2", "data.batch_size=2"]
    words += ["logger=csv", "callbacks.strips=null", f"hydra.run.dir={tmp_path}/run"]
    done = command("train.py", *words, *SCENES, **ONE_SLURM_TASK)
    assert done.returncode == 0, done.stderr
    assert summary(tmp_path / "run")["status"] == "finished"
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["num_processes"] == 2


@pytest.mark.parametrize(
    ("cut", "status", "send", "more"),
    [
        (signal.SIGINT, 130, os.kill, []),
        (signal.SIGTERM, 143, os.kill, []),
        (signal.SIGTERM, 143, os.killpg, ["data.num_workers=2"]),
        (signal.SIGTERM, 143, os.killpg, ["trainer.devices=2"]),
    ],
)
def test_a_cut_run_says_so_and_how_to_go_on(environment, tmp_path, cut, status, send, more):
    run = tmp_path / "run"
    words = [*POCKET, *SCENES, *more, "trainer.max_epochs=5000", "logger=wandb", f"hydra.run.dir={run}"]
    process = subprocess.Popen(
        [sys.executable, "train.py", *words],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (run / "checkpoints" / "last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    send(process.pid, cut)
    said = process.communicate(timeout=120)[0].decode()
    assert process.returncode == status, said
    assert summary(run)["status"] == "interrupted"
    assert f"python train.py resume={run}" in said and "Traceback" not in said


CUT_THE_TEST = """
import os
import signal
from pathlib import Path

import pytorch_lightning as pl


class Cut(pl.Callback):
    def __init__(self, mark):
        self.mark = Path(mark)

    def on_test_batch_start(self, *args):
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_run_that_is_cut_in_its_test_goes_on_with_it(call, tmp_path, monkeypatch):
    (tmp_path / "cut_the_test.py").write_text(CUT_THE_TEST)
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "run"
    cut = ["+callbacks.cut._target_=cut_the_test.Cut", f"+callbacks.cut.mark={tmp_path / 'mark'}"]
    status, _, err = call("train", *POCKET, *SCENES, *cut, "logger=csv", f"hydra.run.dir={run}")
    assert status == 130, err
    assert summary(run)["status"] == "interrupted" and "test_miou" not in summary(run)
    status, _, err = call("train", f"resume={run}")
    assert status == 0, err
    assert summary(run)["status"] == "finished" and 0 < summary(run)["test_miou"] < 1


def test_an_error_of_many_lines_is_cut_in_the_summary(tmp_path):
    with pytest.raises(ValueError), recorded_ending(tmp_path):
        raise ValueError("\n".join(f"line {number}" for number in range(1, 501)))
    lines = summary(tmp_path)["error"].splitlines()
    assert (lines[0], lines[19], lines[20:]) == ("ValueError: line 1", "line 20", ["... and 480 lines more"])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "killed"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "killed"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "killed"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "killed"),
        (OSError(errno.ENOENT, "No such file"), "failed"),
        (RuntimeError("CUDA out of memory"), "failed"),
    ],
)
def test_what_the_machine_did_is_no_fault_of_the_run(tmp_path, error, status):
    with pytest.raises(type(error)), recorded_ending(tmp_path):
        raise error
    assert summary(tmp_path)["status"] == status and str(error)[:9] in summary(tmp_path)["error"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_outside_the_training_ends_the_run_too(tmp_path, number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as ended, ended_by_signals(), recorded_ending(tmp_path):
        os.kill(os.getpid(), number)
        time.sleep(10)
    assert ended.value.code == 128 + number and summary(tmp_path)["status"] == "interrupted"
    assert signal.getsignal(number) == before


def test_a_closed_terminal_does_not_end_what_nohup_started():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_seconds_of_earlier_parts_count_also_of_one_that_was_killed(tmp_path):
    for part in (1, 2):
        with pytest.raises(ZeroDivisionError), recorded_ending(tmp_path) as note_seconds:
            time.sleep(0.2)
            note_seconds()
            assert summary(tmp_path)["seconds"] >= 0.2 * part  # all that a SIGKILL here would leave
            1 / 0  # noqa: B018
    assert summary(tmp_path)["status"] == "failed" and 0.4 <= summary(tmp_path)["seconds"] < 5


def test_the_summary_has_the_miou_of_the_best_epoch_whatever_chooses_it(call, tmp_path):
    run = tmp_path / "run"
    words = ["callbacks.best.monitor=val/loss", "callbacks.best.mode=min", "callbacks.best.save_weights_only=false"]
    words += ["scheduler=step", "scheduler.milestones=[1]", "scheduler.gamma=1000"]  # so that the first is the best
    status, _, err = call("train", *POCKET, *SCENES, *words, "logger=csv", f"hydra.run.dir={run}")
    assert status == 0, err
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    best = min(rows, key=lambda row: float(row["val/loss"]))
    assert best is not rows[-1] and summary(run)["images_seen"] == float(rows[-1]["images_seen"])
    assert summary(run)["best_epoch"] == int(best["epoch"]) + 1
    assert summary(run)["best_val_miou"] == float(best["val/miou"])


def test_a_training_that_ends_before_a_validation_says_so(call, tmp_path):
    words = ["+trainer.max_steps=1", "trainer.check_val_every_n_epoch=2", "logger=csv"]
    status, _, err = call("train", *POCKET, *SCENES, *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert status == 2 and "the training ended before an epoch was validated" in err and "Traceback" not in err


def test_strips_are_drawn_of_the_first_and_the_last_validation_and_of_those_that_are_due(call, tmp_path):
    words = ["trainer.max_epochs=9", "trainer.check_val_every_n_epoch=2", "callbacks.strips.every_n_epochs=4"]
    words += ["logger=csv", f"hydra.run.dir={tmp_path / 'run'}"]
    status, _, err = call("train", *POCKET, *SCENES, *words)
    assert status == 0, err
    drawn = sorted(path.stem for path in (tmp_path / "run" / "images").iterdir())
    assert drawn == ["epoch-0002", "epoch-0004", "epoch-0008", "epoch-0009"]  # the last epoch is validated, too


def test_classes_that_few_images_of_a_split_have_are_named(call, folder, tmp_path):
    words = [*POCKET, "data=folder", f"data.root={folder}", "data.classes=[sky,tree,road,'the sea']", "logger=csv"]
    status, _, err = call("train", *words, "trainer.max_epochs=1", f"hydra.run.dir={tmp_path / 'run'}")
    assert status == 0, err
    said = (tmp_path / "run" / "train.log").read_text()
    assert "val: few images have sky (3), tree (3), road (3), the sea (0), and mIoU counts" in said


def test_help_is_quick_and_shows_groups_and_keys(command):
    done = command("train.py", "--help", timeout=20)
    assert done.returncode == 0
    for word in ("optimizer: adam, adamw, rmsprop, sgd", "model.width", "resume=RUN", "data.root=PATH", "-m"):
        assert word in done.stdout
    assert " base" not in done.stdout  # which is refused as a choice
