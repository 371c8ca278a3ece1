"""The convolution of the blocks, which is quick where maps are tiny and wide, too."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# A CPU that stops at AVX2: there, training a convolution of few pixels and many channels takes up to four times as long
# as the matrix product does (benchmarks/layers.py).
SLOW_ON_TINY_MAPS = torch.backends.cpu.get_cpu_capability() == "AVX2"
CHANNELS_PER_PIXEL = 32  # of the map, from which on the product is the faster


class SameConv2d(nn.Conv2d):
    """`nn.Conv2d` that keeps the resolution: stride 1 and 'same' padding.

    On a CPU that has AVX2 and nothing wider, it trains maps of few pixels and many channels as one matrix product over
    all images: the same sums in another order.

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        kernel_size: Side of the kernel.
        bias: Whether each output channel has a bias.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding="same", bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """Maps N x in_channels x H x W to N x out_channels x H x W."""
        slow = SLOW_ON_TINY_MAPS and features.device.type == "cpu"
        if self.training and slow and self.in_channels >= CHANNELS_PER_PIXEL * features.shape[-2] * features.shape[-1]:
            return self._matrix_product(features)
        return super().forward(features)

    def _matrix_product(self, features: Tensor) -> Tensor:
        side = self.kernel_size[0]
        before, after = (side - 1) // 2, side // 2
        padded = F.pad(features.permute(0, 2, 3, 1), (0, 0, before, after, before, after))
        windows = padded.unfold(1, side, 1).unfold(2, side, 1)  # N x H x W x channels x side x side
        rows = windows.permute(0, 1, 2, 4, 5, 3).flatten(3)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(rows, weight, self.bias).permute(0, 3, 1, 2)
