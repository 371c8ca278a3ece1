"""Estimates of scores and of their differences, from a bootstrap over images and the spread over seeds."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import fdtrc

from seglab.lab.significance import Estimate, SeedVariance, SharedSpread


def estimate(
    scores: np.ndarray,
    resampled: np.ndarray,
    left_out: np.ndarray,
    groups: Sequence[Sequence[int]],
    shared: SharedSpread | None = None,
) -> Estimate:
    """Returns the mean score of a configuration's runs, or the difference of two such means.

    Args:
        scores: of the M runs, (M,).
        resampled: their scores on each resample of the images, `widened`, (resamples, M).
        left_out: their scores without each image, (N, M).
        groups: columns of the configuration's runs; and of those of a second one, which is subtracted.
        shared: the spread over seeds, in place of the one of each configuration with several seeds.
    """
    columns = [column for group in groups for column in group]
    scores, resampled = scores[columns], resampled[:, columns]
    covariance = covariance_of(resampled)
    weights, seeds, start = np.zeros(len(columns)), [], 0
    for sign, group in zip((1, -1), groups, strict=False):
        count = len(group)
        own = slice(start, start + count)
        weights[own] = sign / count
        if shared:
            seeds.append(SeedVariance(shared.total / count, shared.mixed / count, count))
        elif count > 1:
            total, mixed = spread_over_seeds(scores[own], covariance[own, own])
            seeds.append(SeedVariance(total / count, mixed / count, count))
        start += count
    value = float(weights @ scores)
    bias = float(weights @ (resampled.mean(0) - scores)) if len(groups) == 1 else 0.0
    images = float(weights @ covariance @ weights) - sum(part.mixed for part in seeds)
    alone = left_out[:, columns] @ weights
    squares = (alone - alone.mean()) ** 2
    kurtosis = float(np.mean(squares**2) / squares.mean() ** 2) if squares.any() else 3.0
    deciding = int((left_out[:, columns] != scores).any(1).sum())
    seeds, images = tuple(seeds), max(images, 0.0)
    return Estimate(value, bias, len(left_out), images, seeds, kurtosis, shared=shared, deciding=deciding)


def paired_estimate(
    scores: np.ndarray, resampled: np.ndarray, left_out: np.ndarray, ones: Sequence[int], others: Sequence[int]
) -> Estimate:
    """Returns the mean difference of the same runs scored in two ways: what a seed does to both scores cancels.

    Args:
        scores: as for `estimate`.
        resampled: as for `estimate`.
        left_out: as for `estimate`.
        ones: columns of the runs.
        others: columns of the same runs as they are scored in the way that is subtracted, in the same order.
    """
    differences = (each[..., ones] - each[..., others] for each in (scores, resampled, left_out))
    return replace(estimate(*differences, [range(len(ones))]), bias=0.0, paired=True)


def shared_spread(scores: np.ndarray, resampled: np.ndarray, groups: Sequence[Sequence[int]]) -> SharedSpread | None:
    """Returns the spread over seeds that all configurations are taken to have; none where none has several seeds.

    Args:
        scores: as for `estimate`.
        resampled: as for `estimate`.
        groups: columns of the runs of each configuration; none where they are another's scored in a second way.
    """
    places = [place for place, group in enumerate(groups) if len(group) > 1]
    if not places:
        return None
    several = [list(groups[place]) for place in places]
    dfs = np.array([len(group) - 1 for group in several])
    spreads = np.array([spread_over_seeds(scores[group], covariance_of(resampled[:, group])) for group in several])
    total, mixed = dfs @ spreads / dfs.sum()
    p_values = _p_values_of_variances(spreads[:, 0], dfs)
    p_value = float(min(1.0, len(places) * p_values.min()))
    return SharedSpread(
        float(total),
        float(mixed),
        int(dfs.sum()),
        sum(len(group) > 0 for group in groups),
        places[int(p_values.argmin())],
        p_value,
    )


def spread_over_seeds(scores: np.ndarray, covariance: np.ndarray) -> tuple[float, float]:
    """Returns the variance over seeds of one run's score, and the part of (seed with image) in it.

    Args:
        scores: of the S runs of a configuration, (S,).
        covariance: of their scores over resamples of the images, (S, S).
    """
    apart = covariance.trace() - covariance.sum() / len(scores)
    return float(scores.var(ddof=1)), max(float(apart), 0.0) / (len(scores) - 1)


def covariance_of(resampled: np.ndarray) -> np.ndarray:
    """Returns the covariance (M, M) of M runs' scores (resamples, M)."""
    return np.atleast_2d(np.cov(resampled, rowvar=False, ddof=0))


def _p_values_of_variances(variances: np.ndarray, dfs: np.ndarray) -> np.ndarray:
    """Returns the p value of an F test of each variance against all others together; 1 where there are no others.

    The smallest, times their number, tests whether one is larger than chance allows (Cochran 1941, The distribution of
    the largest of a set of estimated variances as a fraction of their total).
    """
    squares = variances * dfs
    others, rest = squares.sum() - squares, dfs.sum() - dfs
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = variances * rest / others
    p_values = np.where(variances > 0, fdtrc(dfs, np.maximum(rest, 1), ratios), 1.0)
    return np.where(rest > 0, np.where(np.isinf(ratios), 0.0, p_values), 1.0)
