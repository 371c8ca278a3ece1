"""Averages of a network's weights along its training, which are scored and kept in place of the last ones."""

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from seglab.errors import InputError

log = logging.getLogger(__name__)


class WeightAveraging(pl.Callback):
    """Keeps an average of the network's weights, and says when the network holds it.

    From the end of an epoch's training, before its validation, up to the next training batch the network holds the
    average in place of the weights that are trained. Validation, pictures, best.ckpt, the last.ckpt of whole epochs and
    the test are thus the average's. Until there is an average, everything is as without one.

    Lightning 2.6 has such callbacks, but their average is not in checkpoints of weights only, as best.ckpt is.
    """

    def __init__(self) -> None:
        self._average: AveragedModel | None = None
        self._swapped = False  # whether the network holds the average, and `_average` the weights that are trained
        self._saved: dict[str, Any] | None = None

    def new_average(self, model: nn.Module) -> AveragedModel:
        """Returns what is going to average a network's weights."""
        raise NotImplementedError

    def is_due(self, trainer: pl.Trainer, is_last_step: bool) -> bool:
        """Returns whether the weights after a step of the optimizer, perhaps an epoch's last, count."""
        raise NotImplementedError

    def refresh(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Completes a network that has just got the average."""

    def state_dict(self) -> dict[str, Any]:
        """Returns whichever weights the network does not hold."""
        return {} if self._average is None else {"average": self._average.state_dict(), "swapped": self._swapped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps a checkpoint's state until the network is on its device."""
        self._saved = state_dict

    def on_fit_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Takes up the average of a run that goes on."""
        if self._saved is not None:
            saved, self._saved = self._saved, None
            self._average, self._swapped = self.new_average(task.model), saved["swapped"]
            self._average.load_state_dict(saved["average"])

    def on_train_batch_start(self, trainer: pl.Trainer, task: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Gives the network back the weights that are trained."""
        if self._swapped:
            self._swap(task.model)

    def on_train_batch_end(
        self, trainer: pl.Trainer, task: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds the weights to the average where the optimizer has stepped and they count."""
        is_last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        stepped = is_last or (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stepped and self.is_due(trainer, is_last):
            self._average = self._average or self.new_average(task.model)
            self._average.update_parameters(task.model)

    def on_validation_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Gives the network the average."""
        if not trainer.sanity_checking:
            self._show_average(trainer, task)

    def on_train_epoch_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Gives the network the average, also after an epoch without validation."""
        self._show_average(trainer, task)

    def _show_average(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        if self._average is not None and not self._swapped:
            self._swap(task.model)
            self.refresh(trainer, task)

    @torch.no_grad()
    def _swap(self, model: nn.Module) -> None:
        other = self._average.module
        for ours, theirs in zip(_tensors(model), _tensors(other), strict=True):
            kept = ours.clone()
            ours.copy_(theirs)
            theirs.copy_(kept)
        self._swapped = not self._swapped


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(model.parameters(), model.buffers())


class ExponentialMovingAverage(WeightAveraging):
    """Averages the weights after every step, each older one weighing less (Polyak and Juditsky 1992).

    The teacher of Tarvainen and Valpola (2017, arXiv:1703.01780). After n steps the average keeps (1 + n) / (10 + n)
    of itself, and never more than `decay`, so that a short run soon forgets its first weights. The running
    statistics of a BatchNorm are averaged alike.

    Args:
        decay: The most that the average keeps of itself in a step.

    Raises:
        InputError: If `decay` is out of range.
    """

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        if not 0 < decay < 1:
            raise InputError(f"averaging.decay={decay}: give what the average keeps in a step, above 0 and below 1")
        self.decay = decay

    def new_average(self, model: nn.Module) -> AveragedModel:
        """Returns an average of parameters and buffers."""
        return AveragedModel(model, multi_avg_fn=self._blend, use_buffers=True)

    def is_due(self, trainer: pl.Trainer, is_last_step: bool) -> bool:
        """Returns true: every step counts."""
        return True

    def _blend(self, averages: list[Tensor], weights: list[Tensor], _: Tensor) -> None:
        steps = int(self._average.n_averaged)  # on the CPU: a GPU need not be waited for
        if averages[0].is_floating_point():
            get_ema_multi_avg_fn(min(self.decay, (1 + steps) / (10 + steps)))(averages, weights, steps)
        else:  # torch would round a mean of indices or counts down
            for average, weight in zip(averages, weights, strict=True):
                average.copy_(weight)


class StochasticWeightAveraging(WeightAveraging):
    """Averages the weights at the end of each epoch, all alike, from a share of the run on, and of the last at least.

    SWA (Izmailov et al. 2018, arXiv:1803.05407). The running statistics of every BatchNorm are those of the averaged
    weights, measured anew in each epoch by a pass over training samples, drawn as those of the next epoch are.

    Args:
        start: Share of the run's epochs after which the weights count.

    Raises:
        InputError: If `start` is out of range.
    """

    def __init__(self, start: float = 0.75) -> None:
        super().__init__()
        if not 0 <= start < 1:
            raise InputError(f"averaging.start={start}: give a share of the run's epochs, from 0 to below 1")
        self.start = start

    def on_fit_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Takes up the average of a run that goes on.

        Raises:
            InputError: The run has no end.
        """
        super().on_fit_start(trainer, task)
        if trainer.max_epochs == -1:
            raise InputError("trainer.max_epochs=-1: averaging=swa needs an end; give a number of epochs")

    def new_average(self, model: nn.Module) -> AveragedModel:
        """Returns an average of parameters."""
        return AveragedModel(model)

    def is_due(self, trainer: pl.Trainer, is_last_step: bool) -> bool:
        """Returns whether this is an epoch's last step, late enough; an average that was begun goes on."""
        first = min(self.start * trainer.max_epochs, trainer.max_epochs - 1)
        return is_last_step and (self._average is not None or trainer.current_epoch >= first)

    def on_fit_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Says so where the run ended, stopped early, before it had an average."""
        if self._average is None and trainer.is_global_zero:
            log.warning("averaging=swa: the run ended before %g of its epochs, so no weights were averaged", self.start)

    @torch.no_grad()
    def refresh(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Measures the running statistics of every BatchNorm that is not frozen, the frozen ones as they are.

        As `torch.optim.swa_utils.update_bn`, which resets the frozen ones, too. What is drawn here, by dropout for
        instance, is drawn apart: the training goes on as without it.
        """
        model, trained = task.model, task.model.training
        model.train()
        task.fine_tuning.freeze(model, trainer.current_epoch)
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        norms = [module for module in norms if module.track_running_stats and module.training]
        if not norms:
            model.train(trained)
            return
        loader = trainer.datamodule.train_dataloader()
        batches = map(trainer.strategy.batch_to_device, itertools.islice(loader, trainer.num_training_batches))
        momenta = [module.momentum for module in norms]
        for module in norms:
            module.reset_running_stats()
            module.momentum = None  # the mean of all batches
        devices = [trainer.strategy.root_device] if trainer.strategy.root_device.type == "cuda" else []
        with torch.random.fork_rng(devices), trainer.precision_plugin.forward_context():
            for batch in batches:
                model(batch["image"])
        model.train(trained)
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
            for statistic in (module.running_mean, module.running_var):
                statistic.copy_(trainer.strategy.reduce(statistic, reduce_op="mean"))
