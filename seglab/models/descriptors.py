"""Local descriptors of texture and colour, computed by fixed filters at the points of a grid."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CELLS = 4  # of a descriptor, along each side
DIRECTIONS = 8


class DenseSIFT(nn.Module):
    """SIFT descriptors (Lowe 2004, IJCV 60) of one size at the points of a grid.

    A descriptor has 4 x 4 cells, each with a histogram of the gradient's direction in 8 bins. A gradient goes to a bin
    by the eighth power of the cosine of the angle between them, which is close to Lowe's linear interpolation and needs
    no angle, and to the cells bilinearly. Values are cut at 0.2, and their square root is taken (RootSIFT, Arandjelovic
    and Zisserman 2012).

    Args:
        cell: side of a cell in pixels, even.
        step: distance of the grid's points in pixels.
    """

    channels = CELLS * CELLS * DIRECTIONS

    def __init__(self, cell: int, step: int) -> None:
        super().__init__()
        self.cell, self.step = cell, step
        radius = math.ceil(cell / 3)
        blur = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / (cell / 6)) ** 2)
        triangle = 1 - torch.arange(1 - cell, cell).abs() / cell
        angles = torch.arange(DIRECTIONS) * (2 * math.pi / DIRECTIONS)
        self.register_buffer("blur", blur / blur.sum(), persistent=False)
        self.register_buffer("triangle", triangle, persistent=False)
        self.register_buffer("directions", torch.stack([angles.cos(), angles.sin()]), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Maps grey images (b, 1, h, w) in [0, 1] to descriptors (b, ceil(h / step), ceil(w / step), 128).

        That of a patch that is nearly flat is 0 throughout.
        """
        radius = len(self.blur) // 2
        image = _separable(F.pad(image, [radius] * 4, mode="replicate"), self.blur)
        padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
        dx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
        dy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
        length = (dx**2 + dy**2).sqrt()
        cosine, sine = self.directions[:, None, :, None, None]
        share = ((cosine * dx + sine * dy) / length.clamp(min=1e-12)).clamp(min=0)
        histograms = length * share.square().square().square()
        histograms = _separable(F.pad(histograms, [self.cell - 1] * 4), self.triangle)
        x = cells_at_grid(histograms, self.cell, self.step)
        norm = x.norm(dim=-1, keepdim=True)
        x = (x / norm.clamp(min=1e-12)).clamp(max=0.2)
        x = x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return x.sqrt() * (norm > 0.01 * self.cell)


class DenseColor(nn.Module):
    """Mean and standard deviation of the three opponent colours (van de Sande et al. 2010, TPAMI 32) in 4 x 4 cells.

    Args:
        cell: side of a cell in pixels, even.
        step: distance of the grid's points in pixels.
    """

    channels = CELLS * CELLS * 6

    def __init__(self, cell: int, step: int) -> None:
        super().__init__()
        self.cell, self.step = cell, step
        self.register_buffer("box", torch.ones(cell), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (b, 3, h, w) in [0, 1] to descriptors (b, ceil(h / step), ceil(w / step), 96)."""
        red, green, blue = image.unbind(1)
        opponent = torch.stack(
            [
                (red - green) / math.sqrt(2),
                (red + green - 2 * blue) / math.sqrt(6),
                (red + green + blue) / math.sqrt(3),
            ],
            1,
        )
        moments = torch.cat([opponent, opponent**2, torch.ones_like(opponent[:, :1])], 1)
        sums = _separable(F.pad(moments, [self.cell // 2, self.cell // 2 - 1] * 2), self.box)
        mean, square = (sums[:, :-1] / sums[:, -1:]).chunk(2, dim=1)
        deviation = (square - mean**2).clamp(min=0).sqrt()
        return cells_at_grid(torch.cat([mean, deviation], 1), self.cell, self.step)


def cells_at_grid(x: Tensor, cell: int, step: int) -> Tensor:
    """Puts the values of the 4 x 4 cells around each point of a grid one behind the other.

    Args:
        x: (b, c, h, w), of each pixel the value of the cell that is centred there; outside the image it is 0.
        cell: distance of the cells' centres in pixels.
        step: distance of the grid's points in pixels; the first is at the top left pixel.

    Returns:
        (b, ceil(h / step), ceil(w / step), 16 * c).
    """
    height, width = x.shape[-2:]
    margin = (CELLS - 1) * cell // 2
    x = F.pad(x, [margin] * 4)
    starts = [i * cell for i in range(CELLS)]
    parts = [x[..., top : top + height : step, left : left + width : step] for top in starts for left in starts]
    return torch.cat(parts, 1).permute(0, 2, 3, 1)


def _separable(x: Tensor, kernel: Tensor) -> Tensor:
    """Filters each channel of (b, c, h, w) along both sides, with no padding."""
    channels, length = x.shape[1], len(kernel)
    x = F.conv2d(x, kernel.view(1, 1, 1, length).expand(channels, -1, -1, -1), groups=channels)
    return F.conv2d(x, kernel.view(1, 1, length, 1).expand(channels, -1, -1, -1), groups=channels)
