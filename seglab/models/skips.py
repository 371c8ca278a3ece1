"""Skip connections: what a decoder stage does with the encoder's feature of the same resolution.

A skip is any callable `skip(channels, skip_channels) -> nn.Module` whose result has `out_channels`: of the channels of
the decoder's feature and of those of the encoder's, all that come together.
"""

import torch
from torch import Tensor, nn


class NoSkip(nn.Module):
    """Leaves the encoder's feature out."""

    def __init__(self, channels: int, skip_channels: int) -> None:
        super().__init__()
        self.out_channels = channels

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Returns `x`, (b, channels, h, w)."""
        return x


class Concatenate(nn.Module):
    """Stacks the encoder's feature behind the decoder's, as U-Net does (Ronneberger et al. 2015, arXiv:1505.04597).

    Several features of that resolution may come, of `skip_channels` together.
    """

    def __init__(self, channels: int, skip_channels: int) -> None:
        super().__init__()
        self.out_channels = channels + skip_channels

    def forward(self, x: Tensor, *skips: Tensor) -> Tensor:
        """Returns (b, channels + skip_channels, h, w)."""
        return torch.cat([x, *skips], dim=1)


class Add(nn.Module):
    """Adds the encoder's feature, through a 1x1 projection where widths differ.

    LinkNet (Chaurasia and Culurciello 2017, arXiv:1707.03718).
    """

    def __init__(self, channels: int, skip_channels: int) -> None:
        super().__init__()
        self.out_channels = channels
        self.projection = nn.Identity() if skip_channels == channels else nn.Conv2d(skip_channels, channels, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Returns (b, channels, h, w)."""
        return x + self.projection(skip)


class AttentionGate(Concatenate):
    """Stacks the encoder's feature behind the decoder's, each pixel weighted by how the two fit.

    The additive attention gate of Attention U-Net (Oktay et al. 2018, arXiv:1804.03999), at the resolution of the
    skip: the decoder's feature has been enlarged before.
    """

    def __init__(self, channels: int, skip_channels: int) -> None:
        super().__init__(channels, skip_channels)
        hidden = max(1, skip_channels // 2)
        self.gate = nn.Conv2d(channels, hidden, 1)
        self.query = nn.Conv2d(skip_channels, hidden, 1, bias=False)
        self.weight = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(hidden, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Returns (b, channels + skip_channels, h, w)."""
        return super().forward(x, skip * self.weight(self.gate(x) + self.query(skip)))
