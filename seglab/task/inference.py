"""From images to logits at any size: test-time augmentation, sliding windows, and the mean of several networks."""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEAST_PROBABILITY = 1e-12
_RESIZED_VALUES = 2**20  # of logits that are resized at a time: few enough for a processor's cache
_STEEPNESS = 6  # of the weights of a window: it is trusted in its middle, where it sees as much as the whole image does


class Inference(nn.Module):
    """What an image goes through when it is scored or predicted; plain by default: one network, the whole image.

    With several networks, scales or a flip the result is the mean of their probabilities. Images larger than `window`
    go through in windows that overlap, each weighted by a wave that falls towards its borders, where it sees least.

    Args:
        models: Each maps images (b, 3, h, w), 0 to 255, to logits (b, num_classes, h, w).
        flip: Whether the mirrored image counts, too.
        scales: Factors that the image is resized by before it goes through the networks.
        window: Side in pixels of a window, rounded up to the networks' stride; none for whole images.
        overlap: Share of a window's side that it has in common with the next, at least.

    Raises:
        ValueError: A factor, the window or the overlap is out of range.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        window: int | None = None,
        overlap: float = 0.5,
    ) -> None:
        super().__init__()
        if not scales or not all(0 < scale < math.inf for scale in scales):
            raise ValueError(f"scales={list(scales)}: give one or more factors above 0, 1 for the image as it is")
        if window is not None and window < 1:
            raise ValueError(f"window={window}: give the side of a window in pixels, or null for whole images")
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap={overlap}: give a share from 0 to below 1")
        self.models = nn.ModuleList(models)
        self.flip, self.scales, self.window, self.overlap = flip, tuple(scales), window, overlap

    @property
    def is_plain(self) -> bool:
        """Whether an image goes through one network once, whose logits are then the result."""
        return len(self.models) == 1 and not self.flip and self.scales == (1.0,)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Returns logits float32 (b, num_classes, h, w) of images uint8 (b, 3, h, w), as a network does."""
        logits = [_joined(self.bands(each)) for each in image]
        return logits[0][None] if len(logits) == 1 else torch.stack(logits)

    @torch.no_grad()
    def bands(self, image: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yields the logits of an image in bands of rows from top to bottom, so that only one window's height is held.

        Args:
            image: uint8 (3, h, w), on any device; windows go to the networks' own.

        Yields:
            The first row of the band, and its logits float32 (num_classes, rows, w).
        """
        height, width = image.shape[-2:]
        if self.window is None or max(height, width) <= self.window:
            yield 0, self._logits(self._scores(image))
            return
        tops, lefts = self._places(height), self._places(width)
        rows = tops[0].stop
        sums = totals = torch.empty(0)
        for vertical, below in zip(tops, [*(each.start for each in tops[1:]), height], strict=True):
            for horizontal in lefts:
                scores = self._scores(image[:, vertical, horizontal])
                if not len(sums):
                    sums, totals = scores.new_zeros(len(scores), rows, width), scores.new_zeros(rows, width)
                weight = _wave(vertical, height)[:, None] * _wave(horizontal, width)
                weight = weight.to(scores.device)
                sums[:, : len(weight), horizontal] += scores * weight
                totals[: len(weight), horizontal] += weight
            done = below - vertical.start  # no later window reaches these rows
            yield vertical.start, self._logits(sums[:, :done] / totals[:done])
            for held in (sums, totals):  # a row at a time, since the two parts may overlap
                for row in range(rows):
                    held[..., row, :] = held[..., row + done, :] if row + done < rows else 0

    def _places(self, length: int) -> list[slice]:
        """Returns where windows lie along a side.

        They start at multiples of the networks' stride: their features lie on the grid of the whole image's.
        """
        stride = math.lcm(*(getattr(model, "stride", 1) for model in self.models))
        window = -(-self.window // stride) * stride
        step = max(int(window * (1 - self.overlap)) // stride * stride, stride)
        last = -(-max(length - window, 0) // stride) * stride
        return [slice(start, min(start + window, length)) for start in [*range(0, last, step), last]]

    def _logits(self, scores: Tensor) -> Tensor:
        return scores if self.is_plain else scores.clamp_min(_LEAST_PROBABILITY).log()

    def _scores(self, image: Tensor) -> Tensor:
        """Returns logits (num_classes, h, w) of one pass, or the mean probabilities of several."""
        device = next(self.models[0].parameters()).device
        image = image[None].to(device)
        if self.is_plain:
            return self.models[0](image)[0].float()
        size = image.shape[-2:]
        total: Tensor | float = 0.0
        for scale in self.scales:
            scaled = image if scale == 1 else _resized(image, scale)
            for view in (scaled, scaled.flip(-1)) if self.flip else (scaled,):
                for model in self.models:
                    logits = model(view).float()
                    logits = logits if view is scaled else logits.flip(-1)
                    if logits.shape[-2:] != size:
                        logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
                    total = total + logits.softmax(1)
        return total[0] / (len(self.scales) * (1 + self.flip) * len(self.models))


def _joined(bands: Iterator[tuple[int, Tensor]]) -> Tensor:
    parts = [logits for _, logits in bands]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)  # a copy would have another layout, and round anew


def resized_bands(
    bands: Iterable[tuple[int, Tensor]], height: int, size: Sequence[int]
) -> Iterator[tuple[int, Tensor]]:
    """Yields logits resized (bilinear) in bands of rows from top to bottom, so that they are never held whole.

    Args:
        bands: As `Inference.bands` yields them, the logits (num_classes, rows, w).
        height: Rows of all bands together.
        size: Height and width of the result.

    Yields:
        The first row of the band, and its logits float32 (num_classes, rows, W).
    """
    places = ((torch.arange(size[0]) + 0.5) * (height / size[0]) - 0.5).clamp(0, height - 1)
    above = places.long()  # each new row lies between two old ones
    below = (above + 1).clamp_max(height - 1)
    share = (places - above)[:, None]
    held, done = torch.empty(0), 0
    for top, logits in bands:
        held = torch.cat([held, logits], dim=1) if top else logits
        end = top + logits.shape[1]
        first, ready = end - held.shape[1], int((below < end).sum())
        step = max(_RESIZED_VALUES // (len(held) * size[1]), 1)
        for start in range(done, ready, step):
            rows = slice(start, min(start + step, ready))
            upper, lower = above[rows] - above[start], below[rows] - above[start]
            near = held[:, above[start] - first : below[rows.stop - 1] + 1 - first]
            near = F.interpolate(near[None], (near.shape[1], size[1]), mode="bilinear", align_corners=False)[0]
            weight = share[rows].to(near.device)
            # In this order it mostly rounds as one interpolation of all does.
            yield start, torch.addcmul(near[:, lower] * weight, near[:, upper], 1 - weight)
        done = ready
        held = held[:, above[min(done, size[0] - 1)] - first :]


def _resized(image: Tensor, scale: float) -> Tensor:
    size = [max(1, round(side * scale)) for side in image.shape[-2:]]
    return F.interpolate(image.float(), size, mode="bilinear", align_corners=False, antialias=scale < 1)


def _wave(place: slice, length: int) -> Tensor:
    """Returns weights of a window's rows or columns that fall to nearly 0 towards its ends, but not at the image's."""
    position = (torch.arange(place.stop - place.start) + 0.5) / (place.stop - place.start)
    if place.start == 0:
        position = position.clamp_min(0.5)
    if place.stop == length:
        position = position.clamp_max(0.5)
    return torch.sin(position * torch.pi) ** _STEEPNESS + 1e-4
