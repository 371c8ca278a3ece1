"""Writes what a test says of a run: scores, one confusion matrix for each image, predictions and pictures."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image

from seglab.task.calibration import calibration_scores
from seglab.task.metrics import iou_per_class, pixel_accuracy
from seglab.task.pictures import UNPREDICTED, overlay, save_confusion, save_mask, save_reliability
from seglab.task.prediction_strips import to_rgb


def scores(confusion: torch.Tensor, class_names: list[str]) -> dict[str, Any]:
    """Returns miou, classes_scored, iou by class name (none where absent) and pixel_accuracy of a matrix (K, K)."""
    return iou_scores(iou_per_class(confusion), class_names) | {"pixel_accuracy": pixel_accuracy(confusion)}


def iou_scores(iou: torch.Tensor, class_names: list[str], prefix: str = "") -> dict[str, Any]:
    """Returns miou, classes_scored and iou by class name (none where absent) of the IoU of the classes, (K,)."""
    values = [None if value != value else value for value in iou.tolist()]
    return {
        f"{prefix}miou": float(torch.nanmean(iou)),
        f"{prefix}classes_scored": sum(value is not None for value in values),
        f"{prefix}iou": dict(zip(class_names, values, strict=True)),
    }


def tables(iou: dict[str, float | None], confusion: torch.Tensor) -> dict[str, dict[str, list[Any]]]:
    """Returns the IoU of each class and the confusion matrix as columns and rows.

    A row of the confusion names label and prediction, the pixels (K, K) that they share, and their part of the label's.
    """
    nan = float("nan")
    pixels, totals = confusion.tolist(), confusion.sum(1).tolist()
    rows = [
        [label, pred, pixels[i][j], pixels[i][j] / totals[i] if totals[i] else nan]
        for i, label in enumerate(iou)
        for j, pred in enumerate(iou)
    ]
    return {
        "iou_per_class": {
            "columns": ["class", "iou"],
            "data": [[name, nan if value is None else value] for name, value in iou.items()],
        },
        "confusion": {"columns": ["label", "prediction", "pixels", "share"], "data": rows},
    }


class EvaluationWriter(pl.Callback):
    """Collects the test of a split and writes its scores, pictures and predictions.

    These are metrics.json, confusion.npz, confusion.png, reliability.png, predictions/ and overlays/.

    Args:
        folder: Where to write.
        split: Name of the split, for the record.
        protocol: Name of the protocol, for the record.
        overlays: Whether to lay the predictions over the photographs, too.
        inference: What sets the way of the images apart from a plain pass through one network, for the record.

    Attributes:
        result: What metrics.json holds, after the test.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str,
        protocol: str,
        overlays: bool = True,
        inference: dict[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.inference = inference or {}
        self.split, self.protocol, self.overlays = split, protocol, overlays
        self.result: dict[str, Any] = {}
        self._images: dict[str, dict[str, Any]] = {}
        self._unfinished = self.folder.with_name(f"{self.folder.name}.unfinished")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Makes the folders, beside those of an earlier evaluation, whose place they take in the end."""
        self._images = {}
        if trainer.is_global_zero:
            shutil.rmtree(self._unfinished, ignore_errors=True)
        trainer.strategy.barrier()
        (self._unfinished / "predictions").mkdir(parents=True, exist_ok=True)
        if self.overlays:
            (self._unfinished / "overlays").mkdir(parents=True, exist_ok=True)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: list[dict[str, Any]],
        batch: list[dict[str, Any]],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes each image's prediction at the label's own size; 255 marks what the protocol leaves out."""
        num_classes = len(pl_module.class_names)
        for sample, output in zip(batch, outputs, strict=True):
            name = sample["name"]
            self._images[name] = {key: value for key, value in output.items() if key != "preds"}
            top, left, height, width = sample["window"]
            preds = np.full(tuple(sample["size"]), UNPREDICTED, dtype=np.uint8)
            preds[top : top + height, left : left + width] = output["preds"].numpy()
            path = self._unfinished / "predictions" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_mask(preds, path, num_classes)
            if self.overlays:
                photograph = Image.fromarray(to_rgb(sample["image"])).resize((width, height), Image.Resampling.BICUBIC)
                picture = overlay(np.asarray(photograph), output["preds"].numpy(), num_classes)
                path = self._unfinished / "overlays" / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(path)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Brings the processes' images together, writes the scores and logs them as test/..."""
        if trainer.world_size > 1:
            parts: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, self._images)
            self._images = {name: image for part in parts for name, image in part.items()}
        names = sorted(self._images)
        found = {key: [self._images[name][key] for name in names] for key in self._images[names[0]]}
        matrices, boundary = (torch.stack(found[key]) for key in ("confusion", "boundary"))
        calibration = sum(found["calibration"])
        confusion, class_names = matrices.sum(0), pl_module.class_names
        self.result = {"split": self.split, "num_images": len(names), "protocol": self.protocol}
        if self.inference:
            self.result["inference"] = self.inference
        self.result |= scores(confusion, class_names)
        labelled = (matrices.sum(2) > 0).sum(0).tolist()
        self.result["images_with"] = dict(zip(class_names, labelled, strict=True))
        losses, pixels = found["loss"], found["scored"]
        self.result["loss"] = float(np.average(losses, weights=pixels)) if sum(pixels) else None
        self.result |= iou_scores(iou_per_class(boundary.sum(0))[:-1], class_names, "boundary_")
        self.result |= calibration_scores(calibration)
        if trainer.is_global_zero:
            folder = self._unfinished
            of_images = {"confusion": matrices.numpy(), "boundary": boundary.numpy()}
            np.savez_compressed(folder / "confusion.npz", names=np.array(names), **of_images)
            title = f"{self.split}: mIoU {self.result['miou']:.4f}, {len(names)} images, {self.protocol}"
            save_confusion(confusion.numpy(), class_names, folder / "confusion.png", title)
            save_reliability(calibration, folder / "reliability.png", self._calibration_title())
            (folder / "metrics.json").write_text(json.dumps(self.result, indent=2) + "\n")
            self._take_the_place()
        for key in ("miou", "loss", "pixel_accuracy", "boundary_miou", "ece", "nll"):
            value = self.result[key]
            pl_module.log(f"test/{key}", float("nan") if value is None else value)
        iou = {f"test/iou/{name}": float("nan") if v is None else v for name, v in self.result["iou"].items()}
        pl_module.log_dict(iou)
        for logger in trainer.loggers:
            if hasattr(logger, "log_table"):  # that of Weights & Biases
                for name, table in tables(self.result["iou"], confusion).items():
                    logger.log_table(f"{self.split}/{name}", **table)

    def _take_the_place(self) -> None:
        """Puts what was written in the place of an earlier evaluation, whose scores go first and come last."""
        for name in ("metrics.json", "confusion.npz"):
            (self.folder / name).unlink(missing_ok=True)
        for name in ("predictions", "overlays"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self.folder.mkdir(exist_ok=True)
        for path in sorted(self._unfinished.iterdir(), key=lambda path: path.name == "metrics.json"):
            path.replace(self.folder / path.name)
        self._unfinished.rmdir()

    def _calibration_title(self) -> str:
        if self.result["ece"] is None:
            return f"{self.split}: no pixel is scored"
        temperature = self.inference.get("temperature")
        with_it = "" if temperature is None else f", temperature {temperature:.4g}"
        return f"{self.split}: ECE {self.result['ece']:.4f}, NLL {self.result['nll']:.4f}{with_it}"
