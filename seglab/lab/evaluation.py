"""One evaluation of a run: its confusion matrices and what metrics.json says of them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seglab.lab.bootstrap import BOUNDARY


@dataclass(frozen=True)
class Evaluation:
    """A run's scores on one split.

    Attributes:
        metrics: what metrics.json holds.
        names: of the images, str (N,), sorted.
        confusion: one matrix for each image, int64 (N, K, K), rows the labels and columns the predictions.
        boundary: the same of contours, int64 (N, K + 1, K + 1), the last row and column for pixels far from any; none
            in evaluations of an older version.
    """

    metrics: dict[str, Any]
    names: np.ndarray
    confusion: np.ndarray
    boundary: np.ndarray | None = None

    @property
    def class_names(self) -> list[str]:
        """Names of the K classes."""
        return list(self.metrics["iou"])

    @property
    def images_with(self) -> list[int]:
        """In how many images each of the K classes is labelled, also of evaluations older than the key of that name."""
        return (self.confusion.sum(2) > 0).sum(0).tolist()

    def matrices(self, metric: str) -> np.ndarray | None:
        """Returns the matrices that a metric is read from; none where they were not kept."""
        return self.boundary if metric.startswith(BOUNDARY) else self.confusion


def read_evaluation(folder: Path) -> Evaluation:
    """Reads metrics.json and confusion.npz of a folder.

    Raises:
        FileNotFoundError: One of them is missing.
        ValueError, TypeError, KeyError, OSError, EOFError, BadZipFile, zlib.error: One is damaged, or they are not of
            the same images and classes.
    """
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    if missing := [key for key in ("split", "protocol", "iou") if key not in dict(metrics)]:
        raise ValueError(f"metrics.json: {missing[0]} is missing")
    with np.load(folder / "confusion.npz", allow_pickle=False) as arrays:
        read = Evaluation(metrics, arrays["names"], arrays["confusion"], arrays.get("boundary"))
    images, classes = len(read.names), len(dict(metrics["iou"]))
    for matrices, size in ((read.confusion, classes), (read.boundary, classes + 1)):
        if matrices is not None and matrices.shape != (images, size, size):
            raise ValueError(f"confusion.npz: matrices {matrices.shape} of {images} images and {classes} classes")
    return read
