"""The order of samples: shuffled for training, able to start anywhere; complete and without repeats for evaluation."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index) in an order that follows from (seed, epoch) alone, so that a run can be taken up anywhere.

    Each process gets its share of one permutation; where the shares are uneven, the permutation's start fills them up.
    """

    def __init__(
        self, length: int, seed: int = 0, epoch: int = 0, skip: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        """Set the starting point.

        Args:
            length: number of samples of an epoch, over all processes.
            seed: another seed gives another order.
            epoch: the first epoch to yield.
            skip: samples of that epoch that this process has already seen.
            rank: number of this process.
            world_size: number of processes.
        """
        self.length, self.seed, self.epoch, self.skip = length, seed, epoch, skip
        self.rank, self.world_size = rank, world_size

    def set_epoch(self, epoch: int) -> None:
        """Move on to an epoch, from its first sample; the epoch where the sampler stands stays as it is."""
        if epoch != self.epoch:
            self.epoch, self.skip = epoch, 0

    def __len__(self) -> int:
        """Number of samples of a whole epoch in this process, those to be skipped included."""
        return -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        share = np.resize(order, len(self) * self.world_size)[self.rank :: self.world_size]
        epoch = self.epoch
        return ((epoch, index) for index in share[self.skip :].tolist())


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
