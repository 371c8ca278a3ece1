"""Calibration error against torchmetrics on the flattened pixels; temperatures against a known factor and a search."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchmetrics.classification import MulticlassCalibrationError

from seglab.task.calibration import BINS, TemperatureFit, calibration_scores, calibration_sums

K, IGNORED = 5, 9


def images(count=3, size=(40, 30), factor=1.0, seed=0):
    """Logits that are calibrated times a factor: labels are drawn from their own softmax."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        logits = 2 * torch.randn(K, *size, generator=generator)
        probabilities = logits.softmax(0).flatten(1).T  # (n, k)
        mask = torch.multinomial(probabilities, 1, generator=generator).view(size)
        mask[torch.rand(size, generator=generator) < 0.1] = IGNORED
        yield factor * logits, mask


def sums_of(pairs, temperature=1.0):
    return sum(calibration_sums(logits, logits.argmax(0), mask, IGNORED, temperature) for logits, mask in pairs)


def flattened(pairs):
    logits = torch.cat([each.flatten(1) for each, _ in pairs], dim=1).T  # (n, k)
    return logits, torch.cat([mask.flatten() for _, mask in pairs])


@pytest.mark.parametrize("factor", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_scores_are_those_of_all_pixels_at_once(factor, temperature):
    pairs = list(images(factor=factor))
    found = calibration_scores(sums_of(pairs, temperature))
    logits, labels = flattened(pairs)
    theirs = MulticlassCalibrationError(K, n_bins=BINS, norm="l1", ignore_index=IGNORED)
    theirs.update((logits / temperature).softmax(1), labels)
    assert found["ece"] == pytest.approx(theirs.compute().item(), abs=1e-6)
    expected = F.cross_entropy(logits.double() / temperature, labels, ignore_index=IGNORED)
    assert found["nll"] == pytest.approx(expected.item(), rel=1e-5)


def test_each_scored_pixel_is_in_one_bin():
    pairs = list(images())
    pixels, confidence, hits, _ = sums_of(pairs).T
    assert pixels.sum() == sum((mask != IGNORED).sum() for _, mask in pairs)
    assert hits.sum() == sum((logits.argmax(0) == mask).sum() for logits, mask in pairs)
    used = pixels > 0
    assert (np.floor(BINS * confidence[used] / pixels[used]) == np.flatnonzero(used)).all()


def test_certain_pixels_are_in_the_last_bin_and_without_pixels_there_is_no_score():
    logits = torch.tensor([200.0, 0.0])[:, None, None].expand(2, 3, 3)
    sums = calibration_sums(logits, logits.argmax(0), torch.zeros(3, 3, dtype=torch.int64), IGNORED)
    assert sums[-1].tolist() == [9, 9, 9, 0] and not sums[:-1].any()
    assert calibration_scores(sums) == {"ece": 0, "nll": 0}
    assert calibration_scores(0 * sums) == {"ece": None, "nll": None}


@pytest.mark.parametrize("factor", [0.4, 0.9, 1.0, 2.0, 3.3, 7.0])
def test_the_temperature_undoes_a_factor(factor):
    pairs = list(images(4, (100, 100), factor))
    fit = TemperatureFit(IGNORED)
    for logits, mask in pairs:
        fit.update(logits, mask)
    found = fit.compute()
    assert found["temperature"] == pytest.approx(factor, rel=0.02)
    assert found["temperature"] == pytest.approx(searched(pairs), rel=1e-3)
    before, after = (calibration_scores(sums_of(pairs, value)) for value in (1.0, found["temperature"]))
    assert found["nll"] == pytest.approx(before["nll"], rel=1e-4)
    assert found["nll_with_it"] == pytest.approx(after["nll"], rel=1e-4)
    assert after["ece"] < 0.01 and after["nll"] <= before["nll"]


def searched(pairs):
    """The temperature by LBFGS on all pixels."""
    logits, labels = flattened(pairs)
    inverse = torch.ones((), dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([inverse], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        search.zero_grad()
        value = F.cross_entropy(logits.double() * inverse, labels, ignore_index=IGNORED)
        value.backward()
        return value

    search.step(loss)
    return 1 / inverse.item()


def test_a_network_that_is_always_right_gets_the_lowest_temperature():
    mask = torch.randint(0, K, (8, 8))
    fit = TemperatureFit(IGNORED)
    fit.update(F.one_hot(mask, K).permute(2, 0, 1).float(), mask)
    assert fit.compute()["temperature"] == pytest.approx(1 / 8)


def test_without_pixels_there_is_no_temperature():
    fit = TemperatureFit(IGNORED)
    fit.update(torch.zeros(K, 4, 4), torch.full((4, 4), IGNORED))
    with pytest.raises(ValueError, match="no pixel is scored"):
        fit.compute()
