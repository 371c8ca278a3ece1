"""What the decoders of a feature pyramid share: which features they take, and how those meet.

They leave out the features of stride 1 and 2, which cost most and say least, and return the shallowest that they take.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.models.blocks import ConvBlock

LEAST_STRIDE = 4


def pyramid_start(strides: Sequence[int]) -> int:
    """Returns the index of the first feature of stride 4 or more.

    Raises:
        ValueError: If there are not two features from there on.
    """
    start = next((i for i, stride in enumerate(strides) if stride >= LEAST_STRIDE), len(strides))
    if len(strides) - start < 2:
        raise ValueError(
            f"this decoder needs two features of stride {LEAST_STRIDE} or more, the encoder's strides are "
            f"{list(strides)}: take a deeper encoder or model/decoder=unet"
        )
    return start


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Returns `x` (b, c, h, w), bilinearly brought to the height and width of `like`."""
    size = like.shape[-2:]
    if not torch.compiler.is_exporting() and x.shape[-2:] == size:  # an exported graph does not know the sizes
        return x
    return F.interpolate(x, size, mode="bilinear")


class GridMeans(nn.AdaptiveAvgPool2d):
    """Means over a grid of bins x bins cells, which can be exported for any size and repeat to the bit on a GPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (b, c, h, w) to (b, c, bins, bins)."""
        if not (torch.compiler.is_exporting() or torch.are_deterministic_algorithms_enabled()):
            return super().forward(x)
        rows, columns = (cell_weights(length, self.output_size).to(x) for length in x.shape[-2:])
        return rows @ (x @ columns.T)


def cell_weights(length: int, bins: int) -> Tensor:
    """Returns the weight (bins, length) of each pixel in the mean of each cell along a side."""
    cell, pixel = torch.arange(bins)[:, None], torch.arange(length)
    start, end = cell * length // bins, ((cell + 1) * length + bins - 1) // bins
    return ((pixel >= start) & (pixel < end)) / (end - start)


class TopDownPathway(nn.Module):
    """Hands what the deep features know down to the shallow ones (FPN, Lin et al. 2016, arXiv:1612.03144).

    Each level is its feature's lateral plus the level below it, enlarged bilinearly.

    Args:
        laterals: One module for each feature, shallow to deep, all to the same width.
        outputs: One module for each level, applied once all have met.
    """

    def __init__(self, laterals: Sequence[nn.Module], outputs: Sequence[nn.Module]) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(laterals)
        self.outputs = nn.ModuleList(outputs)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Maps features (b, channels[i], h_i, w_i), shallow to deep, to levels (b, width, h_i, w_i)."""
        levels = [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)]
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] = levels[i - 1] + resize(levels[i], levels[i - 1])
        return [output(level) for output, level in zip(self.outputs, levels, strict=True)]


class PooledContext(nn.Sequential):
    """Means over a grid of bins x bins cells, Conv1x1-[Norm]-ReLU, enlarged to the input's resolution.

    A single cell has no norm: over a batch it would see a value or two for each channel, and fail on one.
    """

    def __init__(
        self, in_channels: int, out_channels: int, bins: int, norm_layer: Callable[[int], nn.Module] | None
    ) -> None:
        norm_layer = None if bins == 1 else norm_layer
        super().__init__(GridMeans(bins), ConvBlock(in_channels, out_channels, norm_layer=norm_layer, kernel_size=1))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (b, in_channels, h, w) to (b, out_channels, h, w)."""
        return resize(super().forward(x), x)
