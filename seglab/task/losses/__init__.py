"""Losses on logits (b, K, h, w) and masks int64 (b, h, w), each a module that returns a scalar.

Each is finite for logits of any precision, takes its sums in float32 or better, leaves the pixels of `ignore_index`
out, and is 0 without a gradient where no pixel is scored.
"""

from seglab.task.losses.cross_entropy import BoundaryCrossEntropy, CrossEntropy, Focal, OhemCrossEntropy
from seglab.task.losses.overlap import Dice, Lovasz
from seglab.task.losses.weighted_sum import WeightedSum

__all__ = ["BoundaryCrossEntropy", "CrossEntropy", "Dice", "Focal", "Lovasz", "OhemCrossEntropy", "WeightedSum"]
