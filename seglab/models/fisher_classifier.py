"""A second opinion on what an object is: by the texture and colour of all of it, from few photographs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.models.descriptors import DenseColor, DenseSIFT
from seglab.models.fisher_vectors import FisherVectors


class FisherClassifier(nn.Module):
    """Tells the class of what is not background from Fisher vectors of SIFT and colour, and joins it to the logits.

    The network says where the objects of an image are, and this what they are, once for each image: the probability of
    each class but `background` is multiplied by that of a linear classifier and normed, so that they keep their sum (a
    product of experts, Hinton 2002). Its descriptors are fixed and its vocabulary is learned without labels, so that
    some hundreds of photographs do for it, where a network that learns its features from so few knows them by heart.
    It is fitted by itself, before the training (`fit_objects`), and takes no part in it: while training the logits stay
    as they are. Regions of Fisher vectors for segmentation: Csurka and Perronnin 2008; Carreira et al. 2012.

    Args:
        num_classes: of the logits.
        background: index of the class that is no object.
        magnify: what the image is enlarged by, so that descriptors of 4 to 12 pixels a cell suit it.
        cells: sides of the descriptors' cells in pixels of the enlarged image, even.
        step: distance of the descriptors in pixels of the enlarged image.
        words: of the vocabularies, of texture and of colour.
        dims: that are kept of a descriptor, of texture and of colour.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(
        self,
        num_classes: int,
        background: int = 0,
        magnify: float = 2.0,
        cells: Sequence[int] = (4, 6, 8, 12),
        step: int = 6,
        words: Sequence[int] = (256, 128),
        dims: Sequence[int] = (64, 24),
    ) -> None:
        super().__init__()
        if not cells or any(cell < 2 or cell % 2 for cell in cells):
            raise ValueError(f"cells must be even numbers from 2, got {list(cells)}")
        if not 0 <= background < num_classes:
            raise ValueError(f"background must be the index of one of {num_classes} classes, got {background}")
        if len(words) != 2 or len(dims) != 2 or min(*words, *dims, step) < 1 or magnify <= 0:
            raise ValueError(
                "words and dims must have a number each for texture and for colour, and these, step and magnify be "
                f"positive, got words {list(words)}, dims {list(dims)}, step {step}, magnify {magnify}"
            )
        self.background, self.magnify, self.step = background, magnify, step
        self.settings = (num_classes, background, magnify, tuple(cells), step, tuple(words), tuple(dims))
        self.sift = nn.ModuleList(DenseSIFT(cell, step) for cell in cells)
        self.color = nn.ModuleList(DenseColor(cell, step) for cell in cells)
        kinds = zip((DenseSIFT, DenseColor), dims, words, strict=True)
        self.vectors = nn.ModuleList(FisherVectors(kind.channels, size, count) for kind, size, count in kinds)
        length = sum(each.length for each in self.vectors)
        self.register_buffer("weight", torch.zeros(num_classes - 1, length))
        self.register_buffer("bias", torch.zeros(num_classes - 1))
        luma = torch.tensor([0.299, 0.587, 0.114])
        self.register_buffer("luma", luma.view(-1, 1, 1), persistent=False)

    def forward(self, image: Tensor, logits: Tensor) -> Tensor:
        """Joins its opinion of images (b, 3, h, w) in 0..255 to their logits (b, num_classes, h, w)."""
        if image.device.type != "meta" and torch.is_autocast_enabled(image.device.type):
            with torch.autocast(image.device.type, enabled=False):
                return self(image, logits)
        back = logits[:, self.background, None]
        others = torch.cat([logits[:, : self.background], logits[:, self.background + 1 :]], 1)
        anywhere = others.logsumexp(1, keepdim=True)
        vector = self.region_vectors(image, (anywhere - back).sigmoid())
        opinion = F.linear(vector[:, 0], self.weight, self.bias).log_softmax(1)
        joined = (others + opinion[:, :, None, None]).log_softmax(1) + anywhere
        return torch.cat([joined[:, : self.background], back, joined[:, self.background :]], 1)

    def region_vectors(self, image: Tensor, regions: Tensor) -> Tensor:
        """Maps images (b, 3, h, w) in 0..255 and regions (b, r, h, w) in [0, 1] to vectors (b, r, length)."""
        weights = self.at_grid(regions)
        weights = weights[:, :, None].expand(-1, -1, len(self.sift), -1).flatten(2)  # the same for every size of cell
        parts = [
            vectors(descriptors, weights * (descriptors != 0).any(-1)[:, None])
            for descriptors, vectors in zip(self.describe(image), self.vectors, strict=True)
        ]
        return torch.cat(parts, -1)

    def describe(self, image: Tensor) -> list[Tensor]:
        """Maps images (b, 3, h, w) in 0..255 to their descriptors of texture and of colour, each (b, n, channels)."""
        image = self.enlarge(image.to(self.bias.dtype) / 255, "bicubic").clamp(0, 1)
        grey = (image * self.luma).sum(1, keepdim=True)
        kinds = [[sift(grey) for sift in self.sift], [color(image) for color in self.color]]
        return [torch.cat([each.flatten(1, 2) for each in kind], 1) for kind in kinds]

    def at_grid(self, regions: Tensor) -> Tensor:
        """Maps regions (b, r, h, w) to their share around each point of the grid (b, r, points)."""
        regions = F.avg_pool2d(regions, 5, stride=1, padding=2, count_include_pad=False)
        return self.enlarge(regions, "bilinear")[..., :: self.step, :: self.step].flatten(2)

    def enlarge(self, x: Tensor, mode: str) -> Tensor:
        """Enlarges (b, c, h, w)."""
        return x if self.magnify == 1 else F.interpolate(x, scale_factor=self.magnify, mode=mode)
