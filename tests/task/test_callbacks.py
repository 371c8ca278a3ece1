import csv
import json
import random
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import ModelCheckpoint

from seglab.task import (
    AtomicCheckpointIO,
    EvaluationWriter,
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
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["epoch-0002.png", "epoch-0003.png"]
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


def evaluate(task, data, trainer, writer):
    trainer(callbacks=[writer]).test(task, data.eval_dataloader("test"), verbose=False)
    return json.loads((writer.folder / "metrics.json").read_text())


@pytest.mark.parametrize("batch_size", [1, 4])
def test_what_is_written_equals_a_recomputation(make_task, make_data, make_trainer, tmp_path, batch_size):
    data, task = make_data(batch_size=batch_size), make_task()
    result = evaluate(task, data, make_trainer, writer := EvaluationWriter(tmp_path / "out", "test", "full"))
    assert result == writer.result
    with np.load(tmp_path / "out" / "confusion.npz") as archive:
        names, matrices = archive["names"], archive["confusion"]
    assert names.tolist() == [f"test_{index:05d}" for index in range(5)] == sorted(data.source.names("test"))
    assert matrices.shape == (5, 9, 9) and matrices.dtype == np.int64
    unions, hits, right, scored = np.zeros(9), np.zeros(9), 0, 0
    for index, name in enumerate(names):
        with Image.open(tmp_path / "out" / "predictions" / f"{name}.png") as picture:
            assert picture.mode == "P"
            preds = np.asarray(picture)
        mask = data.source.read("test", index)[1]
        assert preds.shape == mask.shape
        use = mask != 9
        for label in range(9):
            hits[label] += ((preds == label) & (mask == label)).sum()
            unions[label] += (((preds == label) | (mask == label)) & use).sum()
            assert matrices[index, label].sum() == (mask == label).sum()
        right, scored = right + (preds == mask)[use].sum(), scored + use.sum()
    iou = [hit / union if union else None for hit, union in zip(hits, unions, strict=True)]
    present = [value for value in iou if value is not None]
    assert result["split"] == "test" and result["protocol"] == "full" and result["num_images"] == 5
    assert list(result["iou"]) == task.class_names
    assert list(result["iou"].values()) == pytest.approx(iou)
    assert result["miou"] == pytest.approx(np.mean(present)) and result["classes_scored"] == len(present)
    assert result["pixel_accuracy"] == pytest.approx(right / scored)
    assert (tmp_path / "out" / "confusion.png").stat().st_size > 1000


def test_the_loss_is_that_of_all_scored_pixels(make_task, make_data, make_trainer, tmp_path):
    data, task = make_data(), make_task()
    result = evaluate(task, data, make_trainer, EvaluationWriter(tmp_path / "out", "test", "full"))
    task.eval()
    samples = [sample for batch in data.eval_dataloader("test") for sample in batch]
    logits = torch.cat([task.predict_logits(sample).flatten(1) for sample in samples], dim=1)
    mask = torch.cat([sample["mask"].flatten() for sample in samples])
    assert result["loss"] == pytest.approx(
        torch.nn.functional.cross_entropy(logits.T, mask, ignore_index=9).item(), rel=1e-5
    )


def test_outside_the_central_window_nothing_is_predicted(make_task, make_data, make_trainer, tmp_path):
    data, task = make_data(crop_size=10, protocol="center_crop"), make_task()
    result = evaluate(task, data, make_trainer, EvaluationWriter(tmp_path / "out", "test", "center_crop"))
    assert result["protocol"] == "center_crop"
    inside = np.zeros((24, 24), bool)
    inside[7:17, 7:17] = True
    for path in sorted((tmp_path / "out" / "predictions").iterdir()):
        preds = np.asarray(Image.open(path))
        assert (preds[~inside] == 255).all() and (preds[inside] < 9).all()
        assert Image.open(tmp_path / "out" / "overlays" / path.name).size == (10, 10)
    with np.load(tmp_path / "out" / "confusion.npz") as archive:
        masks = [data.source.read("test", index)[1][inside] for index in range(5)]
        assert archive["confusion"].sum((1, 2)).tolist() == [int((mask != 9).sum()) for mask in masks]


def test_predictions_have_the_label_s_size_where_the_image_is_shrunk(make_task, make_data, make_trainer, tmp_path):
    writer = EvaluationWriter(tmp_path / "out", "test", "full", overlays=False)
    evaluate(make_task(), make_data(resize=10, crop_size=10), make_trainer, writer)
    assert {Image.open(path).size for path in Path(tmp_path / "out" / "predictions").iterdir()} == {(24, 24)}
    assert not (tmp_path / "out" / "overlays").exists()


def test_a_checkpoint_callback_takes_up_the_best_score_where_the_folder_was_moved():
    saved = {"dirpath": "/old/checkpoints", "best_model_score": torch.tensor(0.5), "kth_value": torch.tensor(0.5)}
    saved |= {"best_model_path": "/old/checkpoints/best.ckpt", "kth_best_model_path": "/old/checkpoints/best.ckpt"}
    saved |= {"best_k_models": {"/old/checkpoints/best.ckpt": torch.tensor(0.5)}, "last_model_path": ""}
    callback = RunCheckpoint("/new/checkpoints", monitor="val/miou", mode="max")
    callback.load_state_dict(saved)
    assert callback.best_model_score == 0.5
    assert callback.best_model_path == "/new/checkpoints/best.ckpt"
    assert list(callback.best_k_models) == ["/new/checkpoints/best.ckpt"]
