"""A second opinion on what an object is: by the texture and colour of all of it, from few photographs."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.models.descriptors import DenseColor, DenseSIFT
from seglab.models.fisher_vectors import FisherVectors, with_places
from seglab.numeric import is_number, is_whole


class FisherClassifier(nn.Module):
    """Tells the class of what is not background from Fisher vectors of SIFT and colour, and joins it to the logits.

    The network says where the objects of an image are, and this what they are, once for all of the image: the
    probability of each class but `background` is multiplied by that of a linear classifier and normed, so that they
    keep their sum (a product of experts, Hinton 2002). One vector is that of the object, a shorter one that of its
    surroundings, which a sheep and a sofa do not share. Its descriptors are fixed and its vocabulary is learned without
    labels, so that some hundreds of photographs do for it, where a network that learns its features from so few knows
    them by heart. It is fitted by itself, before the training (`fit_objects`), and takes no part in it: while training
    the logits stay as they are. Fisher vectors of regions for segmentation: Csurka and Perronnin 2008; of second order:
    Carreira et al. 2012.

    Args:
        num_classes: of the logits.
        background: index of the class that is no object.
        magnify: what the image is enlarged by, so that descriptors of 4 to 12 pixels a cell suit it.
        cells: sides of the descriptors' cells in pixels of the enlarged image, even.
        step: distance of the descriptors in pixels of the enlarged image.
        words: of the vocabularies, of texture and of colour.
        dims: that are kept of a descriptor, of texture and of colour; its place in the image comes beside these.
        color: length of the vector of colour, where that of texture has 1.
        surroundings: length of the vectors of the surroundings, where those of the object have 1.

    Raises:
        ValueError: A value is out of range, or there are not two classes to tell apart.
    """

    def __init__(
        self,
        num_classes: int,
        background: int = 0,
        magnify: int = 2,
        cells: Sequence[int] = (4, 6, 8, 12),
        step: int = 6,
        words: Sequence[int] = (256, 128),
        dims: Sequence[int] = (64, 24),
        color: float = 0.5,
        surroundings: float = 0.5,
    ) -> None:
        super().__init__()
        kinds = (DenseSIFT, DenseColor)
        if num_classes < 3:
            raise ValueError(f"{num_classes} classes: there are not two but background to tell apart")
        if not is_whole(background) or not 0 <= background < num_classes:
            raise ValueError(f"background={background}: give the index of one of the {num_classes} classes")
        for name, value in (("magnify", magnify), ("step", step)):
            if not is_whole(value) or value < 1:
                raise ValueError(f"{name}={value}: give a whole number from 1")
        if not _wholes(cells) or not cells or any(cell < 2 or cell % 2 for cell in cells):
            raise ValueError(f"cells={cells}: give a list of even numbers from 2")
        for name, pair, most in (("words", words, (math.inf, math.inf)), ("dims", dims, [k.channels for k in kinds])):
            if not _wholes(pair) or len(pair) != 2 or any(not 1 <= n <= m for n, m in zip(pair, most, strict=True)):
                ranges = "each from 1" if name == "words" else f"from 1 to {most[0]} and {most[1]}"
                raise ValueError(f"{name}={pair}: give two whole numbers, of texture and of colour, {ranges}")
        for name, value in (("color", color), ("surroundings", surroundings)):
            if not is_number(value) or not 0 <= value < math.inf:
                raise ValueError(f"{name}={value}: give a number from 0")
        self.magnify, self.step = magnify, step
        self.lengths, self.surroundings = (1.0, float(color)), float(surroundings)
        sizes = (tuple(cells), step, tuple(words), tuple(dims))
        self.settings = (num_classes, background, magnify, *sizes, self.lengths, self.surroundings)
        self.background = background
        self.sift = nn.ModuleList(DenseSIFT(cell, step) for cell in cells)
        self.opponent = nn.ModuleList(DenseColor(cell, step) for cell in cells)
        self.vectors = nn.ModuleList(
            FisherVectors(kind.channels, size, count) for kind, size, count in zip(kinds, dims, words, strict=True)
        )
        length = 2 * sum(each.length for each in self.vectors)
        self.register_buffer("weight", torch.zeros(num_classes, length))
        self.register_buffer("bias", torch.zeros(num_classes))
        self.register_buffer("judged", torch.arange(num_classes) != background)
        self.register_buffer("luma", torch.tensor([0.299, 0.587, 0.114]).view(-1, 1, 1), persistent=False)

    def forward(self, image: Tensor, logits: Tensor) -> Tensor:
        """Joins its opinion of images (b, 3, h, w) in 0..255 to their logits (b, num_classes, h, w)."""
        if image.device.type != "meta" and torch.is_autocast_enabled(image.device.type):
            with torch.autocast(image.device.type, enabled=False):
                return self(image, logits)
        judged = self.judged[:, None, None]
        objects = logits.masked_fill(~judged, -math.inf)
        anywhere = objects.logsumexp(1, keepdim=True)
        elsewhere = logits.masked_fill(judged, -math.inf).logsumexp(1, keepdim=True)
        inside = (anywhere - elsewhere).sigmoid()
        vector = self.object_vectors(image, inside, 1 - inside)
        opinion = F.linear(vector[:, 0], self.weight, self.bias)
        joined = (objects + opinion[:, :, None, None]).log_softmax(1) + anywhere
        return torch.where(judged, joined, logits)

    def object_vectors(self, image: Tensor, objects: Tensor, surroundings: Tensor) -> Tensor:
        """Maps images and the regions of their objects to a vector of each object.

        Args:
            image: (b, 3, h, w) in 0..255.
            objects: (b, n, h, w), the share of each object in each pixel, in [0, 1].
            surroundings: (b, 1, h, w), that of what is no object.

        Returns:
            (b, n, length).
        """
        weights = self.at_grid(torch.cat([objects, surroundings], 1))
        kinds = zip(self.lengths, self.vectors, self.describe(image), strict=True)
        found = torch.cat([length * vectors(descriptors, weights) for length, vectors, descriptors in kinds], -1)
        around = self.surroundings * found[:, -1:].expand_as(found[:, :-1])
        return torch.cat([found[:, :-1], around], -1)

    def describe(self, image: Tensor) -> list[list[Tensor]]:
        """Maps images (b, 3, h, w) in 0..255 to their descriptors of texture and of colour.

        Each is a list of (b, n, channels + 2), for every size of cell, at the same n points, which end in their place.
        """
        image = self.enlarge(image.to(self.bias.dtype) / 255, "bicubic").clamp(0, 1)
        grey = (image * self.luma).sum(1, keepdim=True)
        return [[with_places(each(grey)) for each in self.sift], [with_places(each(image)) for each in self.opponent]]

    def at_grid(self, regions: Tensor) -> Tensor:
        """Maps regions (b, r, h, w) to their share around each point of the grid (b, r, n)."""
        regions = F.avg_pool2d(regions, 5, stride=1, padding=2, count_include_pad=False)
        return self.enlarge(regions, "bilinear")[..., :: self.step, :: self.step].flatten(2)

    def enlarge(self, x: Tensor, mode: str) -> Tensor:
        """Enlarges (b, c, h, w)."""
        return F.interpolate(x, [side * self.magnify for side in x.shape[-2:]], mode=mode) if self.magnify > 1 else x


def _wholes(values: object) -> bool:
    return isinstance(values, Sequence) and all(map(is_whole, values))
