"""loss.class_weights in every form that it takes."""

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from seglab.cli.build_loss import class_weights
from seglab.data.statistics import Statistics
from seglab.errors import InputError

CLASSES = ["sky", "person", "chair"]
STATISTICS = Statistics(
    (0.5,) * 3,
    (0.5,) * 3,
    {"sky": 600, "person": 300, "chair": 100},
    {"sky": 1000, "person": 1000, "chair": 500},
)


def weights(given):
    cfg = OmegaConf.create({"loss": {"class_weights": given}, "data": {"class_names": CLASSES, "num_classes": 3}})
    return class_weights(cfg, SimpleNamespace(statistics=STATISTICS))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ([1, 2.5, 0], [1, 2.5, 0]),
        ({"chair": 1.5, "person": 2}, [1, 2, 1.5]),
        ({}, [1, 1, 1]),
        ("inverse_area", STATISTICS.inverse_area_weights()),
        ("median_frequency", STATISTICS.median_frequency_weights()),
        ("effective_number", STATISTICS.effective_number_weights()),
        ({"rule": "effective_number", "beta": 0.99}, STATISTICS.effective_number_weights(0.99)),
    ],
)
def test_every_form(given, expected):
    assert weights(given) == expected


def test_a_loss_without_the_key():
    cfg = OmegaConf.create({"loss": {}, "data": {"class_names": CLASSES}})
    assert class_weights(cfg, SimpleNamespace(statistics=STATISTICS)) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"persn": 2},
            "loss.class_weights: persn is no class: did you mean person? The classes are sky, person, chair",
        ),
        ({"rule": "effective_number", "beta": 0.9, "chair": 2}, "rule is no class"),
        ({"rule": "effective_number", "beta": 1}, "loss.class_weights: beta=1: give a number from 0 to below 1"),
        ({"rule": "effective_number", "beta": "high"}, "loss.class_weights: beta=high: give a number"),
        ({"person": -1}, "loss.class_weights=[1.0, -1, 1.0]: give numbers of 0 or more"),
        ({"person": None}, "give numbers"),
        ([1, 2], "loss.class_weights has 2 weights for 3 classes: give one for each of sky, person, chair"),
        ([1, "2", 3], "give numbers"),
        ([1, float("nan"), 3], "give numbers"),
        ("area", "loss.class_weights=area is unknown: give inverse_area, median_frequency, effective_number"),
        (2.0, "loss.class_weights=2.0 is unknown"),
    ],
)
def test_what_is_no_weight(given, said):
    with pytest.raises(InputError) as error:
        weights(given)
    assert said in str(error.value)


def test_every_unknown_name_is_listed():
    with pytest.raises(InputError) as error:
        weights({"chairs": 2, "skies": 3, "person": 1})
    assert [line.split()[1] for line in str(error.value).splitlines()] == ["chairs", "skies"]
