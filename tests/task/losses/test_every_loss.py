"""What every loss promises, whatever it measures."""

import itertools

import pytest
import torch

from seglab.task import BoundaryCrossEntropy, CrossEntropy, Dice, Focal, Lovasz, OhemCrossEntropy, WeightedSum

IGNORED = 4
WEIGHTS = [0.5, 2.0, 1.0, 3.0]
LOSSES = {
    "cross entropy": CrossEntropy,
    "label smoothing": lambda *args: CrossEntropy(*args, label_smoothing=0.1),
    "focal": Focal,
    "focal, gamma 0.5": lambda *args: Focal(*args, gamma=0.5),
    "focal, gamma 0": lambda *args: Focal(*args, gamma=0),
    "ohem": OhemCrossEntropy,
    "ohem, none kept": lambda *args: OhemCrossEntropy(*args, threshold=0.01, min_kept=0),
    "boundary": BoundaryCrossEntropy,
    "dice": Dice,
    "lovasz": Lovasz,
    "sum": lambda i, *weights: WeightedSum({"a": CrossEntropy(i), "b": Dice(i)}, {"a": 1, "b": 0.5}, *weights),
}
every_loss = pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
weighted = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
every_precision = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


def value_and_gradient(loss, logits, mask):
    logits = logits.detach().requires_grad_()
    value = loss(logits, mask)
    return value.detach(), torch.autograd.grad(value, logits)[0]


@every_loss
@weighted
@every_precision
def test_a_batch_without_a_scored_pixel_teaches_nothing(make, weights, dtype):
    head = torch.nn.Conv2d(3, 4, 1, dtype=dtype)
    logits = head(torch.randn(2, 3, 5, 5, dtype=dtype))
    loss = make(IGNORED, weights)(logits, torch.full((2, 5, 5), IGNORED))
    loss.backward()
    assert loss.item() == 0 and loss.dtype == torch.float32
    assert all((parameter.grad == 0).all() for parameter in head.parameters())


@every_loss
@weighted
def test_ignored_pixels_have_no_say(batch, make, weights):
    logits, mask = batch
    ignored = (mask == IGNORED)[:, None].expand_as(logits)
    assert ignored.any()
    value, gradient = value_and_gradient(make(IGNORED, weights), logits, mask)
    for changed in (50 * logits, logits.flip(1), torch.full_like(logits, 1e4)):
        other, its_gradient = value_and_gradient(make(IGNORED, weights), torch.where(ignored, changed, logits), mask)
        assert torch.equal(other, value) and torch.equal(its_gradient, gradient)
    assert (gradient[ignored] == 0).all()


@every_loss
@pytest.mark.parametrize("ignore_index", [255, -100, 2])
def test_any_value_may_be_the_ignored_one(batch, make, ignore_index):
    """Also one in the range of the classes, which is then never scored."""
    logits, mask = batch
    mask = torch.where(mask == 2, 0, mask)
    assert torch.equal(make(ignore_index)(logits, torch.where(mask == 4, ignore_index, mask)), make(4)(logits, mask))


@every_loss
@weighted
@every_precision
def test_finite_for_any_size_precision_and_confidence(make, weights, dtype):
    """Right, wrong or undecided, also where classes have no pixel and the batch has one only."""
    loss, generator = make(IGNORED, weights), torch.Generator().manual_seed(1)
    for size, scale in itertools.product([(1, 1, 1), (1, 1, 7), (2, 5, 6)], [0, 1, 1e4]):
        mask = torch.randint(0, 2, size, generator=generator)
        right = 2 * torch.nn.functional.one_hot(mask, 4).movedim(-1, 1) - 1
        for logits in (scale * right, -scale * right, scale * right.roll(1, 1)):
            value, gradient = value_and_gradient(loss, logits.to(dtype), mask)
            assert value.dtype == torch.float32 and value.isfinite() and value >= 0, (size, scale)
            assert gradient.dtype == dtype and gradient.isfinite().all(), (size, scale)


@every_loss
@weighted
def test_a_perfect_prediction_costs_nothing(batch, make, weights):
    _, mask = batch
    logits = 1e4 * (2.0 * torch.nn.functional.one_hot(mask, 5).movedim(-1, 1)[:, :4] - 1)
    value, gradient = value_and_gradient(make(IGNORED, weights), logits, mask)
    if getattr(make(IGNORED), "label_smoothing", 0):
        assert value > 0
    else:
        assert value == 0 and (gradient == 0).all()


@every_loss
@weighted
def test_gradients_are_those_of_the_value(batch, make, weights):
    logits, mask = batch
    loss = make(IGNORED, weights).double()
    assert torch.autograd.gradcheck(lambda logits: loss(logits, mask), logits.double())


@every_loss
@weighted
@every_precision
def test_sums_are_taken_in_float32(make, weights, dtype):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 4, 64, 64, generator=generator).to(dtype)
    mask = torch.randint(0, 5, (1, 64, 64), generator=generator)
    loss = make(IGNORED, weights)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        value = loss(logits, mask)
    torch.testing.assert_close(loss.to(dtype)(logits, mask), value)  # as trainer.precision=bf16-true has it
    torch.testing.assert_close(value, loss.double()(logits.double(), mask).float())


@every_loss
def test_equal_weights_are_no_weights(batch, make):
    torch.testing.assert_close(make(IGNORED, [2.0] * 4)(*batch), make(IGNORED)(*batch))


@every_loss
def test_classes_of_weight_0_alone_teach_nothing(batch, make):
    logits, mask = batch
    loss = make(IGNORED, [1, 0, 1, 1])
    value, gradient = value_and_gradient(loss, logits, torch.where(mask == IGNORED, IGNORED, 1))
    assert value == 0 and (gradient == 0).all()


@every_loss
def test_a_step_downhill_lowers_the_loss(batch, make):
    logits, mask = batch
    value, gradient = value_and_gradient(make(IGNORED), logits, mask)
    if make is LOSSES["ohem, none kept"]:
        assert value == 0 and (gradient == 0).all()
    else:
        assert make(IGNORED)(logits - 0.1 * gradient, mask) < value


@every_loss
def test_the_weights_are_part_of_the_state(batch, make):
    """evaluate.py builds the loss with weights of 1 and takes those of the run from its checkpoint."""
    trained, loaded = make(IGNORED, WEIGHTS), make(IGNORED, [1.0] * 4)
    loaded.load_state_dict(trained.state_dict())
    assert torch.equal(loaded(*batch), trained(*batch))
    assert all(value.tolist() == WEIGHTS for value in loaded.state_dict().values())
    assert not make(IGNORED).state_dict()


@every_loss
@pytest.mark.parametrize("weights", [[1, -1, 1, 1], [1, float("nan"), 1, 1], "inverse_area", {"cat": 2}], ids=str)
def test_weights_that_make_no_sense(make, weights):
    with pytest.raises(ValueError, match="class_weights=.*give a number of 0 or more for each class"):
        make(IGNORED, weights)
