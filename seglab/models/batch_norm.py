"""Batch normalisation that is quick where maps are narrow, too."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

CHANNELS = 32  # which PyTorch's kernel takes at once at most (AVX-512, bf16); the rest of a width it takes one by one
LEAST_SIZE = 2**17  # numbers in a batch's map, from which on ours is the faster or as fast (benchmarks/layers.py)


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` that trains maps of fewer than 32 channels quickly on a CPU; of 16 PyTorch's own is as quick.

    In channels_last memory several pixels side by side are one pixel of as many times the channels. Their statistics
    are taken together afterwards: the same sums in another order. It can be differentiated once.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Maps N x num_features x H x W to the same shape."""
        fold = self.fold(features)
        if fold == 1:
            return super().forward(features)
        normalised, mean, variance = _FoldedBatchNorm.apply(features, self.weight, self.bias, self.eps, fold)
        self.num_batches_tracked.add_(1)
        momentum = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        count = features.numel() / self.num_features
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), momentum)
        return normalised

    def fold(self, features: Tensor) -> int:
        """Returns how many pixels of N x num_features x H x W become one; 1 where PyTorch's own way is taken."""
        narrow = self.num_features < CHANNELS and self.num_features != CHANNELS // 2
        whole = self.weight is not None and self.bias is not None and self.track_running_stats
        if not (self.training and narrow and whole and features.numel() >= LEAST_SIZE):
            return 1
        if features.device.type != "cpu" or not features.is_contiguous(memory_format=torch.channels_last):
            return 1
        return math.gcd(CHANNELS // math.gcd(self.num_features, CHANNELS), features[:, 0].numel())


def quick_batch_norm(norm: nn.Module) -> nn.Module:
    """Makes an `nn.BatchNorm2d` one of ours, whatever it was made with; returns any other norm as it is."""
    if type(norm) is nn.BatchNorm2d:
        norm.__class__ = BatchNorm2d
    return norm


class _FoldedBatchNorm(torch.autograd.Function):
    """Maps features, scale and shift to the normalised features and to their mean and variance."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, eps: float, fold: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows = _folded(features, fold)
        unused = weight.new_zeros(rows.shape[1])  # running statistics, whose precision the batch's take on
        statistics = torch.batch_norm_update_stats(rows, unused, unused.clone(), 0.0)
        means, variances = (values.view(fold, -1) for values in statistics)
        mean, variance = means.mean(0), variances.mean(0) + means.var(0, correction=0)
        normalised = torch.empty_like(features)  # no view, which the ReLU could not take in place
        out = (_folded(normalised, fold), unused.new_empty(0), unused.new_empty(0))
        given = (values.repeat(fold) for values in (weight, bias, mean, variance))
        torch.native_batch_norm(rows, *given, False, 0.0, eps, out=out)
        ctx.save_for_backward(features, weight, mean, variance)
        ctx.eps, ctx.fold = eps, fold
        ctx.mark_non_differentiable(mean, variance)
        return normalised, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, mean, variance = ctx.saved_tensors
        rows, fold = _folded(features, ctx.fold), ctx.fold
        inverse_std = (variance + ctx.eps).rsqrt()
        given = (values.repeat(fold) for values in (weight, mean, variance, mean, inverse_std))
        found = torch.ops.aten.native_batch_norm_backward(
            _folded(gradient, fold), rows, *given, True, ctx.eps, [True, True, True]
        )
        columns = [values.view(fold, -1) for values in found[1:]]
        weight_gradient, bias_gradient = totals = [values.sum(0) for values in columns]
        # What hangs on the batch's mean and variance was taken off by each column's own sums: the rest, to the totals.
        share = -weight * inverse_std / (features.numel() / len(weight))
        rest = [(share * (total - fold * own)).flatten() for total, own in zip(totals, columns, strict=True)]
        rows_gradient = found[0].add_(F.batch_norm(rows, mean.repeat(fold), variance.repeat(fold), *rest, eps=ctx.eps))
        features_gradient = rows_gradient.view(features.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)
        return features_gradient, weight_gradient, bias_gradient, None, None


def _folded(features: Tensor, fold: int) -> Tensor:
    """Returns N x C x H x W as rows of `fold` pixels: (N H W / fold) x (fold C), without a copy in channels_last."""
    return features.permute(0, 2, 3, 1).reshape(-1, fold * features.shape[1])
