"""Fisher vectors against the gradient that they are defined by."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from seglab.models.fisher_vectors import FisherVectors, is_textured, with_places


def drawn(n=400, channels=5):
    rng = np.random.default_rng(0)
    centers = np.array([[3.0] * channels, [-3.0] * channels])
    found = centers[rng.integers(2, size=n)] + rng.normal(size=(n, channels))
    return np.concatenate([found, rng.uniform(-0.5, 0.5, (n, 2))], 1).astype(np.float32)


def fitted(words=3, dims=4):
    vectors = FisherVectors(5, dims, words)
    vectors.fit(drawn(), seed=0)
    return vectors


def by_autograd(vectors, descriptors, weights):
    """The gradient of the log-likelihood in units of its standard deviation (Sánchez et al. 2013), for one region."""
    x = torch.cat([(descriptors[:, :5] - vectors.center) @ vectors.components, descriptors[:, 5:]], 1).double()
    means = vectors.means.double().requires_grad_()
    deviations = vectors.variances.double().sqrt().requires_grad_()
    mixture = MixtureSameFamily(Categorical(vectors.shares.double()), Independent(Normal(means, deviations), 1))
    (weights.double() * mixture.log_prob(x)).sum().backward()
    shares = vectors.shares.double()[:, None]
    of_means = means.grad * deviations.detach() / shares.sqrt()
    of_deviations = deviations.grad * deviations.detach() / (2 * shares).sqrt()
    vector = torch.cat([of_means, of_deviations], -1).flatten()
    vector = vector.sign() * vector.abs().sqrt()
    return (vector / vector.norm()).float()


def test_a_vector_is_the_gradient_of_the_log_likelihood():
    vectors = fitted()
    descriptors = torch.randn(2, 30, 7, generator=torch.Generator().manual_seed(1))
    weights = torch.rand(2, 3, 30, generator=torch.Generator().manual_seed(2))
    found = vectors([descriptors], weights)
    halves = vectors(descriptors.split(15, 1), weights[..., :15])
    torch.testing.assert_close(halves, vectors([descriptors], weights[..., :15].repeat(1, 1, 2)))
    assert found.shape == (2, 3, vectors.length) and vectors.length == 2 * 3 * (4 + 2)
    for i in range(2):
        for r in range(3):
            expected = by_autograd(vectors, descriptors[i], weights[i, r])
            torch.testing.assert_close(found[i, r], expected, atol=1e-4, rtol=1e-3)


def test_an_empty_region_has_a_vector_of_zeros():
    assert not fitted()([torch.randn(1, 30, 7)], torch.zeros(1, 1, 30)).any()


def test_a_descriptor_of_zeros_counts_nowhere():
    vectors, descriptors = fitted(), torch.randn(1, 30, 7)
    padded = torch.cat([descriptors, torch.cat([torch.zeros(1, 10, 5), torch.rand(1, 10, 2)], -1)], 1)
    assert is_textured(padded).tolist() == [[True] * 30 + [False] * 10]
    torch.testing.assert_close(vectors([padded], torch.ones(1, 1, 40)), vectors([descriptors], torch.ones(1, 1, 30)))


def test_components_and_words_are_those_of_the_data():
    vectors, data = fitted(words=2, dims=5), torch.from_numpy(drawn())
    assert torch.allclose(vectors.components.mT @ vectors.components, torch.eye(5), atol=1e-5)
    found = torch.cat([vectors.means[:, :5] @ vectors.components.mT + vectors.center, vectors.means[:, 5:]], 1)
    found = found[found[:, 0].argsort()]
    torch.testing.assert_close(found, torch.stack([data[data[:, 0] < 0].mean(0), data[data[:, 0] > 0].mean(0)]))
    assert vectors.shares.sum() == pytest.approx(1) and torch.equal(fitted().means, fitted().means)


def test_a_descriptor_says_where_it_is():
    grid = torch.rand(2, 3, 4, 5)
    found = with_places(grid).unflatten(1, (3, 4))
    assert found.shape == (2, 3, 4, 7) and torch.equal(found[..., :5], grid)
    torch.testing.assert_close(found[0, 1, :, 5], torch.tensor([-0.375, -0.125, 0.125, 0.375]))  # from left to right
    torch.testing.assert_close(found[1, :, 2, 6], torch.tensor([-1 / 3, 0, 1 / 3]))  # downwards


def test_too_few_descriptors_are_refused():
    with pytest.raises(ValueError, match="n_samples|n_components"):
        FisherVectors(5, 4, 8).fit(drawn(6), seed=0)
