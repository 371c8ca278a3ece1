"""Losses on logits and integer masks; each is finite on a batch without one scored pixel."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CrossEntropy(nn.Module):
    """Pixel-wise cross entropy, averaged over the scored pixels with their class weights.

    Args:
        ignore_index: Mask value that is left out.
        class_weights: One weight for each class, or none for equal weights.
    """

    def __init__(self, ignore_index: int, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights)  # in the checkpoint, as evaluation does not compute them again

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Returns the scalar loss of logits (b, num_classes, h, w) and mask int64 (b, h, w); 0 if nothing is scored."""
        logits = logits.float()
        total = F.cross_entropy(logits, mask, self.class_weights, ignore_index=self.ignore_index, reduction="sum")
        scored = mask != self.ignore_index
        if self.class_weights is None:
            return total / scored.sum().clamp(min=1)
        weight = self.class_weights[mask[scored]].sum()
        return total / torch.where(weight > 0, weight, 1.0)
