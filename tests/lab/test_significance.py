"""Intervals that cover, verdicts that are rarely wrong, and numbers of seeds and images that suffice."""

import numpy as np
import pytest
import scipy.stats

from seglab.lab.bootstrap import left_out_scores, mean_ratio, parts, resampled_scores, widened
from seglab.lab.estimation import estimate, shared_spread
from seglab.lab.significance import Estimate, SeedVariance, holm, t_quantile

TRIALS = 1000


class Population:
    """Images of nine classes, without end, and runs whose true mIoU on them is known.

    An image has some of the classes and is hard in its own way, for all runs alike; a run adds an effect for each class
    and an error for each image.
    """

    classes = 9
    names = [str(number) for number in range(9)]

    def __init__(self):
        rng = np.random.default_rng(5)
        self.ease = rng.normal(1.0, 0.7, 9)
        self.frequency = np.array([1, 0.25, 0.2, 0.3, 0.15, 0.2, 0.4, 0.1, 0.3])
        mistakes = rng.dirichlet(np.ones(9), 9) * (1 - np.eye(9))
        self.mistakes = mistakes / mistakes.sum(1, keepdims=True)  # (label, prediction) of a pixel that is wrong

    def confusion(self, right, area):
        """Matrices (..., K, K) of shares predicted right (..., K) of areas (..., K)."""
        matrix = (area * (1 - right))[..., None] * self.mistakes
        matrix[..., range(9), range(9)] = area * right
        return matrix

    def true_miou(self, effects):
        """The score of runs with effects (..., K) on all images there are."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(41)
        spread = np.sqrt(1.0**2 + 0.5**2) * nodes
        right = (sigmoid((self.ease + effects)[..., None] + spread) * weights).sum(-1) / weights.sum()
        return mean_ratio(np.stack(ratios(self.confusion(right, 800 * self.frequency)), axis=-2))

    def sample(self, effects, num_images, rng):
        """What miou needs of each image, for runs with effects (M, K)."""
        shape = (num_images, 9)
        area = rng.gamma(2.0, 400.0, shape) * (rng.random(shape) < self.frequency)
        hard = rng.normal(0, 1.0, shape)
        right = sigmoid(self.ease + effects[:, None] + hard + rng.normal(0, 0.5, (len(effects), *shape)))
        return [parts(np.rint(matrix), "miou", self.names) for matrix in self.confusion(right, area)]


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


def ratios(matrix):
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    return hits, matrix.sum(-1) + matrix.sum(-2) - hits


def effects_of_seeds(mean, spread, count, rng):
    """A run's effect on each class (count, K): half of a seed's luck is that of all classes."""
    return mean + rng.normal(0, spread, (count, 1)) + rng.normal(0, spread, (count, Population.classes))


def trials(seeds, means, spreads, num_images=150, resamples=250, pooled=False):
    """Yields estimates of each configuration and of its difference to the first, with the truth of both.

    With one seed the truth is that of the very runs, else that of all seeds of their configurations.
    """
    rng, population = np.random.default_rng(0), Population()
    known = [
        population.true_miou(effects_of_seeds(*each, 4000, rng)).mean() for each in zip(means, spreads, strict=True)
    ]
    columns = np.split(np.arange(seeds * len(means)), len(means))
    for trial in range(TRIALS):
        effects = np.concatenate([effects_of_seeds(*each, seeds, rng) for each in zip(means, spreads, strict=True)])
        truth = np.array(known) if seeds > 1 else population.true_miou(effects)
        runs = population.sample(effects, num_images, rng)
        singles, pairs = [[own] for own in columns], [[own, columns[0]] for own in columns[1:]]
        found = estimated(runs, resamples, *singles, *pairs, seed=trial, pooled=columns if pooled else ())
        yield found[: len(means)], found[len(means) :], truth


def estimated(runs, resamples, *groups, seed=0, pooled=()):
    """The estimate of each group of columns, or pair of groups, of runs on the same images.

    Seeds spread by what is common to the groups in `pooled`, if there are any.
    """
    scores, left_out = np.array([mean_ratio(run.sum(0)) for run in runs]), left_out_scores(runs)
    resampled = widened(resampled_scores(runs, resamples, seed), left_out)
    shared = shared_spread(scores, resampled, pooled)
    return [estimate(scores, resampled, left_out, group, shared) for group in groups]


def covers(found, truth):
    low, high = found.interval()
    return low < truth < high


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.05)])
def test_intervals_cover_the_truth_and_verdicts_are_rarely_wrong(seeds, spread):
    """Three configurations: the second is as good as the first, the third three points better and less steady."""
    scores, differences, wrong = [], [], []
    for own, to_first, truth in trials(seeds, (0.0, 0.0, 0.15), (spread, spread, 2 * spread)):
        gaps = truth[1:] - truth[0]
        scores.append([*map(covers, own, truth)])
        differences.append([*map(covers, to_first, gaps)])
        wrong.append(to_first[0].p_value < 0.05)
    assert 0.02 < gaps[1] < 0.04
    covered = np.mean(differences, axis=0)
    assert (covered >= 0.93).all() and (covered <= 0.97).all(), covered
    covered = np.mean(scores, axis=0)  # with three seeds t has two degrees of freedom, and errs to the safe side
    assert (covered >= 0.93).all() and (covered <= (0.97 if seeds == 1 else 0.98)).all(), covered
    assert np.mean(wrong) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / TRIALS)  # the error of so many trials


def test_many_comparisons_with_one_baseline_are_together_rarely_wrong():
    """Four configurations that are all alike: a verdict on any of them is wrong."""
    wrong = [
        min(holm([found.p_value for found in to_first])) < 0.05
        for _, to_first, _ in trials(2, (0.0,) * 4, (0.05,) * 4, num_images=60, resamples=60)
    ]
    assert np.mean(wrong) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / TRIALS)


def test_pooled_seeds_cover_the_truth_by_far_shorter_intervals():
    """Five configurations of two seeds that spread alike, all but the last as good as the first."""
    setting = (2, (0.0, 0.0, 0.0, 0.0, 0.15), (0.05,) * 5, 60, 60)
    covered, wrong, widths = [], [], []
    for (scores, to_first, truth), (_, alone, _) in zip(trials(*setting, pooled=True), trials(*setting), strict=True):
        covered.append([*map(covers, scores, truth), *map(covers, to_first, truth[1:] - truth[0])])
        wrong.append(min(holm([found.p_value for found in to_first[:3]])) < 0.05)
        widths.append([np.diff(found.interval()).item() for found in (to_first[0], alone[0])])
    covered = np.mean(covered, axis=0)
    assert (covered >= 0.93).all() and (covered <= 0.98).all(), covered
    assert np.mean(wrong) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / TRIALS)
    pooled, alone = np.median(widths, axis=0)
    assert pooled < 0.5 * alone


def test_a_shared_spread_is_the_mean_of_the_variances_and_gives_one_seed_its_own():
    rng = np.random.default_rng(7)
    runs = Population().sample(effects_of_seeds(0.0, 0.1, 6, rng), 80, rng)
    groups = [[0, 1, 2], [3, 4], [5]]
    scores = np.array([mean_ratio(run.sum(0)) for run in runs])
    shared = shared_spread(scores, widened(resampled_scores(runs, 200, 0), left_out_scores(runs)), groups)
    variance = (2 * scores[:3].var(ddof=1) + scores[3:5].var(ddof=1)) / 3
    assert (shared.df, shared.groups) == (3, 3) and shared.total == pytest.approx(variance)
    (one,) = estimated(runs, 200, [[5], [0, 1, 2]], pooled=groups)
    assert [part.total for part in one.seeds] == pytest.approx([variance, variance / 3]) and one.seed_df == 3
    assert one.with_seeds(4).seed_df == 3 * 3 and one.with_seeds(4).seed_variance == pytest.approx(variance / 2)
    assert shared_spread(scores, resampled_scores(runs, 20, 0), [[0], [5]]) is None


@pytest.mark.parametrize(("last", "alike"), [(0.1, True), (0.6, False)])
def test_seeds_that_do_not_spread_alike_are_noticed(last, alike):
    rng, found = np.random.default_rng(8), []
    for _ in range(400):
        scores = np.concatenate([rng.normal(0.5, spread, 2) for spread in (*(0.1,) * 7, last)])
        groups = np.split(np.arange(16), 8)
        found.append(shared_spread(scores, np.tile(scores, (3, 1)), groups))
    noticed = [shared.widest for shared in found if shared.p_value < 0.05]
    assert len(noticed) <= 0.07 * 400 if alike else len(noticed) > 0.5 * 400
    assert alike or np.mean(np.array(noticed) == 7) > 0.9


def test_seeds_that_do_not_spread_at_all_speak_against_one_that_does():
    scores = np.array([0.1, 0.1, 0.5, 0.6, 0.1, 0.1])
    shared = shared_spread(scores, np.tile(scores, (3, 1)), [[0, 1], [2, 3], [4, 5]])
    assert (shared.widest, shared.p_value) == (1, 0.0)
    alone = shared_spread(scores, np.tile(scores, (3, 1)), [[2, 3], [0]])
    assert (alone.widest, alone.p_value) == (0, 1.0)


def test_three_seeds_see_what_one_seed_cannot():
    """Images alone call two seeds of one configuration different; that is why one seed does not settle it."""
    rng, population = np.random.default_rng(1), Population()
    verdicts = []
    for trial in range(100):
        runs = population.sample(effects_of_seeds(0.0, 0.1, 6, rng), 400, rng)
        found = estimated(runs, 200, [[0], [3]], [[0, 1, 2], [3, 4, 5]], seed=trial)
        verdicts.append([each.p_value < 0.05 for each in found])
    one, three = np.mean(verdicts, axis=0)
    assert one > 0.4 and three <= 0.1


def test_a_mean_has_the_interval_of_students_t():
    """Where each image counts alike and seeds do not, it is the paired t test."""
    rng = np.random.default_rng(2)
    right = rng.binomial(100, [[0.7], [0.72]], (2, 40)).astype(float)
    runs = [np.stack([hits, np.full(40, 100.0)], axis=1)[:, :, None] for hits in right]
    (found,) = estimated(runs, 20_000, [[0], [1]])
    test = scipy.stats.ttest_rel(*right)
    assert found.p_value == pytest.approx(test.pvalue, rel=0.1)
    expected = np.array(test.confidence_interval(0.95)) / 100
    np.testing.assert_allclose(found.interval(), expected, atol=0.03 * found.standard_error)


def test_the_interval_touches_zero_at_the_p_value():
    found = Estimate(0.02, 0.001, 150, 4e-5, (SeedVariance(3e-5, 1e-5, 3), SeedVariance(1e-5, 1e-5, 2)))
    low, high = found.interval(found.p_value)
    assert low == pytest.approx(0, abs=1e-12) and high == pytest.approx(2 * 0.019)
    assert 2 < found.seed_df < 3
    assert t_quantile(149, 0.05) < found.critical(0.05) < t_quantile(found.seed_df, 0.05)


def test_nothing_varies():
    assert Estimate(0.0, 0.0, 10, 0.0).p_value == 1 and Estimate(0.1, 0.0, 10, 0.0).p_value == 0
    assert Estimate(0.1, 0.0, 10, 0.0).interval() == (0.1, 0.1)
    assert Estimate(0.0, 0.0, 10, 0.0).images_needed() is None


def test_holm_against_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.3]) == pytest.approx([0.6, 0.6]) and holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_so_many_seeds_find_the_difference_in_80_of_100_experiments():
    """Experiments with as many seeds as the estimate asks for, drawn from its own variances."""
    rng = np.random.default_rng(4)
    now = Estimate(0.012, 0.0, 500, 1e-6, (SeedVariance(2e-5, 2e-6, 3), SeedVariance(5e-5, 2e-6, 3)))
    count = now.seeds_needed()
    assert now.with_seeds(count).power() >= 0.8 > now.with_seeds(count - 1).power()
    spreads = [np.sqrt(part.total * part.count) for part in now.seeds]
    found = []
    for _ in range(1500):
        seeds = [rng.normal(0, spread, count) for spread in spreads]
        value = now.value + rng.normal(0, np.sqrt(now.images)) + seeds[0].mean() - seeds[1].mean()
        parts = tuple(SeedVariance(drawn.var(ddof=1) / count, 0.0, count) for drawn in seeds)
        found.append(Estimate(value, 0.0, 500, now.images, parts).p_value < 0.05)
    assert 10 < count < 30 and abs(np.mean(found) - 0.8) < 0.03


def test_so_many_images_find_the_difference_in_80_of_100_experiments():
    """Two runs that are right on 70 and on 72 % of each image's pixels, more or less."""
    rng = np.random.default_rng(6)

    def experiment(num_images, seed):
        right = rng.normal([[70.0], [72.0]], 8.0, (2, num_images)).clip(0, 100)
        runs = [np.stack([hits, np.full(num_images, 100.0)], axis=1)[:, :, None] for hits in right]
        return estimated(runs, 200, [[1], [0]], seed=seed)[0]

    few = Estimate(0.02, 0.0, 50, 2 * 0.08**2 / 50)
    count = few.images_needed()
    assert few.with_images(count).power() >= 0.8 > few.with_images(count - 1).power()
    assert count == pytest.approx((1.96 + 0.84) ** 2 * 2 * 0.08**2 / 0.02**2, rel=0.02)
    assert abs(np.mean([experiment(count, seed).p_value < 0.05 for seed in range(600)]) - 0.8) < 0.05


def test_no_number_of_images_makes_up_for_seeds_and_no_number_of_seeds_for_images():
    seeds = Estimate(0.01, 0.0, 150, 1e-6, (SeedVariance(1e-4, 1e-6, 3), SeedVariance(1e-4, 1e-6, 3)))
    assert seeds.images_needed() is None and seeds.seeds_needed() > 3
    images = Estimate(0.01, 0.0, 150, 1e-4, (SeedVariance(1e-6, 1e-6, 3), SeedVariance(1e-6, 1e-6, 3)))
    assert images.seeds_needed() is None and images.images_needed() > 150
