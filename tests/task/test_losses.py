import pytest
import torch
from torch.nn import functional as F

from seglab.task import CrossEntropy

WEIGHTS = [0.5, 2.0, 1.0, 3.0]


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, generator=generator, requires_grad=True)
    return logits, torch.randint(0, 5, (2, 5, 6), generator=generator)  # 4 is left out


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_equals_the_cross_entropy_of_torch(batch, weights):
    logits, mask = batch
    ours = CrossEntropy(4, weights)(logits, mask)
    theirs = F.cross_entropy(logits, mask, weights and torch.tensor(weights), ignore_index=4)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_ignored_pixels_have_no_say(batch, weights):
    logits, mask = batch
    loss = CrossEntropy(4, weights)
    ignored = (mask == 4)[:, None].expand_as(logits)
    assert ignored.any()
    before = loss(logits, mask)
    assert torch.equal(loss(torch.where(ignored, 50 * logits, logits), mask), before)
    gradient = torch.autograd.grad(before, logits)[0]
    assert (gradient[ignored] == 0).all() and (gradient[~ignored] != 0).all()


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("bf16", [False, True])
def test_a_batch_without_a_scored_pixel_teaches_nothing(weights, bf16):
    head = torch.nn.Conv2d(3, 4, 1)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = head(torch.randn(2, 3, 5, 5))
        loss = CrossEntropy(4, weights)(logits, torch.full((2, 5, 5), 4))
    assert logits.dtype == (torch.bfloat16 if bf16 else torch.float32)
    loss.backward()
    assert loss.item() == 0 and loss.dtype == torch.float32
    assert all((parameter.grad == 0).all() for parameter in head.parameters())


def test_a_class_of_weight_0_teaches_nothing(batch):
    logits, mask = batch
    weights = [1.0, 0.0, 1.0, 1.0]
    torch.testing.assert_close(
        CrossEntropy(4, weights)(logits, mask), CrossEntropy(4)(logits, torch.where(mask == 1, 4, mask))
    )
    only = CrossEntropy(4, weights)(logits, torch.ones_like(mask))
    only.backward()
    assert only.item() == 0 and (logits.grad == 0).all()


def test_bf16_logits_are_summed_in_float32():
    logits = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    mask = torch.zeros(1, 64, 64, dtype=torch.int64)
    torch.testing.assert_close(CrossEntropy(4)(logits, mask), F.cross_entropy(logits.float(), mask))


def test_the_weights_are_part_of_the_state():
    """evaluate.py builds the loss with weights of 1 and takes those of the run from its checkpoint."""
    trained, loaded = CrossEntropy(4, WEIGHTS), CrossEntropy(4, [1.0] * 4)
    loaded.load_state_dict(trained.state_dict())
    assert loaded.class_weights.tolist() == WEIGHTS
