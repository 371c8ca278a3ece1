"""What every loss knows: the mask value that is left out, and the weight of each class."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ClassWeighted(nn.Module):
    """A loss that leaves the pixels of `ignore_index` out and may weigh the classes.

    Args:
        ignore_index: Mask value that is left out.
        class_weights: One weight of 0 or more for each class, or none for equal weights.

    Raises:
        ValueError: A weight is negative, infinite or no number.
    """

    def __init__(self, ignore_index: int, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.register_buffer("class_weights", None)  # in the checkpoint, as evaluation does not compute them again
        if class_weights is not None:
            self.set_class_weights(class_weights)

    def set_class_weights(self, class_weights: Sequence[float]) -> None:
        """Takes one weight for each class; raises ValueError as the constructor does."""
        if not all(isinstance(weight, int | float) and 0 <= weight < math.inf for weight in class_weights):
            raise ValueError(f"class_weights={class_weights}: give a number of 0 or more for each class")
        self.class_weights = torch.tensor(class_weights, dtype=torch.float32)

    def pixel_weights(self, mask: Tensor) -> Tensor:
        """Returns for each pixel (b, h, w) the weight of its class, 0 where it is left out."""
        scored = mask != self.ignore_index
        if self.class_weights is None:
            return scored.float()
        return full_precision(self.class_weights)[mask * scored] * scored

    def one_hot(self, mask: Tensor, num_classes: int) -> Tensor:
        """Returns bool (b, num_classes, h, w): where each class is labelled; nowhere is a pixel that is left out."""
        classes = torch.arange(num_classes, device=mask.device)[:, None, None]
        return (mask[:, None] == classes) & (mask != self.ignore_index)[:, None]

    def class_mean(self, losses: Tensor, present: Tensor) -> Tensor:
        """Returns the mean of the losses (k,) of the k classes that are present, bool (num_classes,)."""
        weights = torch.ones_like(losses) if self.class_weights is None else full_precision(self.class_weights)[present]
        return weighted_mean(losses, weights)


def full_precision(values: Tensor) -> Tensor:
    """Returns the values in float32, or in float64 where they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Returns sum(weights * values) / sum(weights), and 0 without a gradient where all weights are 0."""
    return divide((weights * values).sum(), weights.sum())


def divide(total: Tensor, weight: Tensor) -> Tensor:
    """Returns total / weight, and 0 without a gradient where the weight is 0."""
    return torch.where(weight > 0, total, 0) / torch.where(weight > 0, weight, 1)
