import re

import albumentations as A
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from datamodules import make_datamodule
from torch import nn

from seglab.data.augment import Augmentation
from seglab.data.mix import CopyPaste
from seglab.data.sampler import repeat_factors
from seglab.data.shapes import Shapes
from seglab.data.train_samples import ProgressiveResize
from seglab.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGLAB_CACHE_DIR", str(tmp_path))


def _data(train=11, **kwargs):
    augment = Augmentation([A.Rotate(limit=40, border_mode=4, p=0.9), A.HorizontalFlip()], 9)
    defaults = {"crop_size": 16, "batch_size": 3, "augment": augment}
    return make_datamodule(Shapes(size=24, train=train, val=5, test=4), **defaults | kwargs)


class Seen(pl.LightningModule):
    """Trains a little and writes down what it was given."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Conv2d(3, 9, 1), []

    def training_step(self, batch, batch_idx):
        image = batch["image"]
        self.seen.append((self.current_epoch, tuple(batch["name"]), image.sum().item(), image.shape[-1]))
        logits = self.layer(batch["image"] / 255)
        return nn.functional.cross_entropy(logits, batch["mask"], ignore_index=9)

    def validation_step(self, batch, batch_idx):
        assert isinstance(batch, list)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class SaveAt(pl.Callback):
    """Saves a checkpoint in one hook, at one call of it."""

    def __init__(self, hook, call, path):
        self.calls, self.call, self.path = 0, call, path
        setattr(self, hook, self._save)

    def _save(self, trainer, *args):
        if not trainer.sanity_checking:
            if self.calls == self.call:
                trainer.save_checkpoint(self.path)
                trainer.lightning_module.mark = len(trainer.lightning_module.seen)
            self.calls += 1


def _fit(tmp_path, data, callbacks=(), ckpt_path=None, epochs=3, **kwargs):
    torch.manual_seed(0)
    module = Seen()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=list(callbacks),
        **kwargs,
    )
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return module


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("hook", "call"),
    [
        ("on_train_batch_end", 1),  # inside the first epoch
        ("on_train_batch_end", 3),  # its last batch
        ("on_train_batch_end", 6),  # inside a later one
        ("on_validation_end", 0),
        ("on_train_epoch_end", 0),
    ],
)
def test_a_run_is_taken_up_where_it_stopped(tmp_path, hook, call, workers):
    path = tmp_path / "some.ckpt"
    whole = _fit(tmp_path, _data(num_workers=workers), [SaveAt(hook, call, path)])
    assert len(whole.seen) == 12 and len(set(whole.seen)) == 12
    resumed = _fit(tmp_path, _data(num_workers=workers), ckpt_path=path)
    assert resumed.seen == whole.seen[whole.mark :]
    assert torch.equal(resumed.layer.weight, whole.layer.weight)


@pytest.mark.parametrize("workers", [0, 2])
def test_mixed_balanced_samples_of_several_sizes_are_taken_up_inside_an_epoch(tmp_path, workers):
    def data():
        options = {"scale": [0.5, 2.0], "crop_sizes": [12, 16, 20], "repeat_threshold": 1.0, "num_workers": workers}
        return _data(mix=CopyPaste(Shapes.class_names), **options)

    path = tmp_path / "some.ckpt"
    whole = _fit(tmp_path, data(), [SaveAt("on_train_batch_end", 5, path)])
    assert len(whole.seen) == 12 and len({seen[3] for seen in whole.seen}) == 3
    resumed = _fit(tmp_path, data(), ckpt_path=path)
    assert resumed.seen == whole.seen[6:]
    assert torch.equal(resumed.layer.weight, whole.layer.weight)


@pytest.mark.parametrize("workers", [0, 2])
def test_crops_grow_over_the_epochs_and_go_on_growing_where_they_stopped(tmp_path, workers):
    growing = ProgressiveResize(initial_scale=0.5, delay_fraction=0.25, finetune_fraction=0.5)

    def data():
        return _data(progressive_resize=growing, num_workers=workers, mix=CopyPaste(Shapes.class_names))

    path = tmp_path / "some.ckpt"
    whole = _fit(tmp_path, data(), [SaveAt("on_train_batch_end", 5, path)], epochs=4)
    assert [{seen[3] for seen in whole.seen if seen[0] == epoch} for epoch in range(4)] == [{8}, {8}, {16}, {16}]
    assert _fit(tmp_path, data(), ckpt_path=path, epochs=4).seen == whole.seen[6:]


def test_rare_classes_are_drawn_more_often():
    data = _data(train=40, repeat_threshold=1.0)
    masks = [data.source.read("train", i)[1] for i in range(40)]
    present = np.array([[(mask == label).any() for label in range(9)] for mask in masks])
    assert data.train_dataloader().sampler.weights.tolist() == repeat_factors(present, 1.0).tolist()
    assert _data(train=40).train_dataloader().sampler.weights is None
    plain, balanced = present.mean(0), np.zeros(9)
    loader = data.train_dataloader()
    for epoch in range(200):
        loader.sampler.set_epoch(epoch)
        balanced += present[[index % 40 for _, index in loader.sampler]].mean(0) / 200
    expected = np.average(present, axis=0, weights=repeat_factors(present, 1.0))
    np.testing.assert_allclose(balanced, expected, atol=0.01)
    assert balanced[plain.argmin()] > 1.2 * plain.min()


def test_a_finished_run_goes_on_with_the_next_epoch(tmp_path):
    whole = _fit(tmp_path, _data(), epochs=3)
    _fit(tmp_path, _data(), [SaveAt("on_train_end", 0, tmp_path / "end.ckpt")], epochs=2)
    assert _fit(tmp_path, _data(), ckpt_path=tmp_path / "end.ckpt", epochs=3).seen == whole.seen[8:]


def test_a_limited_epoch_is_taken_up_where_it_stopped(tmp_path):
    path = tmp_path / "some.ckpt"
    whole = _fit(tmp_path, _data(), [SaveAt("on_train_batch_end", 3, path)], limit_train_batches=3)
    resumed = _fit(tmp_path, _data(), ckpt_path=path, limit_train_batches=3)
    assert len(whole.seen) == 9 and resumed.seen == whole.seen[4:]


def test_loaders_leave_the_global_stream_alone():
    data = _data()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for loader in (data.train_dataloader(), data.val_dataloader()):
        list(loader)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("train", "sizes"), [(10, [3, 3, 3]), (11, [3, 3, 3, 2]), (1, [1]), (3, [3])])
def test_only_a_last_batch_of_one_is_dropped(train, sizes):
    data = _data(train)
    batches = list(data.train_dataloader())
    assert [len(batch["name"]) for batch in batches] == sizes and data.images_per_epoch() == sum(sizes)
    assert batches[0]["image"].shape[1:] == (3, 16, 16) and batches[0]["mask"].dtype == torch.int64


@pytest.mark.parametrize(("train", "images"), [(10, 10), (9, 10), (14, 12)])
def test_processes_see_as_many_images_together_as_an_epoch_is_said_to_have(monkeypatch, train, images):
    data = _data(train)
    assert data.images_per_epoch(2) == images
    seen = 0
    for rank in range(2):
        monkeypatch.setattr(data, "_rank", lambda rank=rank: (rank, 2))
        seen += sum(len(batch["name"]) for batch in data.train_dataloader())
    assert seen == images


def test_evaluation_gives_lists_of_whole_images():
    data = _data()
    batches = list(data.eval_dataloader("test"))
    assert [[sample["name"] for sample in batch] for batch in batches] == [
        ["test_00000", "test_00001", "test_00002"],
        ["test_00003"],
    ]
    assert len(list(data.val_dataloader())) == 2
    train = [sample for batch in _data(resize=12).eval_dataloader("train") for sample in batch]
    assert len(train) == 11 and train[0]["image"].shape == (3, 12, 12) and train[0]["mask"].shape == (24, 24)
    with pytest.raises(InputError, match="split=tset"):
        data.eval_dataloader("tset")


def test_statistics_are_those_of_the_training_images():
    data = _data()
    images = np.stack([data.source.read("train", i)[0] for i in range(11)]) / 255
    np.testing.assert_allclose(data.statistics.mean, images.mean((0, 1, 2)))
    assert data.statistics is data.statistics


def test_setup_finds_a_faulty_split():
    with pytest.raises(InputError, match="'val'"):
        make_datamodule(Shapes(size=24, val=0)).setup("fit")


@pytest.mark.parametrize(
    ("key", "value"),
    [("crop_size", 0), ("crop_size", 1.5), ("batch_size", 0), ("num_workers", -1), ("resize", 0), ("seed", -1)]
    + [("cache_mb", -1), ("crop", "middle"), ("protocol", "half"), ("crop_size", True), ("crop_size", None)]
    + [
        ("scale", 2),
        ("scale", [2, 1]),
        ("scale", [0, 1]),
        ("scale", [1, 2, 3]),
        ("scale", ["a", 2]),
        ("scale", [1, 99]),
    ]
    + [("crop_sizes", []), ("crop_sizes", 32), ("crop_sizes", [0, 8]), ("crop_sizes", [1.5]), ("crop_sizes", ["big"])]
    + [("repeat_threshold", value) for value in (0, -1, 1.5, "often")]
    + [("progressive_resize.delay_fraction", value) for value in (-0.1, 1.5, "half", True)]
    + [("progressive_resize.initial_scale", 0)],
)
def test_a_wrong_value_is_named(key, value):
    group, _, name = key.partition(".")
    values = {group: ProgressiveResize(**{name: value}) if name else value}
    with pytest.raises(InputError, match=re.escape(f"{key}={value}")):
        _data(**values)


@pytest.mark.parametrize("sizes", [{"crop_size": 49}, {"crop_size": 16, "crop_sizes": [16, 49]}])
def test_a_crop_of_mostly_border_is_refused(sizes):
    _data(**{key: 48 if key == "crop_size" else [16, 48] for key in sizes}).setup("fit")
    with pytest.raises(InputError, match=r"data.crop_sizes?=49 is over twice the largest training image, 24x24"):
        _data(**sizes).setup("fit")


def test_all_wrong_values_are_named_at_once():
    with pytest.raises(InputError) as error:
        _data(crop="middle", batch_size=0)
    assert len(str(error.value).splitlines()) == 2
