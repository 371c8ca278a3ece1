"""Pictures of what the network sees: fixed validation images, their labels and the predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image

from seglab.errors import InputError
from seglab.task.pictures import strips

Row = tuple[str, np.ndarray, np.ndarray, np.ndarray]  # name, image uint8 (h, w, 3), mask and preds uint8 (h, w)


def to_rgb(image: torch.Tensor) -> np.ndarray:
    """Returns an image uint8 (3, h, w) as an array (h, w, 3)."""
    return image.permute(1, 2, 0).cpu().numpy()


def layered_images(rows: Sequence[Row], class_names: Sequence[str]) -> dict[str, list[Any]]:
    """Returns images with label and prediction as layers over them, in the words of a logger's `log_image`.

    The masks have the image's size, to which they are brought where it was shrunk, and tell what their values mean.
    """
    labels = dict(enumerate([*class_names, "boundary"]))

    def layer(mask: np.ndarray, image: np.ndarray) -> dict[str, Any]:
        fitted = Image.fromarray(mask).resize((image.shape[1], image.shape[0]), Image.Resampling.NEAREST)
        return {"mask_data": np.asarray(fitted), "class_labels": labels}

    return {
        "images": [Image.fromarray(image) for _, image, _, _ in rows],
        "caption": [name for name, _, _, _ in rows],
        "masks": [{"label": layer(mask, image), "prediction": layer(preds, image)} for _, image, mask, preds in rows],
        "file_type": ["jpg"] * len(rows),
    }


class PredictionStrips(pl.Callback):
    """Draws rows of image | label | prediction to the run's folder and to every logger that takes images.

    A logger with `log_image`, which is that of Weights & Biases, gets the images with the masks as layers.

    Args:
        folder: Where the pictures go, as epoch-<number>.png, counted from 1.
        num_images: How many validation images; spread evenly over the split, the same in every epoch.
        every_n_epochs: How often: the first validation is drawn, the first from each of these epochs on, and the last
            that `max_epochs` allows.

    Raises:
        InputError: A number is below 1.
    """

    def __init__(self, folder: str | Path, num_images: int = 6, every_n_epochs: int = 10) -> None:
        for key, value in {"num_images": num_images, "every_n_epochs": every_n_epochs}.items():
            if value < 1:
                raise InputError(f"callbacks.strips.{key}={value}: give 1 or more, or callbacks.strips=null for none")
        self.folder = Path(folder)
        self.num_images = num_images
        self.every_n_epochs = every_n_epochs

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws the epoch's picture, once the epoch's scores are logged: loggers put it to the epoch logged last."""
        epoch = trainer.current_epoch + 1
        if trainer.sanity_checking or not self._is_due(epoch, trainer) or not trainer.is_global_zero:
            return
        dataset = trainer.val_dataloaders.dataset
        chosen = np.linspace(0, len(dataset) - 1, min(self.num_images, len(dataset))).round().astype(int)
        rows = [self._row(pl_module, dataset[index]) for index in chosen]
        sheet = strips(rows, pl_module.class_names)
        self.folder.mkdir(parents=True, exist_ok=True)
        sheet.save(self.folder / f"epoch-{epoch:04d}.png")
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("predictions", **layered_images(rows, pl_module.class_names))
            elif hasattr(logger.experiment, "add_image"):
                logger.experiment.add_image("predictions", np.asarray(sheet), trainer.global_step, dataformats="HWC")

    def _is_due(self, epoch: int, trainer: pl.Trainer) -> bool:
        before, after = epoch - trainer.check_val_every_n_epoch, epoch + trainer.check_val_every_n_epoch
        return before <= 0 or after > trainer.max_epochs or epoch // self.every_n_epochs > before // self.every_n_epochs

    @staticmethod
    def _row(task: pl.LightningModule, sample: dict) -> Row:
        moved = {"image": sample["image"].to(task.device), "mask": sample["mask"]}
        with torch.no_grad(), task.trainer.precision_plugin.forward_context():
            preds = task.predict_logits(moved).argmax(0).to(torch.uint8).cpu().numpy()
        return sample["name"], to_rgb(sample["image"]), sample["mask"].numpy().astype(np.uint8), preds
