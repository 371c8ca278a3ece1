"""The order of samples: shuffled for training, able to start anywhere; complete and without repeats for evaluation."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index) in an order that follows from (seed, epoch) alone, so that a run can be taken up anywhere.

    Each process gets its share of one permutation; where the shares are uneven, the permutation's start fills them up.
    With weights, an epoch is as long, and an index is in it as often as its weight says, rounded up or down at random:
    its repetitions are index + length, index + 2 length and so on.
    """

    def __init__(
        self,
        length: int,
        seed: int = 0,
        epoch: int = 0,
        skip: int = 0,
        rank: int = 0,
        world_size: int = 1,
        weights: np.ndarray | None = None,
    ) -> None:
        """Set the starting point.

        Args:
            length: number of samples of an epoch, over all processes.
            seed: another seed gives another order.
            epoch: the first epoch to yield.
            skip: samples of that epoch that this process has already seen.
            rank: number of this process.
            world_size: number of processes.
            weights: above 0, float (length,), how often each index is drawn compared to the others; None for all alike.
        """
        self.length, self.seed, self.epoch, self.skip = length, seed, epoch, skip
        self.rank, self.world_size, self.weights = rank, world_size, weights

    def set_epoch(self, epoch: int) -> None:
        """Move on to an epoch, from its first sample; the epoch where the sampler stands stays as it is."""
        if epoch != self.epoch:
            self.epoch, self.skip = epoch, 0

    def __len__(self) -> int:
        """Number of samples of a whole epoch in this process, those to be skipped included."""
        return -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        share = np.resize(self._order(), len(self) * self.world_size)[self.rank :: self.world_size]
        epoch = self.epoch
        return ((epoch, index) for index in share[self.skip :].tolist())

    def _order(self) -> np.ndarray:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(self.length)
        if self.weights is None:
            return order
        ends = np.cumsum(self.weights[order])
        ends *= self.length / ends[-1]
        ends[-1] = self.length  # whatever the rounding: as many samples as ever
        counts = np.diff(np.floor(ends + rng.random()), prepend=0).astype(np.int64)
        repetition = np.arange(self.length) - np.repeat(np.cumsum(counts) - counts, counts)
        return rng.permutation(np.repeat(order, counts) + repetition * self.length)


class MixedSizeSampler(EpochSampler):
    """Yields (epoch, index, size), one size for each batch, the same in all processes."""

    def __init__(self, sizes: Sequence[int], batch_size: int, **options: Any) -> None:
        """Add the sizes.

        Args:
            sizes: of which each batch gets one, in pixels.
            batch_size: samples of a batch in each process, all batches but the last.
            **options: of `EpochSampler`.
        """
        super().__init__(**options)
        self.sizes, self.batch_size = sizes, batch_size

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        batches = -(-len(self) // self.batch_size)
        # a child of the seed, so that sizes and order have streams of their own
        [rng] = np.random.default_rng((self.seed, self.epoch)).spawn(1)
        sizes = np.repeat(rng.choice(self.sizes, batches), self.batch_size)[self.skip : len(self)]
        return ((*key, size) for key, size in zip(super().__iter__(), sizes.tolist(), strict=True))


def repeat_factors(present: np.ndarray, threshold: float) -> np.ndarray:
    """How often to draw each sample, so that those of rare classes come more often.

    A class that a share f of the samples has asks for max(1, sqrt(threshold / f)), and a sample gets the most that one
    of its classes asks for. Gupta et al., 2019, arXiv:1908.03195.

    Args:
        present: bool (n, num_classes), which classes each sample has.
        threshold: share, above 0 to 1; classes that fewer samples have count as rare.

    Returns:
        Factors of 1 and above, float (n,).
    """
    frequencies = np.maximum(present.mean(0), 1 / len(present))  # never 0, where a class is absent
    asked = np.maximum(np.sqrt(threshold / frequencies), 1)
    return np.where(present, asked, 1.0).max(1)


class EvalBatchSampler(Sampler[list[int]]):
    """Yields each index once, over all processes, in the same number of batches in every process.

    The last batch may be short, and empty where the processes outnumber the images left.
    """

    def __init__(self, length: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        """Share the images out.

        Args:
            length: number of images over all processes.
            batch_size: images of a batch.
            rank: number of this process.
            world_size: number of processes.
        """
        self.length, self.batch_size, self.rank, self.world_size = length, batch_size, rank, world_size

    def __len__(self) -> int:
        return -(-self.length // (self.world_size * self.batch_size))

    def __iter__(self) -> Iterator[list[int]]:
        share = range(self.rank, self.length, self.world_size)
        for batch in range(len(self)):
            yield list(share[batch * self.batch_size : (batch + 1) * self.batch_size])
