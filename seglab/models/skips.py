"""Skip connections: what a decoder stage does with the encoder's feature of the same resolution.

A skip is any callable `skip(channels, skip_channels) -> nn.Module` whose result has `out_channels`.
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
    """Stacks the encoder's feature behind the decoder's, as U-Net does (Ronneberger et al. 2015, arXiv:1505.04597)."""

    def __init__(self, channels: int, skip_channels: int) -> None:
        super().__init__()
        self.out_channels = channels + skip_channels

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Returns (b, channels + skip_channels, h, w)."""
        return torch.cat([x, skip], dim=1)


class Add(nn.Module):
    """Adds the encoder's feature, through a 1x1 projection where widths differ (LinkNet, 2017, arXiv:1707.03718)."""

    def __init__(self, channels: int, skip_channels: int) -> None:
        super().__init__()
        self.out_channels = channels
        self.projection = nn.Identity() if skip_channels == channels else nn.Conv2d(skip_channels, channels, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Returns (b, channels, h, w)."""
        return x + self.projection(skip)
