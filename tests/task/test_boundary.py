"""Boundary IoU, against the paper's definition pixel by pixel."""

import math

import cv2
import numpy as np
import pytest
import torch

from seglab.task.boundary import boundary_confusion
from seglab.task.metrics import iou_per_class

K, IGNORED = 4, 4


def blobs(seed, shape, classes=range(K)):
    """Class indices in smooth areas."""
    noise = np.random.default_rng(seed).random((len(classes), *shape), dtype=np.float32)
    smooth = np.stack([cv2.GaussianBlur(each, (0, 0), 5) for each in noise])
    return np.asarray(classes)[smooth.argmax(0)]


def brute_force(preds, mask):
    """Intersection and union (K,) from the distance of each pixel to everything that is not its class."""
    height, width = mask.shape
    reach = max(1, round(0.02 * math.hypot(height, width)))
    hits, unions = np.zeros(K, int), np.zeros(K, int)
    for label in range(K):
        near = []
        for classes in (mask, preds):
            inside = np.zeros((height + 2 * reach, width + 2 * reach), bool)
            inside[reach:-reach, reach:-reach] = (classes == label) & (mask != IGNORED)
            windows = np.lib.stride_tricks.sliding_window_view(inside, (2 * reach + 1, 2 * reach + 1))
            near.append(inside[reach:-reach, reach:-reach] & ~windows.all((2, 3)))
        hits[label], unions[label] = (near[0] & near[1]).sum(), (near[0] | near[1]).sum()
    return hits, unions


@pytest.mark.parametrize("shape", [(80, 110), (130, 64), (9, 7)])
def test_it_is_that_of_the_definition(shape):
    mask, preds = blobs(0, shape), blobs(1, shape)
    preds = np.where(blobs(2, shape) < 2, mask, preds)
    mask[blobs(3, shape) == 0] = IGNORED
    found = boundary_confusion(torch.tensor(preds, dtype=torch.uint8), torch.tensor(mask), K, IGNORED)
    hits, unions = brute_force(preds, mask)
    assert found.dtype == torch.int64 and found.sum() == (mask != IGNORED).sum()
    assert found.diagonal()[:K].tolist() == hits.tolist()
    assert (found.sum(0) + found.sum(1) - found.diagonal())[:K].tolist() == unions.tolist()
    np.testing.assert_allclose(iou_per_class(found)[:K], hits / np.where(unions, unions, np.nan), rtol=1e-12)


def test_of_one_class_it_is_the_mask_less_the_mask_eroded_as_often_as_the_reach():
    mask, preds = (blobs(seed, (120, 90), [0, 1]).astype(np.uint8) for seed in (0, 1))
    near = []
    for each in (mask, preds):
        eroded = cv2.erode(np.pad(each, 1), np.ones((3, 3), np.uint8), iterations=3)  # 3 px are 2 % of 150
        near.append((each - eroded[1:-1, 1:-1]).astype(bool))
    found = boundary_confusion(torch.tensor(preds), torch.tensor(mask).long(), K, IGNORED)
    expected = (near[0] & near[1]).sum() / (near[0] | near[1]).sum()
    assert iou_per_class(found)[1].item() == pytest.approx(expected)


def test_a_perfect_prediction_is_1_and_what_is_predicted_for_left_out_pixels_has_no_effect():
    mask = blobs(0, (80, 110))
    mask[blobs(3, (80, 110)) == 0] = IGNORED
    found = [
        boundary_confusion(
            torch.tensor(np.where(mask == IGNORED, blobs(seed, mask.shape), mask)), torch.tensor(mask), K, K
        )
        for seed in (1, 2)
    ]
    assert torch.equal(*found)
    assert iou_per_class(found[0]).tolist() == [1.0] * (K + 1)


def test_a_shifted_object_loses_more_at_its_boundary_than_inside():
    mask, preds = np.zeros((200, 200), np.int64), np.zeros((200, 200), np.int64)
    mask[50:150, 50:150], preds[52:152, 50:150] = 1, 1
    boundary = iou_per_class(boundary_confusion(torch.tensor(preds), torch.tensor(mask), K, IGNORED))
    assert boundary[1] < 0.75 < 98 / 102 and boundary[2:K].isnan().all()
