"""Scores of a confusion matrix, the one source of every figure that seglab prints.

A confusion matrix is int64 (K, K), rows the labels and columns the predictions, boundary pixels left out.
"""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix


def confusion_matrix(preds: Tensor, mask: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Returns the confusion matrix int64 (K, K) of predicted and labelled class indices of one shape.

    Raises:
        ValueError: A prediction is outside the classes: the network's head is wider than `num_classes`.
    """
    if preds.numel() and int(preds.max()) >= num_classes:
        raise ValueError(
            f"predicted class {int(preds.max())}, but there are {num_classes} classes: the head is too wide"
        )
    return multiclass_confusion_matrix(
        preds.long(), mask.long(), num_classes, ignore_index=ignore_index, validate_args=False
    ).long()


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
