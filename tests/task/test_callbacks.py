import csv
import random
from datetime import timedelta

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import ModelCheckpoint

from seglab.task import (
    AtomicCheckpointIO,
    MetricsTable,
    PredictionStrips,
    RandomState,
    RunCheckpoint,
    Throughput,
    WithinEpochCheckpoint,
)
from seglab.task.pictures import legend


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def last(folder, **kwargs):
    return ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False, **kwargs)


def test_the_table_has_one_row_for_each_epoch(make_task, make_data, make_trainer, tmp_path):
    trainer = make_trainer([MetricsTable(tmp_path / "metrics.csv")], max_epochs=3)
    trainer.fit(make_task(), datamodule=make_data())
    table = rows(tmp_path / "metrics.csv")
    assert [row["epoch"] for row in table] == ["0", "1", "2"]
    assert [row["step"] for row in table] == ["2", "4", "6"]
    assert set(table[0]) >= {"lr", "train/loss", "train/miou", "val/loss", "val/miou", "val/iou/disc"}
    for name, value in trainer.callback_metrics.items():
        assert table[-1][name] == str(value.item())
    assert len({row["val/loss"] for row in table}) == 3
    assert not list(tmp_path.glob("*.tmp"))


def test_rows_of_repeated_epochs_are_replaced(make_task, make_data, make_trainer, tmp_path):
    path = tmp_path / "metrics.csv"
    make_trainer([MetricsTable(path), last(tmp_path)], max_epochs=2).fit(make_task(), datamodule=make_data())
    first = rows(path)
    # A run that got further than its last checkpoint
    with path.open("a") as file:
        file.write(path.read_text().splitlines()[-1].replace("1,4", "2,6", 1) + "\n")
        file.write(path.read_text().splitlines()[-1].replace("1,4", "3,8", 1) + "\n")
    assert len(rows(path)) == 4
    make_trainer([MetricsTable(path)], max_epochs=3).fit(
        make_task(), datamodule=make_data(), ckpt_path=tmp_path / "last.ckpt"
    )
    table = rows(path)
    assert [row["epoch"] for row in table] == ["0", "1", "2"]
    assert table[:2] == first
    assert table[2]["val/loss"] not in {row["val/loss"] for row in first}


def test_epochs_without_validation_have_no_scores(make_task, make_data, make_trainer, tmp_path):
    trainer = make_trainer([MetricsTable(tmp_path / "metrics.csv")], max_epochs=4, check_val_every_n_epoch=2)
    trainer.fit(make_task(), datamodule=make_data())
    table = rows(tmp_path / "metrics.csv")
    assert [bool(row["train/loss"]) for row in table] == [True] * 4
    assert [bool(row["val/miou"]) for row in table] == [False, True, False, True]


def test_throughput_counts_go_on_from_a_checkpoint(make_task, make_data, make_trainer, tmp_path):
    first = Throughput()
    trainer = make_trainer([first], max_epochs=2)
    trainer.fit(make_task(), datamodule=make_data(train=7))  # a last batch of 3
    assert first.images_seen == 14 and first.seconds > 0
    assert first.images_per_second == 14 / first.seconds
    assert trainer.callback_metrics["images_seen"] == 14
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    second = Throughput()
    trainer = make_trainer([second], max_epochs=3)
    trainer.fit(make_task(), datamodule=make_data(train=7), ckpt_path=tmp_path / "two.ckpt")
    assert second.images_seen == 21 and second.seconds > first.seconds
    assert trainer.callback_metrics["images_seen"] == 21


def test_throughput_inside_an_epoch_counts_the_seconds_of_its_images(make_task, make_data, make_trainer):
    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            raise RuntimeError("cut")

    counts = Throughput()
    with pytest.raises(RuntimeError, match="cut"):
        make_trainer([counts, Stop()]).fit(make_task(), datamodule=make_data())
    state = counts.state_dict()
    assert state["images_seen"] == 4 and state["seconds"] > 0


def draws():
    return torch.rand(3).tolist(), np.random.rand(3).tolist(), np.random.randn(), random.random(), random.gauss(0, 1)


def test_random_state_restores_every_stream_at_the_first_batch(make_task, make_data, make_trainer, tmp_path):
    seen = []

    class Draw(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if not seen:
                seen.append(draws())

    pl.seed_everything(5, verbose=False)
    np.random.randn(), random.gauss(0, 1)  # the second half of a pair is part of the state
    state = RandomState()
    torch.save(state.state_dict(), tmp_path / "state.pt")
    expected = draws()
    pl.seed_everything(6, verbose=False)
    state.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    make_trainer([state, Draw()]).fit(make_task(), datamodule=make_data())
    assert seen == [expected]
    before = torch.get_rng_state()
    state.on_train_batch_start(None, None, None, 1)  # once is enough
    assert torch.equal(torch.get_rng_state(), before)


def test_strips_are_drawn_when_due(make_task, make_data, make_trainer, tmp_path):
    callback = PredictionStrips(tmp_path / "images", num_images=3, every_n_epochs=2)
    task = make_task()
    make_trainer([callback], max_epochs=3).fit(task, datamodule=make_data(resize=12, crop_size=12))
    drawn = [f"epoch-000{epoch}.png" for epoch in (1, 2, 3)]  # the first, the second as it is due, and the last
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == drawn
    with Image.open(tmp_path / "images" / "epoch-0003.png") as picture:
        width = 3 * 160 + 4 * 6
        assert picture.size == (width, 22 + 3 * (160 + 6 + 16) + legend(task.class_names, width).height)
        assert len(picture.convert("RGB").getcolors(1_000_000)) > 1000  # a photograph


def test_strips_of_a_split_smaller_than_asked_for(make_task, make_data, make_trainer, tmp_path):
    make_trainer([PredictionStrips(tmp_path, num_images=6)]).fit(make_task(), datamodule=make_data(val=2))
    with Image.open(tmp_path / "epoch-0001.png") as picture:
        assert 2 * 182 < picture.height < 3 * 182


class Unsaveable:
    def __reduce__(self):
        raise OSError("no space left on device")


def test_a_failed_save_leaves_the_old_checkpoint_whole(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"epoch": 1, "weights": torch.arange(5)}, path)
    before = path.read_bytes()
    with pytest.raises(OSError, match="no space"):
        writer.save_checkpoint({"epoch": 2, "weights": torch.zeros(9), "broken": Unsaveable()}, path)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["last.ckpt"]


def test_the_last_checkpoint_but_one_is_kept(tmp_path):
    writer = AtomicCheckpointIO()
    for epoch in range(3):
        for name in ("last", "best"):
            writer.save_checkpoint({"epoch": epoch}, tmp_path / f"{name}.ckpt")
    epochs = {path.name: torch.load(path, weights_only=True)["epoch"] for path in tmp_path.iterdir()}
    assert epochs == {"last.ckpt": 2, "last-previous.ckpt": 1, "best.ckpt": 2}


def test_a_run_s_checkpoint_loads_with_weights_only(make_task, make_data, make_trainer, tmp_path):
    callbacks = [Throughput(), RandomState(), MetricsTable(tmp_path / "metrics.csv"), last(tmp_path)]
    task = make_task(scheduler=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2))
    make_trainer(callbacks).fit(task, datamodule=make_data())
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2 and "RandomState" in checkpoint["callbacks"]
    other = make_task()
    other.load_state_dict(checkpoint["state_dict"])
    assert all(torch.equal(a, b) for a, b in zip(task.parameters(), other.parameters(), strict=True))


def test_the_checkpoint_within_an_epoch_never_stands_at_its_end(make_task, make_data, make_trainer, tmp_path):
    saved = []

    class Steps(AtomicCheckpointIO):
        def save_checkpoint(self, checkpoint, path, storage_options=None):
            saved.append(checkpoint["global_step"])
            super().save_checkpoint(checkpoint, path, storage_options)

    within = WithinEpochCheckpoint(tmp_path, "last", every_n_train_steps=1, enable_version_counter=False)
    make_trainer([within], max_epochs=2, plugins=[Steps()]).fit(make_task(), datamodule=make_data(train=12))
    assert saved == [1, 2, 4, 5]


def test_no_checkpoint_falls_between_batches_whose_gradients_are_added(make_task, make_data, make_trainer, tmp_path):
    saved = []

    class Batches(AtomicCheckpointIO):
        def save_checkpoint(self, checkpoint, path, storage_options=None):
            saved.append(checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["ready"])

    within = WithinEpochCheckpoint(tmp_path, "last", train_time_interval=timedelta(microseconds=1))
    trainer = make_trainer([within], max_epochs=2, plugins=[Batches()], accumulate_grad_batches=2)
    trainer.fit(make_task(), datamodule=make_data(train=14, batch_size=2))
    assert saved == [2, 4, 6] * 2


def test_a_checkpoint_callback_takes_up_the_best_score_where_the_folder_was_moved():
    saved = {"dirpath": "/old/checkpoints", "best_model_score": torch.tensor(0.5), "kth_value": torch.tensor(0.5)}
    saved |= {"best_model_path": "/old/checkpoints/best.ckpt", "kth_best_model_path": "/old/checkpoints/best.ckpt"}
    saved |= {"best_k_models": {"/old/checkpoints/best.ckpt": torch.tensor(0.5)}, "last_model_path": ""}
    callback = RunCheckpoint("/new/checkpoints", monitor="val/miou", mode="max")
    callback.load_state_dict(saved)
    assert callback.best_model_score == 0.5
    assert callback.best_model_path == "/new/checkpoints/best.ckpt"
    assert list(callback.best_k_models) == ["/new/checkpoints/best.ckpt"]
