import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from seglab.task.metrics import JaccardIndex, WeightedMean, confusion_matrix, iou_per_class, mean_iou, pixel_accuracy

K = 9


def numpy_confusion(preds, mask):
    confusion = np.zeros((K, K), np.int64)
    for label, predicted in zip(mask.ravel(), preds.ravel(), strict=True):
        if label != K:
            confusion[label, predicted] += 1
    return confusion


def numpy_iou(preds, mask):
    scored = mask != K
    values = []
    for index in range(K):
        labelled, predicted = (mask == index) & scored, (preds == index) & scored
        union = (labelled | predicted).sum()
        values.append((labelled & predicted).sum() / union if union else math.nan)
    return np.array(values)


@pytest.fixture(params=[range(K), [0, 2, 3, 8], [5]], ids=["all", "some", "one"])
def labelled(request):
    """Predictions and labels of some of the classes, a good part of the pixels left out."""
    rng = np.random.default_rng(0)
    mask, preds = rng.choice([*request.param, K], (2, 20, 31)), rng.choice(request.param, (2, 20, 31))
    return np.where(rng.random(mask.shape) < 0.5, preds, mask), preds


def test_scores_equal_an_independent_computation(labelled):
    mask, preds = labelled
    confusion = confusion_matrix(torch.tensor(preds, dtype=torch.uint8), torch.tensor(mask), K, K)
    assert confusion.dtype == torch.int64
    np.testing.assert_array_equal(confusion, numpy_confusion(preds, mask))
    np.testing.assert_allclose(iou_per_class(confusion), numpy_iou(preds, mask), rtol=1e-12)
    assert mean_iou(confusion) == pytest.approx(np.nanmean(numpy_iou(preds, mask)), rel=1e-12)
    assert pixel_accuracy(confusion) == pytest.approx((preds == mask)[mask != K].mean(), rel=1e-12)


def test_scores_equal_torchmetrics(labelled):
    mask, preds = map(torch.tensor, labelled)
    theirs = MulticlassJaccardIndex(K, ignore_index=K)
    theirs.update(preds, mask)
    assert mean_iou(confusion_matrix(preds, mask, K, K)) == pytest.approx(theirs.compute().item(), rel=1e-6)


def test_the_index_of_a_training_is_torchmetrics_own_also_with_deterministic_algorithms(labelled):
    mask, preds = map(torch.tensor, labelled)
    own, theirs = (index(K, ignore_index=K, validate_args=False) for index in (JaccardIndex, MulticlassJaccardIndex))
    for metric in (own, theirs):
        metric.update(preds[:1], mask[:1])
    torch.use_deterministic_algorithms(True)
    try:
        for metric in (own, theirs):
            metric.update(preds[1:], mask[1:])
    finally:
        torch.use_deterministic_algorithms(False)
    assert own.confmat.dtype == theirs.confmat.dtype
    torch.testing.assert_close(own.confmat, theirs.confmat)
    torch.testing.assert_close(own.compute(), theirs.compute())


def test_absent_classes_are_left_out_of_the_mean():
    confusion = torch.zeros(K, K, dtype=torch.int64)
    confusion[0, 0], confusion[0, 1], confusion[2, 2] = 6, 2, 4
    iou = iou_per_class(confusion)
    assert iou[:3].tolist() == [0.75, 0, 1]  # class 1 is predicted, but never right
    assert iou[3:].isnan().all()
    assert mean_iou(confusion) == pytest.approx(1.75 / 3)


def test_without_a_scored_pixel_there_is_no_score():
    confusion = confusion_matrix(torch.zeros(4, 4), torch.full((4, 4), K), K, K)
    assert confusion.sum() == 0
    assert math.isnan(mean_iou(confusion)) and math.isnan(pixel_accuracy(confusion))


def test_ignored_pixels_never_count(labelled):
    mask, preds = labelled
    other = np.where(mask == K, (preds + 1) % K, preds)
    assert (other != preds).any()
    torch.testing.assert_close(
        *(confusion_matrix(torch.tensor(each), torch.tensor(mask), K, K) for each in (preds, other))
    )


def test_counts_do_not_wrap():
    confusion = torch.full((2, 2), 3_000_000_000)
    assert mean_iou(confusion) == pytest.approx(1 / 3) and pixel_accuracy(confusion) == 0.5


def test_a_head_that_is_too_wide_is_refused():
    preds = torch.zeros(4, 4, dtype=torch.uint8)
    preds[0, 0] = K
    with pytest.raises(ValueError, match="predicted class 9, but there are 9 classes: the head is too wide"):
        confusion_matrix(preds, torch.zeros(4, 4, dtype=torch.int64), K, K)


def test_a_weighted_mean():
    mean, values, weights = WeightedMean(), [2.0, 5.0, 3.0], [10, 0, 30]
    for value, weight in zip(values, weights, strict=True):
        mean.update(torch.tensor(value), torch.tensor(weight))
    assert mean.compute().item() == pytest.approx(np.average(values, weights=weights))
    mean.update(torch.tensor(torch.nan), 1)
    assert math.isnan(mean.compute())
    mean.reset()
    mean.update(torch.tensor(4.0), weight=2)
    assert mean.compute() == 4
