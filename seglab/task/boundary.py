"""Boundary IoU: intersection over union of the pixels near the contours of label and prediction."""

import math

import cv2
import numpy as np
import torch
from torch import Tensor

DILATION_RATIO = 0.02  # of the image's diagonal, the paper's
_NO_CLASS = 0


def boundary_confusion(preds: Tensor, mask: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Counts labels against predictions where only pixels near a contour keep their class.

    A pixel is near the contour of its class where another class, a pixel that is left out, or the outside of the image
    lies within 2 % of the image's diagonal, in a square. What is predicted for pixels that are left out has no effect.
    The first K values of `iou_per_class` are the boundary IoU of the classes. Cheng et al., 2021, arXiv:2103.16562.

    Args:
        preds: Class indices (h, w).
        mask: Labels (h, w).
        num_classes: K, at most 254.
        ignore_index: Mask value that is left out.

    Returns:
        int64 (K + 1, K + 1), rows the labels and columns the predictions, the last for pixels far from any contour.
    """
    labels, preds = mask.cpu().numpy(), preds.cpu().numpy()
    scored = labels != ignore_index
    reach = max(1, round(DILATION_RATIO * math.hypot(*mask.shape)))
    rows, columns = (_near_contours(each, scored, reach, num_classes)[scored] for each in (labels, preds))
    count = num_classes + 1
    pairs = np.bincount(rows * np.intp(count) + columns, minlength=count**2)
    return torch.from_numpy(pairs.reshape(count, count))


def _near_contours(classes: np.ndarray, scored: np.ndarray, reach: int, num_classes: int) -> np.ndarray:
    """Returns classes uint8 (h, w), `num_classes` where the same class is all around."""
    shifted = np.where(scored, classes + 1, _NO_CLASS).astype(np.uint8)
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    lowest = cv2.erode(shifted, square, borderType=cv2.BORDER_CONSTANT, borderValue=_NO_CLASS)
    return np.where(lowest != cv2.dilate(shifted, square), shifted - 1, num_classes).astype(np.uint8)
