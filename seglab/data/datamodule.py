"""Batches of one data set for training and evaluation."""

import sys
import warnings
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from seglab.data import statistics
from seglab.data.dataset import PROTOCOLS, EvalDataset, TrainDataset
from seglab.data.reader import Reader
from seglab.data.sampler import EpochSampler, EvalBatchSampler, MixedSizeSampler, repeat_factors
from seglab.data.source import SPLITS, Source
from seglab.data.statistics import Statistics
from seglab.data.train_samples import TrainSamples
from seglab.errors import InputError
from seglab.numeric import is_number, is_whole


class SegmentationDataModule(pl.LightningDataModule):
    """Loads a source's three splits.

    A run that is taken up, even inside an epoch, goes on with the very batches that it had left, for any number of
    workers.
    With several processes, the trainer needs `use_distributed_sampler=False`: the samplers here share the samples out.
    """

    def __init__(
        self,
        source: Source,
        samples: TrainSamples,
        resize: int | None = None,
        protocol: str = "full",
        batch_size: int = 10,
        num_workers: int = 0,
        cache_mb: float = 1024,
    ) -> None:
        """Check the values; no file is read before `setup`.

        Args:
            source: images and masks in three splits.
            samples: how training samples are drawn from the images.
            resize: length in pixels that the shorter side of each image is brought to; None leaves the size.
            protocol: evaluate on "full" images or on their "center_crop", of the side `samples.crop_size`.
            batch_size: images of a batch in each process.
            num_workers: processes that prepare samples beside each training process.
            cache_mb: MiB of decoded images to keep in memory for each split.

        Raises:
            InputError: naming every value that makes no sense.
        """
        super().__init__()
        self.source, self.samples, self.resize, self.protocol = source, samples, resize, protocol
        self.batch_size, self.num_workers, self.cache_mb = batch_size, num_workers, cache_mb
        self._readers: dict[str, Reader] = {}
        if faults := [*samples.faults(), *self._faults()]:
            raise InputError("\n".join(faults))

    def setup(self, stage: str | None = None) -> None:
        """Check every file, so that a bad one shows before the first epoch and not after it.

        Args:
            stage: a split, to check and read that alone; anything else stands for all three, and "fit" holds the
                crops against the images, too.

        Raises:
            InputError: naming all files at fault.
        """
        wanted = [split for split in SPLITS if split == stage] or SPLITS
        if splits := [split for split in wanted if split not in self._readers]:
            self.source.check(splits)
        for split in splits:
            self._readers[split] = Reader(self.source, split, self.resize, split != "train", self.cache_mb)
        if stage == "fit":
            self._refuse_wide_crop(self._readers["train"].image_sizes)

    @cached_property
    def statistics(self) -> Statistics:
        """Mean, standard deviation and class areas of the training samples."""
        self.setup("train")
        return statistics.compute(self._readers["train"], self.samples.crop, self.samples.crop_size)

    def images_with(self, split: str) -> dict[str, int]:
        """Number of images of a split that each class is labelled in, by its name."""
        self.setup(split)
        reader = Reader(self.source, split, self.resize, split != "train", cache_mb=0)  # nothing is kept in memory
        counts = (statistics.class_areas(reader) > 0).sum(0)
        return dict(zip(self.source.class_names, counts.tolist(), strict=True))

    @property
    def train_dataset(self) -> TrainDataset:
        """Training samples by (epoch, index), over all processes."""
        self.setup("train")
        epochs = self.trainer.max_epochs if self.trainer else None
        return TrainDataset(self._readers["train"], self.samples, self.source.ignore_index, epochs)

    def images_per_epoch(self, num_processes: int = 1) -> int:
        """Training samples that the processes see together in an epoch: images times the windows taken of each.

        Shares are filled up where they are uneven, and a last batch of one is left out of each.
        """
        share = -(-len(self.train_dataset) // num_processes)
        return num_processes * (share - self._drops_last(share))

    def train_dataloader(self) -> DataLoader:
        """Batches of training samples, from where the trainer stands.

        Returns:
            A loader of {"image": uint8 (b, 3, h, w), "mask": int64 (b, h, w), "name": list of str}.
        """
        self.setup()
        dataset = self.train_dataset
        epoch, batches = _progress(self.trainer)
        rank, world_size = self._rank()
        options = {
            "length": len(dataset),
            "seed": self.samples.seed,
            "epoch": epoch,
            "skip": batches * self.batch_size,
            "rank": rank,
            "world_size": world_size,
            "weights": self._weights(),
        }
        if sizes := self.samples.crop_sizes:
            sampler = MixedSizeSampler(sizes, self.batch_size, **options)
        else:
            sampler = EpochSampler(**options)
        # Lightning asks for a loader with a state of its own; this one takes it from the trainer's.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
        drop_last = self._drops_last(len(sampler))
        return self._loader(dataset, sampler=sampler, batch_size=self.batch_size, drop_last=drop_last)

    def _drops_last(self, count: int) -> bool:
        """Returns whether a last batch of one is left out of so many samples: BatchNorm cannot train on it."""
        return count > self.batch_size and count % self.batch_size == 1

    def val_dataloader(self) -> DataLoader:
        """Batches of the validation split, see `eval_dataloader`."""
        return self.eval_dataloader("val")

    def test_dataloader(self) -> DataLoader:
        """Batches of the test split, see `eval_dataloader`."""
        return self.eval_dataloader("test")

    def eval_dataloader(self, split: str) -> DataLoader:
        """Lists of samples of a split, each image once over all processes.

        Returns:
            A loader of lists of the samples of `EvalDataset`; a list may be empty, see `EvalBatchSampler`.
        """
        if split not in SPLITS:
            raise InputError(f"split={split}: choose one of {', '.join(SPLITS)}")
        self.setup(split)
        reader = self._readers[split]
        if split == "train":  # here the masks stay at the label's own size, unlike in training
            reader = Reader(self.source, split, self.resize, keep_mask_size=True, cache_mb=0)
        dataset = EvalDataset(reader, self.protocol, self.samples.crop_size)
        sampler = EvalBatchSampler(len(dataset), self.batch_size, *self._rank())
        return self._loader(dataset, batch_sampler=sampler, collate_fn=list)

    def _weights(self) -> np.ndarray | None:
        samples = self.samples
        if samples.repeat_threshold is None:
            return None
        areas = statistics.class_areas(self._readers["train"], samples.crop, samples.crop_size)
        return repeat_factors(areas > 0, samples.repeat_threshold)

    def _loader(self, dataset: torch.utils.data.Dataset, **options: Any) -> DataLoader:
        return DataLoader(
            dataset,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=_use_one_thread,
            # forked workers share the reader's memory
            multiprocessing_context="fork" if self.num_workers and sys.platform == "linux" else None,
            # without a generator of its own, each epoch would draw from the global one, and dropout would change
            generator=torch.Generator().manual_seed(self.samples.seed),
            pin_memory=torch.cuda.is_available(),
            **options,
        )

    def _refuse_wide_crop(self, image_sizes: np.ndarray) -> None:
        height, width = image_sizes[image_sizes.max(1).argmax()].tolist()
        sizes = self.samples.crop_sizes
        size = max(sizes or [self.samples.crop_size])
        if size > 2 * max(height, width):
            raise InputError(
                f"data.crop_size{'s' if sizes else ''}={size} is over twice the largest training image, "
                f"{width}x{height}: most of each crop would be reflected border; give at most {2 * max(height, width)}"
            )

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _faults(self) -> Iterator[str]:
        for key, least in {"batch_size": 1, "num_workers": 0, "resize": 1}.items():
            value = getattr(self, key)
            if not (is_whole(value) and value >= least) and not (key == "resize" and value is None):
                yield f"data.{key}={value}: give a whole number of at least {least}"
        if not (is_number(self.cache_mb) and self.cache_mb >= 0):
            yield f"data.cache_mb={self.cache_mb}: give 0 or more MiB"
        if self.protocol not in PROTOCOLS:
            yield f"protocol={self.protocol}: choose one of {', '.join(PROTOCOLS)}"


def _use_one_thread(worker: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _progress(trainer: pl.Trainer | None) -> tuple[int, int]:
    """The epoch that a trainer, perhaps restored from a checkpoint, trains next, and the batches it has had of it."""
    if trainer is None:
        return 0, 0
    epochs, batches = trainer.fit_loop.epoch_progress.current, trainer.fit_loop.epoch_loop.batch_progress
    if epochs.started <= epochs.processed:  # between two epochs
        return epochs.processed, 0
    # `processed`, since a checkpoint is written before the last batch counts as `completed`
    seen = batches.current.processed
    if batches.is_last_batch and seen == batches.current.ready:
        return epochs.processed + 1, 0
    return epochs.processed, seen
