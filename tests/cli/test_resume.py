"""A run that is killed and taken up again ends as the uncut run does, to the bit."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]

# Runs `python train.py ...` for each line of words, one after the other, and prints the exit statuses. Each run is a
# process of its own, forked from this one, which has imported everything: that takes longer than a run.
COMMANDS = """
import json, os, runpy, sys
import seglab.cli.build, seglab.cli.loggers, seglab.cli.main, seglab.cli.train, seglab.data, seglab.models, seglab.task

for words in json.load(sys.stdin):
    process = os.fork()
    if process == 0:
        sys.argv = ["train.py", *words]
        runpy.run_path("train.py", run_name="__main__")
        sys.exit()
    print("ended with", os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""

# Kills the process at one point of a run; each point once, so that the run that is taken up passes it.
KILL = """
import os
import signal
from pathlib import Path

import pytorch_lightning as pl


class Kill(pl.Callback):
    def __init__(self, points, folder):
        for point in points:
            hook, epoch, batch = point.split()
            setattr(self, hook, self._killer(hook, int(epoch), int(batch), Path(folder) / point.replace(" ", "-")))

    def _killer(self, hook, epoch, batch, mark):
        def kill(trainer, module, *args):
            here = batch < 0 or args[-1] == batch
            if trainer.current_epoch == epoch and here and not trainer.sanity_checking and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        return kill
"""

POINTS = (
    "on_train_batch_start 1 2",  # inside an epoch
    "on_validation_start 2 -1",  # after the last batch of one
    "on_train_epoch_start 3 -1",  # between two epochs
    "on_train_end 4 -1",  # before the test
)
# A checkpoint after every batch.
EVERY_BATCH = [
    "callbacks.last_within_epoch.train_time_interval.minutes=0",
    "+callbacks.last_within_epoch.train_time_interval.microseconds=1",
]
RUN = [
    *("data=shapes", "data.source.train=11", "data.source.val=4", "data.source.test=3", "data.crop_size=32"),
    *("data.batch_size=4", "model=unet4", "model.width=0.05", "model.dropout=0.3", "logger=csv", "augment=albu"),
    *("trainer.accelerator=cpu", "trainer.max_epochs=4", "optimizer.lr=0.01", "callbacks.progress=null"),
]
EMA = ["averaging=ema", "trainer.accumulate_grad_batches=2"]


@pytest.fixture
def train(environment, tmp_path):
    """Runs `python train.py` for several lines of words, returns the exit statuses."""
    (tmp_path / "killer.py").write_text(KILL)

    def run(*lines):
        variables = environment | {"PYTHONPATH": f"{ROOT}:{tmp_path}", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS],
            input=json.dumps(lines),
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return [int(status) for status in re.findall(r"ended with (\S+)", done.stdout)], done.stdout + done.stderr

    return run


def table(run):
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if name != "train/images_per_second"} for row in rows]


def last(run):
    """The last checkpoint's weights, optimizer and scheduler, each value to the bit by where it stands."""
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    parts = ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers")
    return dict(leaves({part: checkpoint[part] for part in parts}, ""))


def leaves(tree, place):
    if isinstance(tree, dict | list | tuple):
        for key, child in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(child, f"{place}/{key}")
    else:
        yield place, tree.numpy().tobytes() if isinstance(tree, torch.Tensor) else repr(tree)


@pytest.mark.parametrize(
    ("workers", "scheduler"),
    [
        (0, ["scheduler=warmup_cosine", "averaging=swa", "averaging.start=0.3", "trainer.gradient_clip_val=1"]),
        (2, ["scheduler=plateau", "scheduler.patience=0", "+scheduler.threshold=0.5", *EMA]),
    ],
    ids=["steps, swa, clipping", "plateau, ema, accumulation, workers"],
)
def test_a_killed_run_ends_as_the_uncut_one(train, tmp_path, workers, scheduler):
    uncut, cut = tmp_path / "uncut", tmp_path / "cut"
    words = [*RUN, *EVERY_BATCH, *scheduler, f"data.num_workers={workers}"]
    points = ",".join(f"'{point}'" for point in POINTS)
    kill = ["+callbacks.kill._target_=killer.Kill", f"+callbacks.kill.points=[{points}]"]
    kill.append(f"+callbacks.kill.folder={tmp_path}")
    statuses, output = train(
        [*words, f"hydra.run.dir={uncut}"],
        [*words, *kill, f"hydra.run.dir={cut}"],
        *[[f"resume={cut}"]] * len(POINTS),
    )
    assert statuses == [0, *[-9] * len(POINTS), 0], output
    learning_rates = {row["lr"] for row in table(uncut)}
    assert len(learning_rates) > 2, learning_rates  # the scheduler has a say
    assert last(uncut)["/epoch"] == "3" and "/state_dict/model.head.weight" in last(uncut)
    assert last(cut) == last(uncut)
    assert table(cut) == table(uncut)
    assert [row["epoch"] for row in table(cut)] == list("0123")
    summaries = [json.loads((run / "summary.json").read_text()) for run in (cut, uncut)]
    for summary in summaries:
        for name in ("seconds", "images_per_second", "peak_memory_mib", "overrides", "command"):
            summary.pop(name)
    assert summaries[0] == summaries[1]
    assert summaries[0]["status"] == "finished" and summaries[0]["images_seen"] == 4 * 11
