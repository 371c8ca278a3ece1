"""Fisher vectors: what the local descriptors of a region have in common, as one long vector."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class FisherVectors(nn.Module):
    """Fisher vectors (Perronnin and Dance 2007; improved ones of Perronnin et al. 2010) of weighted descriptors.

    Descriptors are brought to fewer dimensions by their principal components. A mixture of Gaussians with diagonal
    covariances is their vocabulary; the vector is the gradient of the region's log-likelihood with respect to the
    means and deviations of its words, with the signed square root of each value and length 1.

    Args:
        channels: of a descriptor.
        dims: that are kept of them.
        words: Gaussians of the mixture.
    """

    def __init__(self, channels: int, dims: int, words: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(channels))
        self.register_buffer("components", torch.zeros(channels, dims))
        self.register_buffer("means", torch.zeros(words, dims))
        self.register_buffer("variances", torch.ones(words, dims))
        self.register_buffer("shares", torch.full((words,), 1 / words))

    @property
    def length(self) -> int:
        """Values of a vector."""
        return 2 * self.means.numel()

    def fit(self, descriptors: np.ndarray, seed: int) -> None:
        """Learns components and words from descriptors float32 (n, channels), without a label.

        Raises:
            ValueError: There are fewer descriptors than words or dimensions.
        """
        from sklearn.decomposition import PCA
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        words, dims = self.means.shape
        pca = PCA(dims, svd_solver="covariance_eigh").fit(descriptors)
        mixture = GaussianMixture(words, covariance_type="diag", reg_covar=1e-4, max_iter=30, tol=0, random_state=seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=ConvergenceWarning)  # as meant: it need not be the best
            mixture.fit(pca.transform(descriptors))
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
        """Maps descriptors, sets of (b, n, channels), and their weights in each region (b, r, n) to (b, r, length).

        The weights are the same for every set. A descriptor of zeros counts nowhere.
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
        return vector / vector.norm(dim=-1, keepdim=True).clamp(min=1e-12)

    def _sums(self, descriptors: Tensor, weights: Tensor) -> Tensor:
        """Returns for each region and word the sum of its posteriors, and of these times the values and their squares.

        These are one row (b, r, words, 1 + 2 * dims).
        """
        weights = weights * (descriptors != 0).any(-1)[:, None]
        x = (descriptors - self.center) @ self.components
        square = x**2
        log_shares = self.shares.log() - 0.5 * (self.variances.log() + self.means**2 / self.variances).sum(1)
        log_joint = x @ (self.means / self.variances).T - 0.5 * square @ (1 / self.variances).T + log_shares
        values = torch.cat([torch.ones_like(x[..., :1]), x, square], -1)
        of_regions = (weights.mT[..., None] * values[:, :, None]).flatten(2)  # one product for all regions
        sums = log_joint.softmax(-1).mT @ of_regions
        return sums.unflatten(-1, (weights.shape[1], values.shape[-1])).transpose(1, 2)
