"""Whether a network is as sure as it is right: sums for the calibration error, and the temperature that mends it."""

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

BINS = 15
TEMPERATURES = 2 ** np.linspace(4, -3, 15)  # 16 to 1/8, so that 1 / temperature rises


def calibration_sums(
    logits: Tensor, preds: Tensor, mask: Tensor, ignore_index: int, temperature: float = 1.0
) -> np.ndarray:
    """Sums up the confidence of scored pixels, the highest probability of each, in bins of equal width.

    Args:
        logits: (num_classes, h, w).
        preds: The best class of each pixel, (h, w).
        mask: Labels (h, w).
        ignore_index: Mask value that is left out.
        temperature: Divides the logits.

    Returns:
        float64 (BINS, 4): pixels, sum of their confidence, pixels that are predicted right, and sum of the negative log
        likelihood of the labels.
    """
    logits = (logits if temperature == 1 else logits / temperature).contiguous()  # sums over classes are faster so
    scored = mask != ignore_index
    totals = logits.logsumexp(0)  # (h, w)
    confidence = (logits.amax(0) - totals).exp()
    nll = totals - logits.gather(0, torch.where(scored, mask, 0)[None])[0]
    bins = (confidence * BINS).long().clamp(0, BINS - 1).masked_fill(~scored, BINS).flatten().cpu().numpy()
    values = (each.flatten().cpu().numpy() for each in (confidence, preds == mask, nll))
    sums = [np.bincount(bins, each, BINS + 1)[:BINS] for each in (None, *values)]
    return np.stack(sums, axis=1)


def calibration_scores(sums: np.ndarray) -> dict[str, float | None]:
    """Returns ece and nll of sums (BINS, 4); none where no pixel is scored.

    The expected calibration error is the mean over pixels of how far the share of right pixels in their bin is from
    the mean confidence there. Guo et al., 2017, arXiv:1706.04599.
    """
    pixels, confidence, hits, nll = sums.T
    total = pixels.sum()
    if not total:
        return {"ece": None, "nll": None}
    return {"ece": float(np.abs(confidence - hits).sum() / total), "nll": float(nll.sum() / total)}


class TemperatureFit(Metric):
    """Finds the temperature of least negative log likelihood, from sums over all scored pixels.

    The likelihood is summed at fixed temperatures, with its slope and curvature, so that no pixel is kept; between them
    the slope is a cubic. Guo et al., 2017, arXiv:1706.04599.

    Args:
        ignore_index: Mask value that is left out.
    """

    full_state_update = False

    def __init__(self, ignore_index: int) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.add_state("sums", torch.zeros(len(TEMPERATURES), 3, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("pixels", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, mask: Tensor) -> None:
        """Adds the pixels of logits (num_classes, h, w) with mask (h, w)."""
        scored = mask != self.ignore_index
        logits = logits[:, scored]  # (num_classes, n)
        logits = logits - logits.amax(0)
        own = logits.gather(0, mask[scored][None])[0]
        for row, temperature in enumerate(TEMPERATURES):
            weights = (logits / temperature).exp()
            total = weights.sum(0)
            mean, square = (weights * logits).sum(0) / total, (weights * logits**2).sum(0) / total
            terms = (total.log() - own / temperature, mean - own, square - mean**2)
            self.sums[row] += torch.stack([term.sum(dtype=torch.float64) for term in terms])
        self.pixels += scored.sum()

    def compute(self) -> dict[str, float]:
        """Returns temperature, and the mean nll per pixel without and with it.

        Raises:
            ValueError: No pixel was scored.
        """
        from scipy.interpolate import CubicHermiteSpline  # 0.2 s, which no training has a use for
        from scipy.optimize import brentq

        if not self.pixels:
            raise ValueError("no pixel is scored")
        nll, slopes, curvatures = (self.sums / self.pixels).cpu().numpy().T  # by 1 / temperature
        inverse = 1 / TEMPERATURES
        place = np.log(inverse)
        slope = CubicHermiteSpline(place, slopes, curvatures * inverse)
        if slopes[0] >= 0 or slopes[-1] <= 0:
            best = place[0] if slopes[0] >= 0 else place[-1]
        else:
            best = brentq(slope, place[0], place[-1])
        curve = CubicHermiteSpline(place, nll, slopes * inverse)
        return {"temperature": float(np.exp(-best)), "nll": float(curve(0.0)), "nll_with_it": float(curve(best))}
