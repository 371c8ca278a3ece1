"""Fisher vectors: what the local descriptors of a region have in common, as one long vector."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

PLACE = 2  # values at a descriptor's end that say where it is


def with_places(descriptors: Tensor) -> Tensor:
    """Puts behind the descriptors of a grid where in the image they are.

    Args:
        descriptors: (b, rows, columns, channels).

    Returns:
        (b, rows * columns, channels + 2); the last two values are the shares of the width and of the height that lie
        before it, less a half.
    """
    one = torch.ones_like(descriptors[..., :1])  # counted, since torch.export would want an arange of one size alone
    down, across = ((one.cumsum(side) - 0.5) / one.sum(side, keepdim=True) - 0.5 for side in (1, 2))
    return torch.cat([descriptors, across, down], -1).flatten(1, 2)


def is_textured(descriptors: Tensor) -> Tensor:
    """Returns which of the descriptors (..., channels + 2) are not zeros but for their place."""
    return (descriptors[..., :-PLACE] != 0).any(-1)


class FisherVectors(nn.Module):
    """Fisher vectors (Perronnin and Dance 2007; improved ones of Perronnin et al. 2010) of weighted descriptors.

    Descriptors are brought to fewer dimensions by their principal components, and where they are in the image comes
    beside these (Sánchez et al. 2012, Pattern Recognition Letters 33). A mixture of Gaussians with diagonal covariances
    is their vocabulary; the vector is the gradient of the region's log-likelihood with respect to the means and
    deviations of its words, with the signed square root of each value and length 1.

    Args:
        channels: of a descriptor, without its place.
        dims: that are kept of them.
        words: Gaussians of the mixture.
    """

    def __init__(self, channels: int, dims: int, words: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(channels))
        self.register_buffer("components", torch.zeros(channels, dims))
        self.register_buffer("means", torch.zeros(words, dims + PLACE))
        self.register_buffer("variances", torch.ones(words, dims + PLACE))
        self.register_buffer("shares", torch.full((words,), 1 / words))

    @property
    def length(self) -> int:
        """Values of a vector."""
        return 2 * self.means.numel()

    def fit(self, descriptors: np.ndarray, seed: int) -> None:
        """Learns components and words from descriptors float32 (n, channels + 2), without a label.

        Raises:
            ValueError: There are fewer descriptors than words or dimensions.
        """
        from sklearn.decomposition import PCA
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        words, channels = len(self.means), descriptors[:, :-PLACE]
        pca = PCA(self.components.shape[1], svd_solver="covariance_eigh").fit(channels)
        mixture = GaussianMixture(words, covariance_type="diag", reg_covar=1e-4, max_iter=30, tol=0, random_state=seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=ConvergenceWarning)  # as meant: it need not be the best
            mixture.fit(np.concatenate([pca.transform(channels), descriptors[:, -PLACE:]], 1))
        learned = {
            "center": pca.mean_,
            "components": pca.components_.T,
            "means": mixture.means_,
            "variances": mixture.covariances_,
            "shares": mixture.weights_,
        }
        for name, value in learned.items():
            getattr(self, name).copy_(torch.as_tensor(value.copy()))

    def forward(self, descriptors: Sequence[Tensor], weights: Tensor) -> Tensor:
        """Maps descriptors, sets of (b, n, channels + 2), and their weights in each region (b, r, n) to (b, r, length).

        The weights are the same for every set. A descriptor of zeros counts nowhere, wherever it is.
        """
        sums = sum(self._sums(each, weights) for each in descriptors)
        count, first, second = sums.split([1, *[self.means.shape[1]] * 2], -1)
        shares = self.shares[:, None]
        of_means = (first - count * self.means) / (self.variances * shares).sqrt()
        of_deviations = (second - 2 * self.means * first + count * (self.means**2 - self.variances)) / (
            self.variances * (2 * shares).sqrt()
        )
        vector = torch.cat([of_means, of_deviations], -1).flatten(2)
        vector = vector.sign() * vector.abs().sqrt()
        return (vector / vector.norm(dim=-1, keepdim=True).clamp(min=1e-12)).to(self.means.dtype)

    def _sums(self, descriptors: Tensor, weights: Tensor) -> Tensor:
        """Returns for each region and word the sum of its posteriors, and of these times the values and their squares.

        These are one row (b, r, words, 1 + 2 * (dims + 2)).
        """
        weights = weights * is_textured(descriptors)[:, None]
        channels, places = descriptors[..., :-PLACE], descriptors[..., -PLACE:]
        x = torch.cat([(channels - self.center) @ self.components, places], -1)
        square = x**2
        log_shares = self.shares.log() - 0.5 * (self.variances.log() + self.means**2 / self.variances).sum(1)
        log_joint = x @ (self.means / self.variances).T - 0.5 * square @ (1 / self.variances).T + log_shares
        values = torch.cat([torch.ones_like(x[..., :1]), x, square], -1)
        of_regions = (weights.mT[..., None] * values[:, :, None]).flatten(2)  # one product for all regions
        # the differences of these sums are small, and their roots would make more of what rounding leaves
        sums = log_joint.softmax(-1).mT.double() @ of_regions.double()
        return sums.unflatten(-1, (weights.shape[1], values.shape[-1])).transpose(1, 2)
