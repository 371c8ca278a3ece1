"""What a few seeds and a few images allow to say of a score: its interval, its p value, and what would show more.

A score varies with the images and with the seed. For runs of one configuration with S seeds on N images, take it as
mean + image + seed + (seed with image). Then

- s^2 / S, from the spread of the runs' scores, measures seed / S + (seed with image) / SN with S - 1 degrees of
  freedom. It is the variance of drawing S - 1 of the S seeds anew (Rao and Wu 1988,
  Resampling inference with complex survey data);
- the bootstrap over images, the runs held fixed, measures image / N + (seed with image) / SN;
- the bootstrap of each run against the mean of all measures (seed with image) / SN, which is part of both.

Where the seeds of all configurations are taken to spread alike, s^2 is the mean of theirs, and its degrees of freedom
are the sum of theirs.

Seeds and images resampled at once count that part three times (Owen 2007, The pigeonhole bootstrap), and it is a large
one where two configurations are compared on the same images, whose own part cancels. Here it counts once.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import nctdtr, stdtrit

LEVEL = 0.05  # of every interval and verdict
POWER = 0.8
MOST_SEEDS, MOST_IMAGES = 1000, 10**7
_SMALLEST_P = 1e-15


class SeedVariance(NamedTuple):
    """Variances of the mean over the seeds of one configuration.

    Attributes:
        total: s^2 / S.
        mixed: the part of (seed with image) in it.
        count: S, at least 2 where s^2 is the configuration's own.
    """

    total: float
    mixed: float
    count: int


class SharedSpread(NamedTuple):
    """Variances over seeds of one run's score, taken to be those of every configuration.

    Attributes:
        total: s^2, the mean over configurations with several seeds, weighted by S - 1.
        mixed: the part of (seed with image) in it, likewise.
        df: degrees of freedom, the sum of S - 1.
        groups: number of all configurations.
        widest: place of the configuration whose s^2 exceeds that of the others most clearly.
        p_value: of its being as large by chance: small where they do not spread alike.
    """

    total: float
    mixed: float
    df: int
    groups: int
    widest: int
    p_value: float


@dataclass(frozen=True)
class Estimate:
    """A score, or a difference of two, with the parts of its variance.

    Attributes:
        value: the estimate.
        bias: of a score, from the bootstrap: mIoU of few images is a little too low, since a ratio of sums bends. That
            of a difference is none: what bends both scores cancels, and an estimate of the rest would be noise.
        num_images: number of images N.
        images: variance of the images' own part; where no configuration has several seeds, of all that images do.
        seeds: of each configuration with several seeds, or of each where they share one spread.
        kurtosis: of what single images add, 3 if normal; more where few images decide.
        paired: whether it is the difference of the same runs scored in two ways, and has the seeds of one of them.
        shared: what the variances of the seeds are taken from, where it is one spread for all configurations.
        deciding: how many images change the estimate when left out, for the IoU of a class those that have it; all by
            default.
    """

    value: float
    bias: float
    num_images: int
    images: float
    seeds: tuple[SeedVariance, ...] = ()
    kurtosis: float = 3.0
    paired: bool = False
    shared: SharedSpread | None = None
    deciding: int | None = None

    @cached_property
    def center(self) -> float:
        """The estimate less its bias."""
        return self.value - self.bias

    @cached_property
    def images_df(self) -> float:
        """Degrees of freedom of the images' variance: 2 / (its relative error, squared), and `deciding` - 1 at most."""
        return min(2 * self.num_images / max(self.kurtosis - 1, 1e-9), max((self.deciding or self.num_images) - 1, 1))

    @cached_property
    def seed_variance(self) -> float:
        """Variance of all that seeds do."""
        return sum(part.total for part in self.seeds)

    @cached_property
    def seed_df(self) -> float:
        """Degrees of freedom of the seeds' variances together (Welch 1947, Biometrika 34), or of the shared one."""
        if self.shared:
            return float(self.shared.df)
        squares = sum(part.total**2 / (part.count - 1) for part in self.seeds)
        return self.seed_variance**2 / squares if squares else float(sum(part.count - 1 for part in self.seeds))

    @cached_property
    def standard_error(self) -> float:
        """Root of the whole variance."""
        return math.sqrt(self.images + self.seed_variance)

    def critical(self, level: float) -> float:
        """Returns how many standard errors from zero are significant at a two-sided level.

        The t quantiles of images and of seeds are averaged, weighted by their variances (Cochran and Cox 1950,
        Experimental Designs). Satterthwaite's one number of degrees of freedom for both covers too little where a
        variance with one or two of them meets one with many: 88 to 95 % in place of 95.
        """
        images = t_quantile(self.images_df, level)
        if not self.seed_variance:
            return images
        seeds = t_quantile(self.seed_df, level)
        return (self.images * images + self.seed_variance * seeds) / (self.images + self.seed_variance)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Returns the interval that covers the truth with probability 1 - level.

        It is symmetric about `center`: percentiles of the resamples double the bias in place of taking it out.
        """
        half = self.critical(level) * self.standard_error
        return self.center - half, self.center + half

    @cached_property
    def p_value(self) -> float:
        """The level at which the interval just touches zero."""
        if not self.standard_error:
            return float(self.center == 0)
        ratio = abs(self.center) / self.standard_error
        if self.critical(_SMALLEST_P) <= ratio:
            return _SMALLEST_P
        return brentq(lambda level: self.critical(level) - ratio, _SMALLEST_P, 1.0)

    def power(self, level: float = LEVEL) -> float:
        """Returns the probability that a true difference of this very size is significant, in [0, 1]."""
        if not self.standard_error:
            return float(self.center != 0)
        squares = self.images**2 / self.images_df
        if self.seed_variance:
            squares += self.seed_variance**2 / self.seed_df
        df = self.standard_error**4 / squares
        return 1.0 - float(nctdtr(df, abs(self.center) / self.standard_error, self.critical(level)))

    def with_seeds(self, count: int) -> "Estimate":
        """Returns what it would be with so many seeds of each configuration, on the same images."""
        seeds = (SeedVariance(*(value * part.count / count for value in part[:2]), count) for part in self.seeds)
        shared = self.shared and self.shared._replace(df=self.shared.groups * (count - 1))
        return replace(self, seeds=tuple(seeds), shared=shared)

    def with_images(self, count: int) -> "Estimate":
        """Returns what it would be with so many images, scored by the same runs."""
        factor = self.num_images / count
        seeds = (
            SeedVariance(max(part.total - part.mixed, 0) + part.mixed * factor, part.mixed * factor, part.count)
            for part in self.seeds
        )
        deciding = self.deciding and round(self.deciding / factor)
        return replace(self, num_images=count, deciding=deciding, images=self.images * factor, seeds=tuple(seeds))

    def seeds_needed(self, level: float = LEVEL) -> int | None:
        """Returns how many seeds of each configuration would show this difference in 80 % of repetitions.

        None where no number below 1000 would, or one configuration has a single seed, whose spread nobody knows. With a
        shared spread it is the number for each of all configurations.
        """
        most = range(2, MOST_SEEDS)
        place = bisect_left(most, True, key=lambda count: self.with_seeds(count).power(level) >= POWER)
        return most[place] if place < len(most) else None

    def images_needed(self, level: float = LEVEL) -> int | None:
        """Returns how many images would show this difference, with the same runs, in 80 % of repetitions; or none."""
        most = range(2, MOST_IMAGES)
        place = bisect_left(most, True, key=lambda count: self.with_images(count).power(level) >= POWER)
        return most[place] if place < len(most) else None


def t_quantile(df: float, level: float) -> float:
    """Returns the two-sided quantile of Student's t."""
    return float(stdtrit(df, 1 - level / 2))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p values adjusted for their number, so that all together are wrong in at most 5 % below 0.05.

    Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted
