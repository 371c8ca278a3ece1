import numpy as np
import pytest
import torch

from seglab.task import Dice, Lovasz
from seglab.task.losses.overlap import descending_order

WEIGHTS = [0.5, 2.0, 1.0, 3.0]


@pytest.fixture
def smp():
    return pytest.importorskip("segmentation_models_pytorch.losses")


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_equals_the_dice_loss_of_segmentation_models(batch, smp, weights, assert_same):
    theirs = smp.DiceLoss("multiclass", ignore_index=4, class_weights=weights)
    assert_same(Dice(4, weights)(*batch), theirs(*batch))


def test_dice_is_the_mean_of_the_classes_that_are_there(batch, smp, assert_same):
    """Segmentation models counts an absent class as one without an error."""
    logits, mask = batch
    mask = torch.where(mask == 2, 0, mask)
    theirs = smp.DiceLoss("multiclass", ignore_index=4)(logits, mask)
    assert_same(Dice(4)(logits, mask), theirs * 4 / 3)


@pytest.mark.parametrize("absent", [None, 2])
def test_equals_the_lovasz_loss_of_segmentation_models(batch, smp, absent, assert_same):
    logits, mask = batch
    mask = torch.where(mask == absent, 0, mask) if absent else mask
    assert_same(Lovasz(4)(logits, mask), smp.LovaszLoss("multiclass", ignore_index=4)(logits, mask))


def test_weighted_lovasz_is_the_weighted_mean_of_those_of_the_classes(batch, assert_same):
    classes = [Lovasz(4, [float(c == other) for other in range(4)])(*batch) for c in range(4)]
    expected = sum(w * value for w, value in zip(WEIGHTS, classes, strict=True)) / sum(WEIGHTS)
    assert_same(Lovasz(4, WEIGHTS)(*batch), expected)
    assert_same(Lovasz(4)(*batch), sum(classes) / 4)


@pytest.mark.parametrize(("loss", "score"), [(Lovasz(4), "iou"), (Dice(4), "dice")])
def test_a_certain_prediction_costs_what_its_score_lacks(batch, loss, score):
    logits, mask = (part.detach().numpy() for part in batch)
    preds, scored = logits.argmax(1), mask != 4
    costs = []
    for c in range(4):
        predicted, labelled = (preds == c) & scored, mask == c
        both, total = (predicted & labelled).sum(), predicted.sum() + labelled.sum()
        costs.append(1 - (both / (total - both) if score == "iou" else 2 * both / total))
    certain = 1e4 * torch.nn.functional.one_hot(torch.from_numpy(preds), 4).movedim(-1, 1)
    np.testing.assert_allclose(loss(certain.float(), batch[1]).item(), np.mean(costs), rtol=1e-6)


def test_lovasz_of_many_pixels_keeps_its_precision():
    """Steps of 1 - IoU are a millionth here, and lost where they are differences of float32 near 1."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, 512, 512, generator=generator)
    mask = torch.randint(0, 3, (1, 512, 512), generator=generator)
    single, double = logits.requires_grad_(), logits.detach().double().requires_grad_()
    found, exact = (torch.autograd.grad(Lovasz(9)(part, mask), part)[0].double() for part in (single, double))
    assert (found - exact).norm() < 1e-5 * exact.norm()


@pytest.mark.parametrize("count", [6, 2**17])  # few, and so many that they are sorted by digits
def test_errors_are_sorted_by_their_size_zeros_of_either_sign_last(count):
    generator = torch.Generator().manual_seed(0)
    kinds = torch.tensor([0.0, 0.5, -0.0, 1.0, 0.25, 1.0])
    errors = torch.cat([kinds, torch.rand(count, generator=generator)])[:count]
    expected = torch.from_numpy(np.argsort(-errors.numpy(), kind="stable"))
    assert torch.equal(descending_order(errors), expected)
    assert torch.equal(errors[descending_order(errors.double())], errors[expected])
