"""Counts the images a run has seen, how fast it sees them, and the memory it takes."""

import resource
import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch


class Throughput(pl.Callback):
    """Logs `images_seen` and `train/images_per_second` each epoch: reading and training, without validation.

    Attributes:
        images_seen: Images that went through a training step, over all processes and resumed parts of the run.
        seconds: Seconds spent on them.
    """

    def __init__(self) -> None:
        self.images_seen, self.seconds = 0, 0.0
        self._epoch_images, self._epoch_seconds, self._last = 0, 0.0, 0.0

    @property
    def images_per_second(self) -> float:
        """Mean over the run; 0 before the first epoch."""
        return self.images_seen / self.seconds if self.seconds else 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        self._epoch_images, self._epoch_seconds, self._last = 0, 0.0, time.perf_counter()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock of a run that goes on inside an epoch, which has no epoch start."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: dict[str, Any], batch_idx: int
    ) -> None:
        """Counts the batch with its seconds, and closes the epoch's account before validation runs."""
        now = time.perf_counter()
        self._epoch_seconds += now - self._last
        self.seconds += now - self._last
        self._last = now
        count = len(batch["image"]) * trainer.world_size
        self.images_seen += count
        self._epoch_images += count
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            speed = self._epoch_images / self._epoch_seconds
            values = {"train/images_per_second": speed, "images_seen": float(self.images_seen)}
            pl_module.log_dict(values, on_step=False, on_epoch=True, batch_size=1)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs the images seen beside the scores, so that these can be drawn over them."""
        pl_module.log("images_seen", float(self.images_seen))

    def state_dict(self) -> dict[str, Any]:
        """Returns the counts for a checkpoint."""
        return {"images_seen": self.images_seen, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a checkpoint's counts."""
        self.images_seen, self.seconds = state_dict["images_seen"], state_dict["seconds"]


def peak_memory(device: torch.device) -> int:
    """Returns the most bytes held at once: of a GPU, if that is the device, else by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
