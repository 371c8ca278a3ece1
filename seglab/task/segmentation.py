"""The LightningModule around any Segmenter: it receives everything built and says what happens to a batch."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import Metric

from seglab.errors import InputError
from seglab.task.boundary import boundary_confusion
from seglab.task.calibration import TemperatureFit, calibration_sums
from seglab.task.fine_tuning import FineTuning
from seglab.task.metrics import JaccardIndex, WeightedMean, confusion_matrix, iou_per_class, mean_iou
from seglab.task.schedules import WarmupLR


def gathered_confusion(metric: JaccardIndex) -> Tensor:
    """Returns the confusion matrix (K, K) that a metric has summed up, over all processes, on the CPU."""
    with metric.sync_context():
        return metric.confmat.cpu().clone()


class SegmentationTask(pl.LightningModule):
    """Trains, validates and tests a network; logs loss, mIoU and the IoU of each class.

    Training batches are stacked samples; evaluation batches are lists of samples, each forwarded on its own at its own
    size, so that no score depends on the batch size.

    Args:
        model: Maps images uint8 (b, 3, h, w) to logits (b, num_classes, h, w). Where its `auxiliary_weights` are not
            empty, it gives a list of such logits while it trains: its own, then one for each of these weights.
        loss: Maps logits and mask int64 (b, h, w) to a scalar.
        class_names: Names of the classes, in the order of the logits.
        ignore_index: Mask value that is never scored.
        optimizer: Builds the optimizer from the parameters; not needed to evaluate.
        scheduler: Builds the learning-rate scheduler from the optimizer; stepped once an epoch, a `WarmupLR` with every
            step of the optimizer.
        monitor: The logged value that a ReduceLROnPlateau scheduler watches.
        fine_tuning: How the network's pretrained part trains; as the rest if None.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        class_names: Sequence[str],
        ignore_index: int,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        monitor: str = "val/loss",
        fine_tuning: FineTuning | None = None,
    ) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)
        self.loss = loss
        self.class_names = list(class_names)
        self.ignore_index = ignore_index
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.monitor = monitor
        self.fine_tuning = fine_tuning or FineTuning()
        num_classes = len(self.class_names)
        self.train_loss, self.train_jaccard = WeightedMean(), self._jaccard(num_classes)
        self.val_loss, self.val_jaccard = WeightedMean(), self._jaccard(num_classes)
        self._validated = False
        self.temperature = 1.0  # divides the logits where a test judges probabilities
        self.temperature_fit: TemperatureFit | None = None  # takes the logits of a test
        self.train_loss.persistent(True)  # a run that is cut inside an epoch goes on with the sums of its first part
        self.train_jaccard.persistent(True)

    def _jaccard(self, num_classes: int) -> JaccardIndex:
        return JaccardIndex(num_classes, ignore_index=self.ignore_index, validate_args=False)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Returns logits (b, num_classes, h, w) of images uint8 (b, 3, h, w), see `model` for those of training."""
        return self.model(image)

    def configure_optimizers(self) -> dict[str, Any]:
        """Builds optimizer and scheduler."""
        optimizer = self.fine_tuning.build_optimizer(self.optimizer, self.model)
        if self.scheduler is None:
            return {"optimizer": optimizer}
        scheduler = self.scheduler(optimizer)
        interval = "step" if isinstance(scheduler, WarmupLR) else "epoch"
        config = {"scheduler": scheduler, "interval": interval, "reduce_on_plateau": False}
        return {"optimizer": optimizer, "lr_scheduler": config}

    def lr_scheduler_step(self, scheduler: LRScheduler, metric: Any) -> None:
        """Steps a scheduler, but one on a plateau only in `on_train_epoch_end`.

        Lightning would step those after the checkpoint is written, which would lose the step on resuming.
        """
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()

    def on_train_start(self) -> None:
        """Begins an epoch that has no start, where a run goes on inside it, and the schedule."""
        self.on_train_epoch_start()
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, WarmupLR):
            # Asked before now, the trainer would start to read before a resumed run knows where it stands.
            scheduler.begin(self.trainer.estimated_stepping_batches, self.trainer.max_epochs)

    def on_train_epoch_start(self) -> None:
        """Freezes what the epoch freezes; the last one is validated, whatever the epochs between validations."""
        self.fine_tuning.freeze(self.model, self.current_epoch)
        if self.current_epoch + 1 == self.trainer.max_epochs:
            self.trainer.check_val_every_n_epoch = 1

    def on_train_batch_start(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Logs the learning rate of the epoch's last batch, which a run that goes on inside the epoch has, too."""
        if self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            lr = self.trainer.optimizers[0].param_groups[0]["lr"]
            self.log("lr", lr, on_step=False, on_epoch=True, reduce_fx="max")

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Returns the loss of one batch of stacked samples."""
        mask = batch["mask"]
        outputs = self(batch["image"])
        logits, *auxiliary = outputs if isinstance(outputs, list) else [outputs]
        loss = self.loss(logits, mask)
        self.train_loss.update(loss.detach(), weight=len(mask))
        self.train_jaccard.update(logits.detach().argmax(1), mask)
        weights = self.model.auxiliary_weights if auxiliary else []
        return loss + sum(weight * self.loss(each, mask) for weight, each in zip(weights, auxiliary, strict=True))

    def on_train_epoch_end(self) -> None:
        """Logs the epoch's training loss and mIoU, and steps a scheduler on a plateau if its value is new."""
        loss = self.train_loss.compute()
        self._refuse_divergence("train/loss", loss)
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/miou", mean_iou(gathered_confusion(self.train_jaccard)), prog_bar=True)
        self.train_loss.reset()
        self.train_jaccard.reset()
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, ReduceLROnPlateau) and (self._validated or not self.monitor.startswith("val/")):
            scheduler.step(self.trainer.callback_metrics[self.monitor])
        self._validated = False

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to replace the last good checkpoint by a diverged network; the sums become those of all processes."""
        if self.train_loss.update_called:
            self._refuse_divergence("train/loss", self.train_loss.compute())
        weights = torch.stack([parameter.detach().sum() for parameter in self.model.parameters()])
        self._refuse_divergence("the sum of all weights", weights.sum())
        checkpoint["num_processes"] = self.trainer.world_size
        for name, metric in self._sums_of_training():
            with metric.sync_context():
                sums = {f"{name}.{key}": value.clone() for key, value in metric.metric_state.items()}
            checkpoint["state_dict"].update(sums)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves the sums to the first process, or they would count once for each."""
        for name, metric in self._sums_of_training() if self.global_rank else ():
            zeros = {f"{name}.{key}": torch.zeros_like(value) for key, value in metric.metric_state.items()}
            checkpoint["state_dict"].update(zeros)

    def _sums_of_training(self) -> list[tuple[str, Metric]]:
        return [("train_loss", self.train_loss), ("train_jaccard", self.train_jaccard)]

    def _refuse_divergence(self, name: str, loss: Tensor) -> None:
        if not math.isfinite(float(loss)):
            raise InputError(
                f"{name} is {float(loss)} in epoch {self.current_epoch}: the training diverged. "
                "The checkpoints of the epochs before are kept; try a smaller optimizer.lr"
            )

    def predict_logits(self, sample: dict[str, Any]) -> Tensor:
        """Returns logits float32 (num_classes, h, w) at the size of the sample's mask; see `data.resize`."""
        logits = self(sample["image"][None]).float()
        if logits.shape[1] != len(self.class_names):
            raise ValueError(f"the head has {logits.shape[1]} outputs for {len(self.class_names)} classes")
        if logits.shape[-2:] != sample["mask"].shape:
            logits = F.interpolate(logits, sample["mask"].shape, mode="bilinear", align_corners=False)
        return logits[0]

    def validation_step(self, batch: list[dict[str, Any]], batch_idx: int) -> None:
        """Adds a list of samples to the validation scores."""
        for sample in batch:
            logits, mask = self.predict_logits(sample), sample["mask"]
            scored = (mask != self.ignore_index).sum()
            self.val_loss.update(self.loss(logits[None], mask[None]), weight=scored)
            self.val_jaccard.update(logits.argmax(0), mask)

    def on_validation_epoch_end(self) -> None:
        """Logs mIoU and the IoU of each class over the whole split, and the images' mean loss by their scored pixels.

        Raises:
            InputError: The network has diverged.
        """
        loss, confusion = self.val_loss.compute(), gathered_confusion(self.val_jaccard)
        self._validated = not self.trainer.sanity_checking
        if self._validated and self.trainer.state.fn == "fit" and confusion.any():  # without a label there is no loss
            self._refuse_divergence("val/loss", loss)
        self.log("val/loss", loss, prog_bar=True)
        self.log("val/miou", mean_iou(confusion), prog_bar=True)
        iou = iou_per_class(confusion).tolist()
        self.log_dict({f"val/iou/{name}": value for name, value in zip(self.class_names, iou, strict=True)})
        self.val_loss.reset()
        self.val_jaccard.reset()

    def test_step(self, batch: list[dict[str, Any]], batch_idx: int) -> list[dict[str, Any]]:
        """Returns for each sample its preds uint8 (h, w), confusion int64 (K, K), loss and number of scored pixels.

        And its boundary and calibration, as `boundary_confusion` and `calibration_sums` return them.
        """
        return [self._test_sample(sample) for sample in batch]

    def _test_sample(self, sample: dict[str, Any]) -> dict[str, Any]:
        logits, mask = self.predict_logits(sample), sample["mask"]
        preds = logits.max(0).indices  # argmax takes several times as long here
        small_preds = preds.to(torch.uint8).cpu()
        if self.temperature_fit is not None:
            self.temperature_fit.update(logits, mask)
        return {
            "preds": small_preds,
            "confusion": confusion_matrix(preds, mask, len(self.class_names), self.ignore_index).cpu(),
            "loss": float(self.loss(logits[None], mask[None])),
            "scored": int((mask != self.ignore_index).sum()),
            "boundary": boundary_confusion(small_preds, mask, len(self.class_names), self.ignore_index),
            "calibration": calibration_sums(logits, preds, mask, self.ignore_index, self.temperature),
        }
