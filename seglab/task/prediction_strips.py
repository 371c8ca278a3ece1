"""Pictures of what the network sees: fixed validation images, their labels and the predictions."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

from seglab.task.pictures import strips


def to_rgb(image: torch.Tensor) -> np.ndarray:
    """Returns an image uint8 (3, h, w) as an array (h, w, 3)."""
    return image.permute(1, 2, 0).cpu().numpy()


class PredictionStrips(pl.Callback):
    """Draws rows of image | label | prediction to the run's folder and to every logger that takes images.

    Args:
        folder: Where the pictures go, as epoch-<number>.png, counted from 1.
        num_images: How many validation images; spread evenly over the split, the same in every epoch.
        every_n_epochs: How often; the last epoch is always drawn.
    """

    def __init__(self, folder: str | Path, num_images: int = 6, every_n_epochs: int = 10) -> None:
        self.folder = Path(folder)
        self.num_images = num_images
        self.every_n_epochs = every_n_epochs

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws the epoch's picture."""
        epoch = trainer.current_epoch + 1
        due = epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs
        if trainer.sanity_checking or not due or not trainer.is_global_zero:
            return
        dataset = trainer.val_dataloaders.dataset
        chosen = np.linspace(0, len(dataset) - 1, min(self.num_images, len(dataset))).round().astype(int)
        sheet = strips([self._row(pl_module, dataset[index]) for index in chosen], pl_module.class_names)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"epoch-{epoch:04d}.png"
        sheet.save(path)
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("predictions", [str(path)], caption=[f"epoch {epoch}"])
            elif hasattr(logger.experiment, "add_image"):
                logger.experiment.add_image("predictions", np.asarray(sheet), trainer.global_step, dataformats="HWC")

    @staticmethod
    def _row(task: pl.LightningModule, sample: dict) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
        moved = {"image": sample["image"].to(task.device), "mask": sample["mask"]}
        with torch.no_grad(), task.trainer.precision_plugin.forward_context():
            preds = task.predict_logits(moved).argmax(0).to(torch.uint8).cpu().numpy()
        return sample["name"], to_rgb(sample["image"]), sample["mask"].numpy().astype(np.uint8), preds
