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
        probs = full_precision(logits).softmax(1)
        target = self.one_hot(mask, logits.shape[1]).to(probs.dtype)
        scored = (mask != self.ignore_index)[:, None]
        intersection, predicted, labelled = (part.sum((0, 2, 3)) for part in (probs * target, probs * scored, target))
        present = labelled > 0
        losses = 1 - 2 * intersection[present] / (predicted + labelled)[present]
        return self.class_mean(losses, present)


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
        scored = (mask != self.ignore_index).flatten()
        classes = zip(probs.unbind(1), target.unbind(1), present.tolist(), strict=True)
        losses = [lovasz(prob.flatten(), true.flatten(), scored) for prob, true, there in classes if there]
        # Without a scored pixel the loss is still a function of the logits, so that it can go backward.
        return self.class_mean(torch.stack(losses) if losses else probs[:0].flatten(), present)


def lovasz(probs: Tensor, target: Tensor, scored: Tensor) -> Tensor:
    """Returns the loss of one class from its probabilities, its labels and which pixels are scored, all (n,)."""
    errors = torch.where(target, 1 - probs, probs) * scored
    return (errors * steps_of_errors(errors.detach(), target)).sum()


def steps_of_errors(errors: Tensor, target: Tensor) -> Tensor:
    """Returns by how much 1 - IoU grows with each pixel when those of larger errors (n,) are wrong already, (n,)."""
    order = descending_order(errors)
    return torch.empty_like(errors).scatter_(0, order, jaccard_steps(target[order]).to(errors.dtype))


def descending_order(values: Tensor) -> Tensor:
    """Returns the places, int64 (n,), of the values (n,), none below 0, from the largest to the least."""
    if values.device.type == "cpu" and values.dtype == torch.float32:
        # As integers, whose order is that of floats of 0 or more: PyTorch sorts those by digits, many times as fast.
        return (torch.iinfo(torch.int32).max - values.abs().view(torch.int32)).argsort(stable=True)
    return values.argsort(descending=True)


def jaccard_steps(target: Tensor) -> Tensor:
    """Returns by how much 1 - IoU grows as pixel after pixel is predicted wrong, bool (n,) to float (n,)."""
    intersection = target.sum(dtype=torch.int32) - target.cumsum(0, dtype=torch.int32)
    union = intersection + torch.arange(1, len(target) + 1, dtype=torch.int32, device=target.device)
    # A miss takes 1 from the intersection; a false alarm adds 1 to the union: I / (U - 1) - I / U = I / (U - 1) / U.
    return torch.where(target, 1, intersection / (union - 1).clamp(min=1)) / union
