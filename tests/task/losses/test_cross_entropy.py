import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seglab.task import BoundaryCrossEntropy, CrossEntropy, Focal, OhemCrossEntropy

WEIGHTS = [0.5, 2.0, 1.0, 3.0]
weighted = pytest.mark.parametrize("weights", [None, WEIGHTS])


@weighted
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_equals_the_cross_entropy_of_torch(batch, weights, smoothing, assert_same):
    logits, mask = batch
    losses = F.cross_entropy(logits, mask, ignore_index=4, label_smoothing=smoothing, reduction="none")
    by_label = torch.tensor([*(weights or [1.0] * 4), 0.0])[mask]  # what is ignored weighs nothing
    assert_same(CrossEntropy(4, weights, smoothing)(logits, mask), (losses * by_label).sum() / by_label.sum())
    if not (weights and smoothing):
        theirs = F.cross_entropy(
            logits, mask, weights and torch.tensor(weights), ignore_index=4, label_smoothing=smoothing
        )
        assert_same(CrossEntropy(4, weights, smoothing)(logits, mask), theirs)


def test_a_smoothed_label_of_a_light_class_is_still_the_best_answer():
    """With torch's weights of the classes that a share goes to, the heaviest class would be, for any label."""
    logits, mask = torch.zeros(1, 4, 1, 1, requires_grad=True), torch.zeros(1, 1, 1, dtype=torch.int64)
    CrossEntropy(4, [1.0, 60.0, 80.0, 200.0], 0.1)(logits, mask).backward()
    assert logits.grad.argmin() == 0 and logits.grad[0, 1:].unique().numel() == 1


def test_a_class_of_weight_0_teaches_nothing(batch, assert_same):
    logits, mask = batch
    weights = [1.0, 0.0, 1.0, 1.0]
    theirs = CrossEntropy(4)(logits, torch.where(mask == 1, 4, mask))
    assert_same(CrossEntropy(4, weights)(logits, mask), theirs)


@weighted
@pytest.mark.parametrize(
    "make",
    [
        lambda *args: Focal(*args, gamma=0),
        lambda *args: OhemCrossEntropy(*args, threshold=1),
        lambda *args: OhemCrossEntropy(*args, threshold=0.01, min_kept=1),
        lambda *args: BoundaryCrossEntropy(*args, boundary_weight=0),
    ],
)
def test_each_becomes_cross_entropy(batch, weights, make, assert_same):
    assert_same(make(4, weights)(*batch), CrossEntropy(4, weights)(*batch))


@pytest.mark.parametrize("gamma", [0.5, 1, 2, 5])
def test_equals_the_softmax_focal_loss_of_segmentation_models(batch, gamma, assert_same):
    functional = pytest.importorskip("segmentation_models_pytorch.losses._functional")
    logits, mask = batch
    scored = logits.movedim(1, -1)[mask != 4]
    theirs = functional.softmax_focal_loss_with_logits(scored, mask[mask != 4], gamma)
    assert_same(Focal(4, gamma=gamma)(logits, mask), theirs)


def test_two_classes_equal_the_sigmoid_focal_loss_of_torchvision(batch, assert_same):
    """A softmax over (0, x) is a sigmoid of x."""
    ops = pytest.importorskip("torchvision.ops")
    logits = batch[0][:, 1]
    mask = torch.where(batch[1] > 1, 1, 0)
    ours = Focal(4)(torch.stack([torch.zeros_like(logits), logits], 1), mask)
    assert_same(ours, ops.sigmoid_focal_loss(logits, mask.float(), alpha=-1, gamma=2, reduction="mean"))


def test_focal_weighs_classes_like_the_alpha_of_torchvision(batch, assert_same):
    ops = pytest.importorskip("torchvision.ops")
    logits, mask = batch[0][:, 1], torch.where(batch[1] > 1, 1, 0)
    ours = Focal(4, [0.75, 0.25])(torch.stack([torch.zeros_like(logits), logits], 1), mask)
    theirs = ops.sigmoid_focal_loss(logits, mask.float(), alpha=0.25, gamma=2, reduction="sum")
    assert_same(ours, theirs / (0.75 * (mask == 0).sum() + 0.25 * (mask == 1).sum()))


@weighted
@pytest.mark.parametrize(("threshold", "min_kept"), [(0.2, 0.0), (0.2, 0.5), (0.01, 0.3), (0.7, 0.0625)])
def test_ohem_takes_the_hard_pixels_and_at_least_a_share(batch, weights, threshold, min_kept):
    logits, mask = batch
    probs, labels = logits.detach().softmax(1).movedim(1, -1)[mask != 4].numpy(), mask[mask != 4].numpy()
    own = probs[np.arange(len(labels)), labels]
    hardest = np.argsort(own)[: int(np.ceil(min_kept * len(own)))]
    kept = np.union1d(np.flatnonzero(own <= threshold), hardest)
    assert len(kept) < len(own)
    weight = np.array(weights or [1.0] * 4)[labels[kept]]
    expected = (weight * -np.log(own[kept])).sum() / max(weight.sum(), 1e-9)
    np.testing.assert_allclose(OhemCrossEntropy(4, weights, threshold, min_kept)(logits, mask).item(), expected, 1e-5)


def proximity(mask, sigma):
    """Of each pixel to the nearest one that has another value among its eight neighbours, looked for one by one."""
    height, width = mask.shape
    edge = [
        (y, x)
        for y, x in np.ndindex(mask.shape)
        if len(np.unique(mask[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2])) > 1
    ]
    near = np.zeros(mask.shape)
    for y, x in np.ndindex(height, width):
        for v, u in edge:
            if max(abs(v - y), abs(u - x)) <= np.ceil(3 * sigma):
                near[y, x] = max(near[y, x], np.exp(-((v - y) ** 2 + (u - x) ** 2) / (2 * sigma**2)))
    return near


@weighted
@pytest.mark.parametrize("sigma", [0.4, 1.5, 20])
def test_boundary_weights_fall_with_the_distance(weights, sigma):
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(2, 13, 17, dtype=torch.int64)
    mask[0, 3:9, 2:7], mask[0, :2, 12:], mask[1, 12, 16] = 1, 4, 3  # the second image has one boundary, in a corner
    logits = torch.randn(2, 4, 13, 17, generator=generator)
    near = torch.from_numpy(np.stack([proximity(part, sigma) for part in mask.numpy()]))
    weight = (1 + 5 * near) * torch.tensor([*(weights or [1.0] * 4), 0])[mask]
    losses = F.cross_entropy(logits, mask, ignore_index=4, reduction="none")
    expected = (weight * losses).sum() / weight.sum()
    torch.testing.assert_close(BoundaryCrossEntropy(4, weights, 5, sigma)(logits, mask), expected.float())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CrossEntropy(4, label_smoothing=1.5), "label_smoothing=1.5"),
        (lambda: Focal(4, gamma=-1), "gamma=-1"),
        (lambda: OhemCrossEntropy(4, threshold=0), "threshold=0"),
        (lambda: OhemCrossEntropy(4, min_kept=100000), "min_kept=100000"),
        (lambda: BoundaryCrossEntropy(4, boundary_weight=-1), "boundary_weight=-1"),
        (lambda: BoundaryCrossEntropy(4, sigma=0), "sigma=0"),
    ],
)
def test_values_that_make_no_sense(make, said):
    with pytest.raises(ValueError, match=f"{said}: give "):
        make()
