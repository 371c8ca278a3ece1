import pytest
import torch

from seglab.task import CrossEntropy, Dice, WeightedSum

WEIGHTS = [0.5, 2.0, 1.0, 3.0]


def test_it_is_the_sum_of_its_terms(batch, assert_same):
    terms = {"cross_entropy": CrossEntropy(4, WEIGHTS), "dice": Dice(4)}
    expected = 0.3 * CrossEntropy(4, WEIGHTS)(*batch) + 2 * Dice(4)(*batch)
    assert_same(WeightedSum(terms, {"dice": 2, "cross_entropy": 0.3})(*batch), expected)


def test_class_weights_are_those_of_every_term(batch):
    terms = {"cross_entropy": CrossEntropy(4, [1.0] * 4), "dice": Dice(4)}
    expected = CrossEntropy(4, WEIGHTS)(*batch) + Dice(4, WEIGHTS)(*batch)
    torch.testing.assert_close(WeightedSum(terms, dict.fromkeys(terms, 1), WEIGHTS)(*batch), expected)


@pytest.mark.parametrize("weights", [{"a": 1}, {"a": 1, "b": 1, "c": 1}, {"a": 1, "c": 1}])
def test_terms_and_weights_must_have_the_same_names(weights):
    with pytest.raises(ValueError, match="for terms a, b: give one for each term"):
        WeightedSum({"a": CrossEntropy(4), "b": Dice(4)}, weights)


@pytest.mark.parametrize("weight", [-1, float("inf"), float("nan"), "1", None])
def test_a_weight_that_makes_no_sense(weight):
    with pytest.raises(ValueError, match=f"weights.a={weight}: give a number of 0 or more"):
        WeightedSum({"a": CrossEntropy(4)}, {"a": weight})
