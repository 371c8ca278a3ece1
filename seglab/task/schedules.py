"""Learning rates that change with every step of the optimizer: a warm-up, then a decay up to the run's last step."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from seglab.errors import InputError


class WarmupLR(LRScheduler):
    """Raises every learning rate in equal steps to its own value, then lets it fall as the subclass says.

    The warm-up is that of Goyal et al. (2017, arXiv:1706.02677), from near 0. The run's steps are only known once it
    starts: until `begin`, the learning rates stay what the optimizer says.

    Args:
        optimizer: Its groups keep the ratios of their learning rates.
        warmup: Share of the run's steps in which the learning rate rises.
        end_factor: What the learning rate falls to, as a share of its own value.

    Raises:
        InputError: If a share is out of range.
    """

    def __init__(self, optimizer: Optimizer, warmup: float = 0.05, end_factor: float = 0.0) -> None:
        if not 0 <= warmup < 1:
            raise InputError(f"scheduler.warmup={warmup}: give a share of the run's steps, from 0 to below 1")
        if not 0 <= end_factor <= 1:
            raise InputError(f"scheduler.end_factor={end_factor}: give a share of optimizer.lr, from 0 to 1")
        self.warmup, self.end_factor = warmup, end_factor
        self.total_steps: int | None = None
        self.epoch_steps: float | None = None
        super().__init__(optimizer)

    def begin(self, total_steps: float, epochs: int) -> None:
        """Sets the learning rates of the next step, in a run of so many steps; a resumed run may have another number.

        Where its epochs have another number of steps, since more or fewer processes share them, it goes on at the same
        part of an epoch.

        Raises:
            InputError: The run has no end.
        """
        if math.isinf(total_steps):
            raise InputError("trainer.max_epochs=-1: a schedule with a warm-up needs an end; give a number of epochs")
        self.total_steps, before, self.epoch_steps = int(total_steps), self.epoch_steps, total_steps / epochs
        self.last_epoch = round(self.last_epoch * self.epoch_steps / (before or self.epoch_steps))
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr

    def get_lr(self) -> list[float]:
        """Returns the learning rate of each group for the step that comes next."""
        factor = 1.0 if self.total_steps is None else self.factor(self.last_epoch)
        return [lr * factor for lr in self.base_lrs]

    def factor(self, step: int) -> float:
        """Returns what a step, the first being 0, multiplies every learning rate by."""
        rising = round(self.warmup * self.total_steps)
        if step < rising:
            return (step + 1) / (rising + 1)
        progress = min((step - rising) / max(1, self.total_steps - rising), 1.0)
        return self.end_factor + (1 - self.end_factor) * self.decay(progress)

    def decay(self, progress: float) -> float:
        """Returns what is left, from 1 at a progress of 0 to 0 at one of 1."""
        raise NotImplementedError


class WarmupCosineLR(WarmupLR):
    """A warm-up, then half a cosine (Loshchilov and Hutter 2016, arXiv:1608.03983, without restarts)."""

    def decay(self, progress: float) -> float:
        """Returns (1 + cos(pi progress)) / 2."""
        return (1 + math.cos(math.pi * progress)) / 2


class WarmupPolynomialLR(WarmupLR):
    """A warm-up, then (1 - progress) to a power: the 'poly' of DeepLab (Chen et al. 2016, arXiv:1606.00915).

    Args:
        optimizer: As in `WarmupLR`.
        warmup: As in `WarmupLR`.
        end_factor: As in `WarmupLR`.
        power: 1 falls in a straight line; below, the learning rate stays high for longer.

    Raises:
        InputError: If a share is out of range or the power is not above 0.
    """

    def __init__(self, optimizer: Optimizer, warmup: float = 0.05, end_factor: float = 0.0, power: float = 0.9) -> None:
        if not 0 < power < math.inf:
            raise InputError(f"scheduler.power={power}: give a power above 0")
        self.power = power
        super().__init__(optimizer, warmup, end_factor)

    def decay(self, progress: float) -> float:
        """Returns (1 - progress) to the power."""
        return (1 - progress) ** self.power
