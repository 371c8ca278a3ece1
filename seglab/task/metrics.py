"""Scores of a confusion matrix, the one source of every figure that seglab prints.

A confusion matrix is int64 (K, K), rows the labels and columns the predictions, boundary pixels left out.
"""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassJaccardIndex


def confusion_matrix(preds: Tensor, mask: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Returns the confusion matrix int64 (K, K) of predicted and labelled class indices of one shape.

    Raises:
        ValueError: A prediction is outside the classes: the network's head is wider than `num_classes`.
    """
    if preds.numel() and int(preds.max()) >= num_classes:
        raise ValueError(
            f"predicted class {int(preds.max())}, but there are {num_classes} classes: the head is too wide"
        )
    pairs = torch.where(mask == ignore_index, num_classes**2, mask.long() * num_classes + preds.long())
    return torch.bincount(pairs.flatten(), minlength=num_classes**2 + 1)[:-1].view(num_classes, num_classes)


def iou_per_class(confusion: Tensor) -> Tensor:
    """Returns intersection over union float64 (K,); NaN for a class that is neither labelled nor predicted."""
    confusion = confusion.double()
    intersection = confusion.diagonal()
    return intersection / (confusion.sum(0) + confusion.sum(1) - intersection)


def mean_iou(confusion: Tensor) -> float:
    """Returns the mean of the classes' IoU in [0, 1], classes with an empty union left out; NaN if all are."""
    return float(torch.nanmean(iou_per_class(confusion)))


def pixel_accuracy(confusion: Tensor) -> float:
    """Returns the share of scored pixels that are predicted right, in [0, 1]; NaN if none is scored."""
    return float(confusion.diagonal().sum().double() / confusion.sum().double())


class JaccardIndex(MulticlassJaccardIndex):
    """torchmetrics' own, counted by `confusion_matrix`.

    The counting of torchmetrics 1.9 takes some three times as long, and with deterministic algorithms, which
    `trainer.deterministic` asks for, memory for K² numbers a pixel.
    """

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds predicted and labelled class indices of one shape."""
        self.confmat += confusion_matrix(preds, target, self.num_classes, self.ignore_index)


class WeightedMean(Metric):
    """Mean over all processes that keeps NaN, so that a divergence shows; it is NaN without any weight, too.

    The MeanMetric of torchmetrics 1.9 either drops NaN or, with `nan_strategy="disable"`, the weights.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("mean_value", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("weight", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, value: Tensor, weight: Tensor | float) -> None:
        """Adds a scalar with its weight."""
        self.mean_value += value * weight
        self.weight += weight

    def compute(self) -> Tensor:
        """Returns the mean of all values so far."""
        return self.mean_value / self.weight
