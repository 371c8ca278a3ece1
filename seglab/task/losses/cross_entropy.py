"""Cross entropy of each pixel, and what turns it to the hard pixels and to those near boundaries."""

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from seglab.task.losses.class_weighted import ClassWeighted, divide, full_precision, weighted_mean


class CrossEntropy(ClassWeighted):
    """Pixel-wise cross entropy, averaged over the scored pixels with their class weights.

    Args:
        ignore_index: Mask value that is left out.
        class_weights: One weight of 0 or more for each class, or none for equal weights.
        label_smoothing: Share of each label, 0 to 1, that goes to all classes alike (Szegedy et al., 2015,
            arXiv:1512.00567); none is 0. A pixel counts with the weight of its label's class, unlike in torch.

    Raises:
        ValueError: A parameter is outside its range.
    """

    def __init__(
        self, ignore_index: int, class_weights: Sequence[float] | None = None, label_smoothing: float | None = None
    ) -> None:
        super().__init__(ignore_index, class_weights)
        self.label_smoothing = label_smoothing or 0.0
        if not 0 <= self.label_smoothing <= 1:
            raise ValueError(f"label_smoothing={label_smoothing}: give a share from 0 to 1")

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Returns the scalar loss of logits (b, num_classes, h, w) and mask int64 (b, h, w); 0 if nothing is scored."""
        logits, weights = full_precision(logits), self.class_weights
        options = {"ignore_index": self.ignore_index, "label_smoothing": self.label_smoothing}
        if self.label_smoothing and weights is not None:
            # torch would weight the share that goes to a class by the weight of that class, not by the label's: with
            # weights as far apart as inverse areas, a rare class would be the best answer for a frequent one's pixels.
            return weighted_mean(
                F.cross_entropy(logits, mask, reduction="none", **options), self.pixel_weights(mask).to(logits.dtype)
            )
        weights = None if weights is None else weights.to(logits.dtype)
        # summed here: on a GPU torch's own sum of this loss is none that `trainer.deterministic` allows
        losses = F.cross_entropy(logits, mask, weights, reduction="none", **options)
        return divide(losses.sum(), self.pixel_weights(mask).sum())


def pixel_losses(logits: Tensor, mask: Tensor, ignore_index: int) -> Tensor:
    """Returns the cross entropy of each pixel (b, h, w), 0 where it is left out."""
    return F.cross_entropy(full_precision(logits), mask, ignore_index=ignore_index, reduction="none")


class Focal(ClassWeighted):
    """Focal loss on the softmax: cross entropy times (1 - p)^gamma, p the probability of the label's class.

    Pixels that are right already hardly count, so that a large easy background does not drown the rest. The class
    weights are the paper's alpha. Lin et al., 2017, arXiv:1708.02002.

    Args:
        ignore_index: Mask value that is left out.
        class_weights: One weight of 0 or more for each class, or none for equal weights.
        gamma: Focus on what is wrong, 0 or more; 0 is cross entropy.

    Raises:
        ValueError: A parameter is outside its range.
    """

    def __init__(self, ignore_index: int, class_weights: Sequence[float] | None = None, gamma: float = 2.0) -> None:
        super().__init__(ignore_index, class_weights)
        if not 0 <= gamma < math.inf:
            raise ValueError(f"gamma={gamma}: give a number of 0 or more")
        self.gamma = gamma

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Returns the scalar loss of logits (b, num_classes, h, w) and mask int64 (b, h, w); 0 if nothing is scored."""
        losses = pixel_losses(logits, mask, self.ignore_index)
        wrong = -torch.expm1(-losses)  # 1 - p, exact for p near 1
        wrong = wrong.clamp(min=torch.finfo(wrong.dtype).tiny)  # at 0 a gamma below 1 has an infinite gradient
        return weighted_mean(wrong**self.gamma * losses, self.pixel_weights(mask))


class OhemCrossEntropy(ClassWeighted):
    """Cross entropy of the hard pixels alone: online hard example mining.

    Hard is a pixel whose class has a probability of at most `threshold`; where these are too few, the pixels of the
    highest loss join them. Shrivastava et al., 2016, arXiv:1604.03540; for pixels Wu et al., 2016, arXiv:1605.06885.

    Args:
        ignore_index: Mask value that is left out.
        class_weights: One weight of 0 or more for each class, or none for equal weights; they do not change what is
            hard.
        threshold: Probability up to which a pixel is hard, above 0 to 1; 1 is cross entropy.
        min_kept: Share of the batch's scored pixels, 0 to 1, that are kept at least.

    Raises:
        ValueError: A parameter is outside its range.
    """

    def __init__(
        self,
        ignore_index: int,
        class_weights: Sequence[float] | None = None,
        threshold: float = 0.7,
        min_kept: float = 0.0625,
    ) -> None:
        super().__init__(ignore_index, class_weights)
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold={threshold}: give a probability above 0, up to 1")
        if not 0 <= min_kept <= 1:
            raise ValueError(f"min_kept={min_kept}: give a share from 0 to 1")
        self.threshold = threshold
        self.min_kept = min_kept

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Returns the scalar loss of logits (b, num_classes, h, w) and mask int64 (b, h, w); 0 if nothing is scored."""
        losses = pixel_losses(logits, mask, self.ignore_index)
        scored = losses.detach()[mask != self.ignore_index]  # (n,)
        highest = scored.topk(math.ceil(self.min_kept * len(scored))).values
        least = torch.cat([highest, highest.new_tensor([-math.log(self.threshold)])]).min()
        return weighted_mean(losses, self.pixel_weights(mask) * (losses >= least))


class BoundaryCrossEntropy(ClassWeighted):
    """Cross entropy in which pixels near a boundary of the mask weigh more.

    A pixel's weight is 1 + boundary_weight * exp(-d^2 / (2 sigma^2)), times that of its class, where d is the distance
    in pixels to the nearest pixel that touches another mask value; the pixels that are left out are such a value, as
    datasets mark the borders of objects by them. After the weight map of Ronneberger et al., 2015, arXiv:1505.04597.

    Args:
        ignore_index: Mask value that is left out.
        class_weights: One weight of 0 or more for each class, or none for equal weights.
        boundary_weight: What a pixel at a boundary weighs more than one far from it, 0 or more; 0 is cross entropy.
        sigma: Reach of a boundary in pixels, above 0; beyond 3 sigma it has no effect.

    Raises:
        ValueError: A parameter is outside its range.
    """

    def __init__(
        self,
        ignore_index: int,
        class_weights: Sequence[float] | None = None,
        boundary_weight: float = 5.0,
        sigma: float = 2.0,
    ) -> None:
        super().__init__(ignore_index, class_weights)
        if not 0 <= boundary_weight < math.inf:
            raise ValueError(f"boundary_weight={boundary_weight}: give a number of 0 or more")
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma={sigma}: give a number of pixels above 0")
        self.boundary_weight = boundary_weight
        self.sigma = sigma

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Returns the scalar loss of logits (b, num_classes, h, w) and mask int64 (b, h, w); 0 if nothing is scored."""
        weights = self.pixel_weights(mask) * (1 + self.boundary_weight * boundary_proximity(mask, self.sigma))
        return weighted_mean(pixel_losses(logits, mask, self.ignore_index), weights)


def boundary_proximity(mask: Tensor, sigma: float) -> Tensor:
    """Returns exp(-d^2 / (2 sigma^2)) for each pixel (b, h, w), d its distance to the nearest boundary; 0 if far."""
    highest, lowest = (sign * F.max_pool2d(sign * mask.float(), 3, stride=1, padding=1) for sign in (1, -1))
    near = (highest != lowest).float()  # another mask value among the eight neighbours
    radius = math.ceil(3 * sigma)
    falloff = [math.exp(-0.5 * (step / sigma) ** 2) for step in range(-radius, radius + 1)]
    near = F.pad(near, [radius] * 4)
    for dim in (1, 2):  # a Gaussian of the distance is the product of those of its two directions
        size = mask.shape[dim]
        near = reduce(torch.maximum, (value * near.narrow(dim, k, size) for k, value in enumerate(falloff)))
    return near
