import copy
import csv
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.nn import functional as F

from seglab.errors import InputError
from seglab.task import EvaluationWriter, MetricsTable

ROOT = Path(__file__).resolve().parents[2]


def last(folder):
    return ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def recomputed(task, data, split="val"):
    """mIoU, IoU of each class and loss of a whole split, image for image, from the model and the source alone."""
    task.eval()
    hits, unions, losses, pixels = np.zeros(9), np.zeros(9), 0.0, 0
    for index in range(len(data.source.names(split))):
        image, mask = data.source.read(split, index)
        with torch.no_grad():
            logits = task.model(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])[0]
        preds, use = logits.argmax(0).numpy(), mask != 9
        for label in range(9):
            hits[label] += ((preds == label) & (mask == label)).sum()
            unions[label] += (((preds == label) | (mask == label)) & use).sum()
        target = torch.from_numpy(mask.astype(np.int64))[None]
        losses += F.cross_entropy(logits[None], target, ignore_index=9, reduction="sum").item()
        pixels += use.sum()
    with np.errstate(invalid="ignore"):
        iou = hits / unions
    return np.nanmean(iou), iou, losses / pixels


@pytest.mark.parametrize("batch_size", [1, 7])
def test_validation_scores_are_those_of_the_whole_split(make_task, make_data, make_trainer, batch_size):
    """The same for any batch size, where a mean over batches or images would not be."""
    task, data = make_task(), make_data(train=24, val=9)
    make_trainer(max_epochs=2).fit(task, datamodule=data)
    result = make_trainer().validate(task, make_data(val=9, batch_size=batch_size).val_dataloader(), verbose=False)[0]
    miou, iou, loss = recomputed(task, data)
    assert result["val/miou"] == pytest.approx(miou, rel=1e-6)
    assert result["val/loss"] == pytest.approx(loss, rel=1e-5)
    names = [f"val/iou/{name}" for name in task.class_names]
    np.testing.assert_allclose([result[name] for name in names], iou, rtol=1e-6)


def test_training_lowers_the_loss(make_task, make_data, make_trainer, tmp_path):
    task, data = make_task(lr=0.01), make_data(train=16)
    trainer = make_trainer([MetricsTable(tmp_path / "metrics.csv")], max_epochs=6)
    trainer.fit(task, datamodule=data)
    table = rows(tmp_path / "metrics.csv")
    losses = [float(row["train/loss"]) for row in table]
    assert losses[-1] < 0.9 * losses[0] and losses[-1] < np.log(9)
    assert float(table[-1]["val/miou"]) == pytest.approx(recomputed(task, data)[0], rel=1e-6)
    assert float(table[-1]["train/miou"]) > 0


def test_train_scores_are_those_of_the_epoch(make_task, make_data, make_trainer):
    """With a learning rate of 0 and no dropout every batch meets the same network, so that they can be recomputed."""
    task, data = make_task(lr=0.0), make_data(train=7, crop="center")
    task.model.dropout.p = 0.0
    batches = list(make_data(train=7, crop="center").train_dataloader())
    trainer = make_trainer()
    trainer.fit(task, datamodule=data)
    miou, _, _ = recomputed(task, data, "train")
    assert trainer.callback_metrics["train/miou"].item() == pytest.approx(miou, rel=1e-6)
    losses = [task.loss(task(batch["image"]), batch["mask"]).item() for batch in batches]
    expected = np.average(losses, weights=[4, 3])
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("train", [8, 4], ids=["inside an epoch", "in its last batch"])
def test_a_training_that_diverges_stops_and_keeps_its_checkpoint(make_task, make_data, make_trainer, tmp_path, train):
    explode = partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda epoch: 1.0 if epoch == 0 else 1e30)
    trainer = make_trainer([MetricsTable(tmp_path / "metrics.csv"), last(tmp_path)], max_epochs=4)
    with pytest.raises(InputError, match="is (nan|inf) in epoch 1: the training diverged"):
        trainer.fit(make_task(scheduler=explode), datamodule=make_data(train=train))
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["last.ckpt"]
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["epoch"] == 0
    state = checkpoint["state_dict"]
    assert all(value.isfinite().all() for name, value in state.items())
    assert max(value.abs().max() for name, value in state.items() if name.startswith("model.")) < 10
    assert [row["epoch"] for row in rows(tmp_path / "metrics.csv")] == ["0"]


def test_a_last_step_that_diverges_leaves_the_checkpoint_as_it_was(make_task, make_data, make_trainer, tmp_path):
    """No loss has seen its weights yet where the epoch is not validated."""

    class Explode(pl.Callback):
        def on_train_batch_end(self, trainer, task, *args):
            if trainer.current_epoch == 1 and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
                task.model.head.bias.data.fill_(float("inf"))

    trainer = make_trainer([Explode(), last(tmp_path)], max_epochs=4, check_val_every_n_epoch=4)
    with pytest.raises(InputError, match="sum of all weights is inf in epoch 1: the training diverged"):
        trainer.fit(make_task(), datamodule=make_data())
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 0


def test_the_last_epoch_is_validated(make_task, make_data, make_trainer, tmp_path):
    trainer = make_trainer([MetricsTable(tmp_path / "metrics.csv")], max_epochs=5, check_val_every_n_epoch=2)
    trainer.fit(make_task(), datamodule=make_data())
    assert [bool(row["val/miou"]) for row in rows(tmp_path / "metrics.csv")] == [False, True, False, True, True]


def test_a_batch_and_a_split_without_labels_are_no_divergence(make_task, make_data, make_trainer):
    data = make_data(crop_size=24)
    read = data.source.read
    data.source.read = lambda split, index: (read(split, index)[0], np.full((24, 24), 9, np.uint8))
    trainer = make_trainer(max_epochs=2)
    trainer.fit(make_task(), datamodule=data)
    assert trainer.current_epoch == 2 and trainer.callback_metrics["train/loss"] == 0
    assert trainer.callback_metrics["val/miou"].isnan()


def test_logits_are_scored_at_the_label_s_size(make_task, make_data, make_trainer, tmp_path):
    task, data = make_task(), make_data(resize=12, crop_size=12)
    make_trainer(max_epochs=2).fit(task, datamodule=data)
    task.eval()
    writer = EvaluationWriter(tmp_path, "test", "full")
    make_trainer([writer]).test(task, data.eval_dataloader("test"), verbose=False)
    with np.load(tmp_path / "confusion.npz") as archive:
        matrices = archive["confusion"]
    task.eval()
    samples = [sample for batch in data.eval_dataloader("test") for sample in batch]
    for index, sample in enumerate(samples):
        assert sample["image"].shape == (3, 12, 12)
        with torch.no_grad():
            logits = task.model(sample["image"][None])
        logits = F.interpolate(logits, (24, 24), mode="bilinear", align_corners=False)
        preds, mask = logits[0].argmax(0).numpy(), data.source.read("test", index)[1]
        np.testing.assert_array_equal(mask, sample["mask"])
        expected = np.zeros((9, 9), np.int64)
        np.add.at(expected, (mask[mask != 9], preds[mask != 9]), 1)
        np.testing.assert_array_equal(matrices[index], expected)


def test_a_head_that_is_too_wide_is_refused(make_task, make_data, make_trainer):
    with pytest.raises(ValueError, match="the head has 10 outputs for 9 classes"):
        make_trainer().fit(make_task(num_classes=10), datamodule=make_data())


def test_scoring_leaves_the_network_as_it_is(make_task, make_data, make_trainer):
    task = make_task()
    before = copy.deepcopy(task.state_dict())
    make_trainer().validate(task, make_data().val_dataloader(), verbose=False)
    for name, value in task.state_dict().items():
        assert torch.equal(value, before[name]), name


# Trains for an epoch, validates and tests in one process or two, and says what rank 0 saw.
SCRIPT = """
import sys
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from seglab.data import SegmentationDataModule, TrainSamples
from seglab.data.shapes import Shapes
from seglab.models import ConvDecoder, ConvEncoder, Segmenter
from seglab.task import *

folder = Path(sys.argv[1])
torch.manual_seed(0)
encoder = ConvEncoder([8, 16])
model = Segmenter(encoder, ConvDecoder(encoder.channels, encoder.strides, [16, 8]), 9)
optimizer = partial(torch.optim.Adam, lr=0.01)
task = SegmentationTask(model, CrossEntropy(9), Shapes.class_names, 9, optimizer)


def data():
    data = SegmentationDataModule(Shapes(size=24, train=8, val=7, test=5), TrainSamples(crop_size=24), batch_size=2)
    data.setup()  # as the commands do
    return data


def trainer(processes, callbacks=(), **kwargs):
    strategy = "ddp_fork" if processes > 1 else "auto"
    return pl.Trainer(accelerator="cpu", devices=processes, strategy=strategy, callbacks=list(callbacks), logger=False,
                      enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, **kwargs)


callbacks = [Throughput(), RandomState(), MetricsTable(folder / "metrics.csv"),
             ModelCheckpoint(folder, "last", save_on_train_epoch_end=True)]
trainer(2, callbacks, max_epochs=2, plugins=[AtomicCheckpointIO()]).fit(task, datamodule=data())
task.load_state_dict(torch.load(folder / "last.ckpt", weights_only=True)["state_dict"])
for processes in (1, 2):
    writer = EvaluationWriter(folder / str(processes), "test", "full")
    trainer(processes, [writer], enable_checkpointing=False).test(task, datamodule=data(), verbose=False)
"""


def test_two_processes_score_as_one_does(make_task, make_data, tmp_path):
    """An odd number of images, so that one process has fewer: none is left out, none counted twice."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "SEGLAB_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = [json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("1", "2")]
    assert one["num_images"] == two["num_images"] == 5
    assert two.pop("loss") == pytest.approx(one.pop("loss"))
    assert two == one
    archives = [np.load(tmp_path / n / "confusion.npz") for n in ("1", "2")]
    for name in ("names", "confusion"):
        np.testing.assert_array_equal(archives[0][name], archives[1][name])
    assert archives[1]["names"].tolist() == [f"test_{index:05d}" for index in range(5)]
    assert {path.name for path in (tmp_path / "2" / "predictions").iterdir()} == {
        f"test_{index:05d}.png" for index in range(5)
    }
    # the scores of the training in two processes are those that its checkpoint has in one
    task, data = make_task(), make_data()
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    task.load_state_dict(checkpoint["state_dict"])
    miou, iou, loss = recomputed(task, data)
    row = rows(tmp_path / "metrics.csv")[-1]
    assert row["epoch"] == "1" and row["step"] == "4"  # of 8 images in batches of 2 in 2 processes
    assert float(row["val/miou"]) == pytest.approx(miou, rel=1e-6)
    assert float(row["val/loss"]) == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose([float(row[f"val/iou/{name}"]) for name in task.class_names], iou, rtol=1e-6)
    assert float(row["images_seen"]) == 16
