"""The convolution of the blocks against PyTorch's own."""

import pytest
import torch

from seglab.models import convolution
from seglab.models.convolution import SameConv2d

WIDE, NARROW = 128, 127  # of 2 x 2 pixels: the rule asks for 32 channels a pixel


@pytest.fixture
def products(monkeypatch):
    """The matrix products taken, on a CPU that is slow on tiny maps."""
    taken, product = [], SameConv2d._matrix_product
    monkeypatch.setattr(convolution, "SLOW_ON_TINY_MAPS", True)
    monkeypatch.setattr(SameConv2d, "_matrix_product", lambda *given: taken.append(given) or product(*given))
    return taken


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("kernel_size", "bias"), [(3, True), (3, False), (5, True), (2, True), (1, False)])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 4)])
def test_as_a_matrix_product_it_has_the_values_and_gradients_of_a_convolution(
    size, kernel_size, bias, memory_format, products
):
    torch.manual_seed(0)
    ours = SameConv2d(WIDE, 9, kernel_size, bias).to(torch.float64, memory_format=memory_format)
    theirs = torch.nn.Conv2d(WIDE, 9, kernel_size, padding="same", bias=bias).to(torch.float64)
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(3, WIDE, *size, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    weights = torch.randn(3, 9, *size, dtype=torch.float64)
    found, expected = ours(image), theirs(image)
    assert len(products) == 1
    torch.testing.assert_close(found, expected)
    gradients = torch.autograd.grad((found * weights).sum(), [image, *ours.parameters()])
    torch.testing.assert_close(
        gradients, torch.autograd.grad((expected * weights).sum(), [image, *theirs.parameters()])
    )


@pytest.mark.parametrize(
    ("channels", "slow", "training", "times"),
    [(WIDE, True, True, 1), (NARROW, True, True, 0), (WIDE, False, True, 0), (WIDE, True, False, 0)],
)
def test_only_what_trains_wide_tiny_maps_on_a_slow_cpu_is_a_matrix_product(
    channels, slow, training, times, products, monkeypatch
):
    monkeypatch.setattr(convolution, "SLOW_ON_TINY_MAPS", slow)
    SameConv2d(channels, 4, 3).train(training)(torch.randn(1, channels, 2, 2))
    assert len(products) == times
