from dataclasses import replace

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from seglab.data.augment import Augmentation
from seglab.data.datamodule import _use_one_thread
from seglab.data.dataset import EvalDataset, TrainDataset
from seglab.data.mix import CopyPaste, CutMix
from seglab.data.reader import Reader
from seglab.data.sampler import EpochSampler
from seglab.data.shapes import Shapes
from seglab.data.train_samples import ProgressiveResize, TrainSamples


class Wide(Shapes):
    """Scenes of which a part is cut off, so that heights and widths differ and are odd."""

    def read(self, split, i):
        image, mask = super().read(split, i)
        return image[: 50 + i], mask[: 50 + i]

    def sizes(self, split):
        return np.array([[50 + i, self.size] for i in range(self.counts[split])])


def _augment():
    return Augmentation([A.Rotate(limit=40, border_mode=4, p=0.9), A.HorizontalFlip(), A.RGBShift(p=0.9)], 9)


def _train(crop="random", **kwargs):
    return TrainDataset(Reader(Shapes(size=48, train=6), "train"), TrainSamples(crop, 32, **kwargs), 9)


def test_a_sample():
    sample = _train()[0, 4]
    assert sample["image"].shape == (3, 32, 32) and sample["image"].dtype == torch.uint8
    assert sample["mask"].shape == (32, 32) and sample["mask"].dtype == torch.int64
    assert sample["name"] == "train_00004" and type(sample["name"]) is str


def test_five_crops_make_five_samples_of_an_image():
    dataset = _train("five")
    assert len(dataset) == 30 and len(_train()) == 6
    image = torch.from_numpy(dataset.reader[1][0].copy()).permute(2, 0, 1)
    assert torch.equal(dataset[0, 5]["image"], image[:, :32, :32])
    assert torch.equal(dataset[0, 8]["image"], image[:, 16:, 16:])
    assert torch.equal(dataset[3, 9]["image"], image[:, 8:40, 8:40])
    assert {dataset[0, i]["name"] for i in range(5, 10)} == {"train_00001"}


def test_crops_are_small_at_first_and_show_as_much():
    growing = ProgressiveResize(initial_scale=0.5, delay_fraction=0.25, finetune_fraction=0.25)
    assert [growing.side(32, epoch, 8) for epoch in range(8)] == [16, 16, 16, 16, 24, 32, 32, 32]
    assert [growing.side(30, epoch, 8) for epoch in range(8)] == [16, 16, 16, 16, 24, 24, 30, 30]
    assert [ProgressiveResize(0.5, 0.5, 0.5).side(64, epoch, 4) for epoch in range(4)] == [32, 32, 64, 64]
    assert [ProgressiveResize(0.01, 1, 0).side(64, epoch, 2) for epoch in range(2)] == [8, 8]
    assert [[ProgressiveResize().side(256, epoch, epochs) for epoch in range(epochs)] for epochs in (1, 2, 4)] == [
        [256],
        [128, 256],
        [128, 128, 128, 256],
    ]
    tenths = ProgressiveResize(0.5, 0.3, 0.7)
    assert [tenths.side(256, epoch, 10) for epoch in range(10)] == [128] * 3 + [256] * 7
    whole = _train("five")
    small = TrainDataset(whole.reader, replace(whole.samples, progressive_resize=growing), 9, epochs=8)
    for index in (5, 8):
        image, mask = (whole[0, index][key].numpy() for key in ("image", "mask"))
        halved = cv2.resize(image.transpose(1, 2, 0), (16, 16), interpolation=cv2.INTER_AREA)
        np.testing.assert_allclose(small[0, index]["image"].permute(1, 2, 0), halved, atol=1)
        assert (small[0, index]["mask"].numpy() == mask[1::2, 1::2]).mean() > 0.8
        assert torch.equal(small[7, index]["image"], whole[7, index]["image"])
    assert small[3, 5, 48]["image"].shape == (3, 32, 32)  # a batch's own size grows, too
    assert TrainDataset(whole.reader, small.samples, 9)[0, 5]["image"].shape == (3, 32, 32)


def test_a_repetition_is_the_same_image_drawn_anew():
    dataset = _train()
    assert dataset[0, 4]["name"] == dataset[0, 10]["name"] == dataset[0, 16]["name"]
    assert len({dataset[0, i]["image"].numpy().tobytes() for i in (4, 10, 16)}) == 3
    assert torch.equal(dataset[0, 10]["image"], dataset[0, 10]["image"])
    five = _train("five")
    assert torch.equal(five[0, 7]["image"], five[0, 37]["image"])


def test_a_key_may_bring_the_size_of_its_window():
    dataset = _train()
    for size in (20, 32, 60):
        assert dataset[0, 1, size]["image"].shape == (3, size, size)
    assert torch.equal(dataset[0, 1, 32]["image"], dataset[0, 1]["image"])


class Ramps(Shapes):
    """Images whose red is ten times the row and whose green the column, with blocks of one label for 4 x 4 pixels."""

    def read(self, split, i):
        rows, cols = np.mgrid[: self.size, : self.size]
        return np.dstack([rows, cols, rows * 0]).astype(np.uint8) * 5, (rows // 4 % 2 + cols // 4 % 2 * 2).astype("u1")


@pytest.mark.parametrize("crop", ["random", "center", "five"])
def test_a_scaled_window_shows_a_part_of_the_image_with_its_own_labels(crop):
    dataset = TrainDataset(Reader(Ramps(size=48, train=6), "train"), TrainSamples(crop, 32, scale=(0.8, 2.0)), 9)
    factors = []
    for epoch in range(40):
        sample = dataset[epoch, 4]
        image, mask = sample["image"].numpy().astype(float), sample["mask"].numpy()
        assert image.shape == (3, 32, 32)
        row, col = image[0, :, 0] / 5, image[1, 0] / 5  # the place in the image that each pixel shows
        factors.append(31 / (row[-1] - row[0]))
        assert factors[-1] == pytest.approx(31 / (col[-1] - col[0]), rel=0.05)
        inside = np.abs((row + 0.5) % 4 - 2) < 1.4  # further than half a pixel from the edge of a block
        expected = np.rint(row).astype(int)[:, None] // 4 % 2 + np.rint(col).astype(int) // 4 % 2 * 2
        columns = np.abs((col + 0.5) % 4 - 2) < 1.4
        assert inside.sum() > 8 and np.array_equal(mask[inside][:, columns], expected[inside][:, columns])
    assert 0.7 < min(factors) < 1 and 1.7 < max(factors) < 2.3
    assert torch.equal(dataset[3, 2]["image"], dataset[3, 2]["image"])


def test_a_window_larger_than_the_image_is_not_scored_outside_it():
    reader = Reader(Ramps(size=48, train=6), "train")
    dataset = TrainDataset(reader, TrainSamples("random", 32, scale=(0.5, 0.5)), 9)  # windows of 64 in images of 48
    for epoch in range(5):
        mask = dataset[epoch, 0]["mask"]
        assert (mask == 9).float().mean() == pytest.approx(1 - (48 / 64) ** 2, abs=0.02)


def test_a_mixed_sample_is_two_windows_of_the_same_size():
    plain, mixed = _train(scale=(0.5, 2.0)), _train(scale=(0.5, 2.0), mix=CutMix(p=0.7))
    alike = [torch.equal(plain[epoch, 2]["image"], mixed[epoch, 2]["image"]) for epoch in range(100)]
    assert 15 < sum(alike) < 45
    assert mixed[0, 2]["name"] == "train_00002" and mixed[0, 2, 20]["mask"].shape == (20, 20)


def test_samples_follow_from_seed_epoch_and_index():
    def first(epoch, seed):
        return _train(augment=_augment(), seed=seed)[epoch, 2]["image"]

    assert torch.equal(first(1, 0), first(1, 0))
    assert not torch.equal(first(1, 0), first(2, 0)) and not torch.equal(first(1, 0), first(1, 1))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_stream_is_the_same_for_any_number_of_workers(workers):
    def stream(workers):
        mix = CopyPaste(Shapes.class_names)
        dataset = _train(augment=_augment(), scale=(0.5, 2.0), mix=mix)
        sampler = EpochSampler(len(dataset))
        options = {"num_workers": workers, "persistent_workers": workers > 0, "worker_init_fn": _use_one_thread}
        loader = DataLoader(dataset, 2, sampler=sampler, **options)
        batches = []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            batches.append(torch.cat([batch["image"] for batch in loader]))
        return batches

    alone, shared = stream(0), stream(workers)
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))
    assert not torch.equal(*alone)


def test_full_images_keep_the_labels_own_size():
    source = Wide(size=61, val=3)
    dataset = EvalDataset(Reader(source, "val", resize=32, keep_mask_size=True), "full")
    for i in range(3):
        sample = dataset[i]
        assert sample["image"].shape[1:] == (32, round(61 * 32 / (50 + i)))
        assert np.array_equal(sample["mask"].numpy(), source.read("val", i)[1])
        assert sample["window"] == (0, 0, 50 + i, 61) and sample["size"] == (50 + i, 61)


@pytest.mark.parametrize("resize", [None, 25, 100])
@pytest.mark.parametrize("crop_size", [1, 20, 32, 500])
def test_the_central_crop_covers_the_same_part_of_image_and_label(resize, crop_size):
    source = Wide(size=61, val=2)
    reader = Reader(source, "val", resize, keep_mask_size=True)
    image, mask = reader[1]
    sample = EvalDataset(reader, "center_crop", crop_size)[1]
    top, left, height, width = sample["window"]
    assert np.array_equal(sample["mask"].numpy(), mask[top : top + height, left : left + width])
    assert sample["mask"].shape == (height, width) and sample["size"] == (51, 61)
    for start, length, own, full, cropped in zip(
        (top, left), (height, width), (51, 61), image.shape, sample["image"].shape[1:], strict=False
    ):
        assert cropped == min(crop_size, full)
        scale = own / full
        assert abs(length - cropped * scale) <= 1 and abs(start + length / 2 - own / 2) <= 1 + scale
    if resize is None:
        assert height == min(crop_size, 51) and width == min(crop_size, 61)
        assert np.array_equal(sample["image"].permute(1, 2, 0), image[top : top + height, left : left + width])
