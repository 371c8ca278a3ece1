"""What is said of a difference, and what would show one that is not shown."""

import re

import pytest

from seglab.lab.significance import LEVEL, Estimate, SeedVariance
from seglab.lab.verdicts import judged, rounded_up


def seeds(variance, mixed=0.0):
    return (SeedVariance(variance, mixed, 3), SeedVariance(variance, mixed, 3))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Estimate(0.01, 0.0, 150, 5e-6, seeds(1e-5, 8e-6)), r"takes \d+ seeds .*, or \d+0 images with these seeds"),
        (Estimate(0.01, 0.0, 150, 1e-7, seeds(2e-4)), r"takes \d+ seeds .*; no number of images alone shows it"),
        (Estimate(0.01, 0.0, 150, 2e-4, seeds(1e-7, 1e-7)), r"takes \d+ images .*; no number of seeds alone shows it"),
        (Estimate(0.01, 0.0, 150, 2e-4, seeds(2e-4)), "no number of seeds alone, nor of images alone, shows"),
        (
            Estimate(0.01, 0.0, 150, 2e-4),
            r"between these very runs takes \d+ images; how many seeds, one seed does not",
        ),
        (Estimate(0.01, 0.0, 150, 2e-4, seeds(2e-4)[:1]), "the one seed of one of the two does not tell"),
    ],
)
def test_what_would_show_a_difference(found, said):
    (difference,) = judged([found])
    assert difference.verdict == "no difference shown"
    assert re.search(said, difference.remedy), difference.remedy


def test_holm_decides_the_verdict():
    found = Estimate(0.022, 0.0, 150, 1e-4)
    assert 0.025 < found.p_value < 0.05
    assert [each.verdict for each in judged([found])] == ["better"]
    both = judged([found, Estimate(-0.022, 0.0, 150, 1e-4)])
    assert [each.verdict for each in both] == ["no difference shown"] * 2
    assert both[0].adjusted_p_value == pytest.approx(2 * found.p_value) and both[0].interval[0] > 0
    assert [each.verdict for each in judged([found, Estimate(-0.05, 0.0, 150, 1e-4)])] == ["better", "worse"]


def test_numbers_are_rounded_up_to_two_digits():
    assert [rounded_up(number) for number in (7, 42, 421, 420, 12345)] == [7, 42, 430, 420, 13000]


def test_two_images_that_decide_have_one_degree_of_freedom():
    assert Estimate(0.01, 0.0, 150, 1e-6, deciding=2).critical(LEVEL) == pytest.approx(12.706, rel=1e-3)
    assert Estimate(0.01, 0.0, 150, 1e-6, deciding=2).with_images(1500).critical(LEVEL) == pytest.approx(
        2.093, rel=1e-3
    )
    assert Estimate(0.01, 0.0, 150, 1e-6).critical(LEVEL) == pytest.approx(1.976, rel=1e-3)
