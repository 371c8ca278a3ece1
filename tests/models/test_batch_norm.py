"""The batch normalisation of the blocks against PyTorch's own."""

import pytest
import torch
from torch import nn

from seglab.models import ConvBlock, batch_norm
from seglab.models.batch_norm import BatchNorm2d, quick_batch_norm


@pytest.fixture
def folds(monkeypatch):
    """How many pixels became one, each time, in maps of any size."""
    taken, apply = [], batch_norm._FoldedBatchNorm.apply
    monkeypatch.setattr(batch_norm, "LEAST_SIZE", 0)
    monkeypatch.setattr(batch_norm._FoldedBatchNorm, "apply", lambda *given: taken.append(given[-1]) or apply(*given))
    return taken


def narrow_map(channels, height=4, width=4, dtype=torch.float64):
    features = torch.randn(2, channels, height, width, dtype=dtype) * 2 + 1
    return features.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize(
    ("channels", "size", "fold"), [(10, (4, 4), 16), (8, (3, 6), 4), (24, (3, 4), 4), (12, (1, 2), 4), (7, (5, 3), 2)]
)
def test_folded_it_has_the_values_gradients_and_statistics_of_pytorchs(channels, size, fold, momentum, folds):
    torch.manual_seed(0)
    ours = BatchNorm2d(channels, momentum=momentum).double()
    nn.init.normal_(ours.weight)
    nn.init.normal_(ours.bias)
    theirs = nn.BatchNorm2d(channels, momentum=momentum).double()
    theirs.load_state_dict(ours.state_dict())
    for _ in range(2):
        features = narrow_map(channels, *size)
        weights = torch.randn(features.shape, dtype=torch.float64)
        found, expected = torch.relu_(ours(features)), torch.relu_(theirs(features))  # in place, as in a block
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, expected)
        gradients = torch.autograd.grad((found * weights).sum(), [features, *ours.parameters()])
        expected_gradients = torch.autograd.grad((expected * weights).sum(), [features, *theirs.parameters()])
        torch.testing.assert_close(gradients, expected_gradients)
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    assert folds == [fold] * 2


def test_in_bf16_its_error_is_that_of_a_rounding_or_two(folds):
    torch.manual_seed(0)
    exact = BatchNorm2d(10).double()
    features = narrow_map(10, 32, 32, dtype=torch.bfloat16)
    gradient = torch.randn_like(features) + 10  # its mean is taken off before it is rounded
    found, expected = BatchNorm2d(10)(features), exact(features.double())
    assert folds and found.dtype == torch.bfloat16
    ours, theirs = (torch.autograd.grad(out, features, gradient.to(out.dtype))[0] for out in (found, expected))
    for rounded, value in ((found, expected), (ours, theirs)):
        assert (rounded.double() - value).norm() < 2**-8 * value.norm()


@pytest.mark.parametrize("frozen", ["features", "scale and shift"])
def test_it_trains_beside_what_is_frozen(frozen, folds):
    norm, features = BatchNorm2d(10).double(), narrow_map(10)
    (features if frozen == "features" else norm).requires_grad_(False)
    norm(features).sum().backward()
    assert folds == [16]
    assert (features.grad is None, norm.weight.grad is None) == (frozen == "features", frozen != "features")


def test_it_folds_by_no_more_than_divides_the_pixels(folds):
    BatchNorm2d(10).double()(narrow_map(10, 3, 3))  # 2 x 3 x 3 pixels: by two, and by no more
    assert folds == [2]


@pytest.mark.parametrize(
    "way",
    [
        "evaluating",
        "16 channels",
        "wide",
        "contiguous",
        "an odd number of pixels",
        "without scale",
        "small",
        "untracked",
    ],
)
def test_else_it_takes_pytorchs_way(way, folds, monkeypatch):
    channels = {"16 channels": 16, "wide": 40}.get(way, 10)
    norm = BatchNorm2d(channels, affine=way != "without scale").train(way != "evaluating").double()
    features = narrow_map(channels)
    norm.track_running_stats = way != "untracked"
    if way == "contiguous":
        features = features.contiguous()
    if way == "an odd number of pixels":
        features = features[:1, :, :3, :3].contiguous(memory_format=torch.channels_last)
    if way == "small":
        monkeypatch.setattr(batch_norm, "LEAST_SIZE", features.numel() + 1)
    plain = nn.BatchNorm2d(channels, affine=way != "without scale").train(way != "evaluating").double()
    plain.track_running_stats = norm.track_running_stats
    torch.testing.assert_close(norm(features), plain(features), rtol=0, atol=0)
    assert not folds


def test_a_block_takes_it_for_pytorchs_batch_norm_alone():
    assert type(ConvBlock(3, 10, norm_layer=nn.BatchNorm2d)[1]) is BatchNorm2d
    norm = quick_batch_norm(nn.BatchNorm2d(10, eps=1e-3, momentum=0.2, affine=False, track_running_stats=False))
    assert type(norm) is BatchNorm2d and (norm.eps, norm.momentum) == (1e-3, 0.2)
    assert (norm.weight, norm.running_mean) == (None, None)
    synchronised = nn.SyncBatchNorm(10)
    assert quick_batch_norm(synchronised) is synchronised
