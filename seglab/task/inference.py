"""From images to logits at any size: test-time augmentation, sliding windows, and the mean of several networks."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEAST_PROBABILITY = 1e-12


class Inference(nn.Module):
    """What an image goes through when it is scored or predicted; plain by default: one network, the whole image.

    With several networks, scales or a flip the result is the mean of their probabilities. Images larger than `window`
    go through in windows that overlap, each weighted by a wave that falls towards its borders, where it knows least.

    Args:
        models: Each maps images (b, 3, h, w), 0 to 255, to logits (b, num_classes, h, w).
        flip: Whether the mirrored image counts, too.
        scales: Factors that the image is resized by before it goes through the networks.
        window: Side in pixels of a window; none for whole images.
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
        if not scales or min(scales) <= 0:
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
        """Returns logits float32 (num_classes, h, w) of an image uint8 (3, h, w)."""
        return torch.cat([logits for _, logits in self.bands(image)], dim=1)

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
        tops, lefts = self._starts(height), self._starts(width)
        rows, columns = min(self.window, height), min(self.window, width)
        weight = _bump(rows)[:, None] * _bump(columns)[None, :]  # (rows, columns)
        sums = totals = torch.empty(0)
        for top, below in zip(tops, [*tops[1:], height], strict=True):
            for left in lefts:
                scores = self._scores(image[:, top : top + rows, left : left + columns])
                if not len(sums):
                    sums, totals = scores.new_zeros(len(scores), rows, width), scores.new_zeros(rows, width)
                    weight = weight.to(scores.device)
                sums[:, :, left : left + columns] += scores * weight
                totals[:, left : left + columns] += weight
            done = below - top  # no later window reaches these rows
            yield top, self._logits(sums[:, :done] / totals[:done])
            for held in (sums, totals):  # a row at a time, since the two parts may overlap
                for row in range(rows):
                    held[..., row, :] = held[..., row + done, :] if row + done < rows else 0

    def _starts(self, length: int) -> list[int]:
        """Returns where windows start along a side: evenly, the first and the last at its ends."""
        last = max(length - self.window, 0)
        steps = -(-last // max(1, int(self.window * (1 - self.overlap))))
        return [round(step * last / max(steps, 1)) for step in range(steps + 1)]

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


def enlarged_preds(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Returns the best class uint8 (H, W) of logits (num_classes, h, w) resized to a size, one class held at a time."""
    best, preds = torch.empty(()), torch.empty(())
    for label, own in enumerate(logits):
        enlarged = F.interpolate(own[None, None], tuple(size), mode="bilinear", align_corners=False)[0, 0]
        if label == 0:
            best, preds = enlarged, torch.zeros(enlarged.shape, dtype=torch.uint8, device=enlarged.device)
            continue
        higher = enlarged > best
        best, preds = torch.where(higher, enlarged, best), preds.masked_fill_(higher, label)
    return preds


def _resized(image: Tensor, scale: float) -> Tensor:
    size = [max(1, round(side * scale)) for side in image.shape[-2:]]
    return F.interpolate(image.float(), size, mode="bilinear", align_corners=False, antialias=scale < 1)


def _bump(length: int) -> Tensor:
    """Returns weights (length,) that rise from the ends to the middle as half a cosine wave, and are never 0."""
    return torch.sin((torch.arange(length) + 0.5) * (torch.pi / length)) ** 2 + 1e-3
