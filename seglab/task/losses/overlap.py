"""Losses on the overlap of whole classes, which a rare class weighs in as much as a frequent one."""

import torch
from torch import Tensor

from seglab.task.losses.class_weighted import ClassWeighted, full_precision


class Dice(ClassWeighted):
    """Soft Dice loss: 1 - 2 |P and T| / (|P| + |T|) of each class, averaged over the classes of the batch.

    |P| is the sum of a class's probabilities and |T| the number of its labels, over the scored pixels of the batch.
    Milletari et al., 2016, arXiv:1606.04797, with |P| not squared, as Sudre et al., 2017, arXiv:1707.03237.

    Args:
        ignore_index: Mask value that is left out.
        class_weights: One weight of 0 or more for each class, or none for equal weights.

    Raises:
        ValueError: A class weight is negative, infinite or no number.
    """

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Returns the loss, 0 to 1, of logits (b, num_classes, h, w) and mask int64 (b, h, w); 0 if none is scored."""
        target = self.one_hot(mask, logits.shape[1])
        probs = full_precision(logits).softmax(1) * (mask != self.ignore_index)[:, None]
        present = target.any(dim=(0, 2, 3))
        intersection, predicted, labelled = (
            part.sum((0, 2, 3))[present] for part in (probs * target, probs, target)
        )  # (k,)
        return self.class_mean(1 - 2 * intersection / (predicted + labelled), present)


class Lovasz(ClassWeighted):
    """Lovasz-softmax: the convex extension of 1 - IoU of each class, averaged over the classes of the batch.

    It follows the IoU of the whole batch, which is what is reported, and is often added to cross entropy. Berman et
    al., 2018, arXiv:1705.08790.

    Args:
        ignore_index: Mask value that is left out.
        class_weights: One weight of 0 or more for each class, or none for equal weights.

    Raises:
        ValueError: A class weight is negative, infinite or no number.
    """

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Returns the loss, 0 to 1, of logits (b, num_classes, h, w) and mask int64 (b, h, w); 0 if none is scored."""
        target = self.one_hot(mask, logits.shape[1])
        probs = full_precision(logits).softmax(1)
        present = target.any(dim=(0, 2, 3))
        target, probs = (part.movedim(1, 0)[present].flatten(1) for part in (target, probs))  # (k, b * h * w)
        errors = torch.where(target, 1 - probs, probs) * (mask != self.ignore_index).flatten()
        errors, order = errors.sort(dim=1, descending=True)
        losses = (errors * jaccard_steps(target.gather(1, order))).sum(1)
        return self.class_mean(losses, present)


def jaccard_steps(target: Tensor) -> Tensor:
    """Returns by how much 1 - IoU grows as pixel after pixel is predicted wrong, bool (k, n) to (k, n)."""
    labelled = target.sum(1, keepdim=True, dtype=torch.int32)
    intersection = labelled - target.cumsum(1, dtype=torch.int32)
    union = intersection + torch.arange(1, target.shape[1] + 1, dtype=torch.int32, device=target.device)
    # A miss takes 1 from the intersection; a false alarm adds 1 to the union: I / (U - 1) - I / U = I / (U - 1) / U.
    return torch.where(target, 1, intersection / (union - 1).clamp(min=1)) / union
