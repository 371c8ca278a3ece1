import pytest
import torch


@pytest.fixture
def batch():
    """Logits (2, 4, 5, 6) and a mask that has every class and pixels left out: 4."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, generator=generator, requires_grad=True)
    return logits, torch.randint(0, 5, (2, 5, 6), generator=generator)


@pytest.fixture
def assert_same(batch):
    """Compares two losses of the batch, and their gradients."""

    def compare(ours, theirs):
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(*(torch.autograd.grad(x, batch[0], retain_graph=True)[0] for x in (ours, theirs)))

    return compare
