"""The bootstrap over images against scipy's, and scores against those that training prints."""

import numpy as np
import pytest
import scipy.stats
import torch

from seglab.lab import bootstrap
from seglab.lab.bootstrap import BOUNDARY, image_counts, mean_ratio, metric_names, parts, resampled_scores
from seglab.task.metrics import iou_per_class, mean_iou, pixel_accuracy

NAMES = ["sky", "sea", "sun"]
METRICS = [metric for metric in metric_names(NAMES) if not metric.startswith(BOUNDARY)]


@pytest.fixture
def confusion():
    """Matrices of two runs on 25 images of three classes with the same labels, the last class in a few only."""
    rng = np.random.default_rng(3)
    labels = rng.integers(1, 300, (25, 3)) * (rng.random((25, 3)) < [1.0, 0.8, 0.3])
    runs = []
    for right in (0.8, 0.7):
        mixing = np.full((3, 3), (1 - right) / 2) + np.eye(3) * (right - (1 - right) / 2)
        image = rng.dirichlet(20 * mixing[0], (25, 3))  # each image is hard or easy in its own way
        runs.append(rng.multinomial(labels, [[np.roll(row, k) for k, row in enumerate(rows)] for rows in image]))
    return runs


def test_scores_are_those_of_the_task(confusion):
    matrix = confusion[0].sum(0)
    absent = matrix.copy()
    absent[2], absent[:, 2] = 0, 0
    for whole in (matrix, absent):
        tensor = torch.from_numpy(whole)
        expected = [pixel_accuracy(tensor), mean_iou(tensor), *iou_per_class(tensor).tolist()]
        found = [mean_ratio(parts(whole[None], metric, NAMES)[0]) for metric in METRICS]
        np.testing.assert_allclose(found, expected, rtol=1e-14)
    assert np.isnan(found[-1])


def test_scores_of_boundaries_leave_out_what_is_far_from_contours(confusion):
    matrix = confusion[0].sum(0)  # the third class stands for pixels far from contours
    iou = iou_per_class(torch.from_numpy(matrix))[:2]
    metrics = ["boundary_miou", *(f"boundary_iou/{name}" for name in NAMES[:2])]
    assert metrics == metric_names(NAMES[:2])[-3:]
    found = [mean_ratio(parts(matrix[None], metric, NAMES[:2])[0]) for metric in metrics]
    np.testing.assert_allclose(found, [iou.mean(), *iou], rtol=1e-14)


@pytest.mark.parametrize("metric", METRICS)
def test_each_resample_is_the_score_of_its_summed_matrices(confusion, metric):
    counts = np.concatenate(list(image_counts(25, 40, seed=1)))
    found = resampled_scores([parts(run, metric, NAMES) for run in confusion], 40, seed=1)
    for row, count in zip(found, counts, strict=True):
        summed = [np.einsum("n,nkl->kl", count.astype(int), run) for run in confusion]
        np.testing.assert_allclose(row, [mean_ratio(parts(each[None], metric, NAMES)[0]) for each in summed])


def test_resamples_draw_all_images_alike_and_do_not_depend_on_the_other_runs(confusion, monkeypatch):
    counts = np.concatenate(list(image_counts(25, 4000)))
    assert (counts.sum(1) == 25).all() and np.abs(counts.mean(0) - 1).max() < 5 * np.sqrt(24 / 25 / 4000)
    runs = [parts(run, "miou", NAMES) for run in confusion]
    both = resampled_scores(runs, 300)
    np.testing.assert_array_equal(resampled_scores(runs[1:], 300)[:, 0], both[:, 1])
    monkeypatch.setattr(bootstrap, "_COUNTS_AT_ONCE", 25 * 7)
    assert [len(rows) for rows in image_counts(25, 16)] == [7, 7, 2]
    np.testing.assert_array_equal(resampled_scores(runs, 300), both)


@pytest.mark.parametrize("metric", METRICS)
def test_equal_to_scipy(confusion, metric):
    """Percentiles and standard errors of a score, and of a paired difference, to the error of 8000 resamples."""
    runs = [parts(run, metric, NAMES) for run in confusion]
    resampled = resampled_scores(runs, 8000)
    cases = [
        (resampled[:, 0], lambda places: mean_ratio(runs[0][places].sum(-3)), 1),
        (resampled[:, 0] - resampled[:, 1], lambda *two: difference(runs, *two), 2),
    ]
    for ours, statistic, samples in cases:
        data = (np.arange(25),) * samples
        options = {"n_resamples": 8000, "method": "percentile", "paired": samples == 2, "vectorized": False}
        theirs = scipy.stats.bootstrap(data, statistic, rng=np.random.default_rng(5), **options)
        ours = ours[np.isfinite(ours)]
        error = theirs.standard_error
        assert abs(ours.std(ddof=1) / error - 1) < 0.04  # 8000 resamples know it to 0.8 %, each of the two
        np.testing.assert_allclose(np.quantile(ours, [0.025, 0.975]), theirs.confidence_interval, atol=0.15 * error)


def difference(runs, first, second):
    """The difference of two runs on resamples that scipy draws alike."""
    assert (first == second).all()
    return mean_ratio(runs[0][first].sum(-3)) - mean_ratio(runs[1][second].sum(-3))
