"""Fitting the object classifier to photographs in which texture alone tells the classes."""

import logging
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from seglab.errors import InputError
from seglab.models import FisherClassifier
from seglab.task.fit_objects import SCALES, STRENGTHS, _objects, fit_objects, logistic_regression


class Photographs:
    """A square on flat ground, with horizontal stripes, upright ones, or one of a colour."""

    def __init__(self, count=24, kinds=3, flat=False, name="photographs", background=0, num_classes=4):
        names = [f"class {k}" for k in range(num_classes)]
        self.source = SimpleNamespace(fingerprint=lambda: name, class_names=names)
        self.resize, self.count, self.kinds, self.flat, self.read = None, count, kinds, flat, 0
        self.classes, self.kept = [background, *(k for k in range(kinds + 1) if k != background)], None

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        self.read += 1
        if self.kept is not None:
            return self.kept
        if self.flat:
            return np.full((48, 48, 3), 100, np.uint8), np.full((48, 48), i % 2 + 1, np.uint8)
        rng, kind = np.random.default_rng(i), i % self.kinds
        image = rng.integers(100, 110, (48, 48, 3))
        top, left, width = rng.integers(4, 20), rng.integers(4, 20), 24
        part = image[top : top + width, left : left + width]
        waves = 60 * (np.arange(width) // 3 % 2)
        part[:] = part + (waves[:, None, None] if kind == 0 else waves[None, :, None] if kind == 1 else [80, 0, 0])
        mask = np.full((48, 48), self.classes[0], np.uint8)
        mask[top - 2 : top + width + 2, left - 2 : left + width + 2] = 255
        mask[top : top + width, left : left + width] = self.classes[kind + 1]
        return image.astype(np.uint8), mask


def classifier(num_classes=4, **options):
    return FisherClassifier(num_classes, **{"cells": (4,), "words": (8, 4), "dims": (12, 6), **options})


def says(objects, photographs, i):
    image, mask = photographs[i]
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    inside = (mask > 0) & (mask < 255)
    certain = torch.where(torch.from_numpy(inside), 8.0, -8.0)  # of some object, and of none in particular
    logits = torch.stack([-certain, *[certain] * (len(objects.bias) - 1)])[None]
    found = objects(pixels, logits)[0].argmax(0)
    return np.unique(found[inside]).tolist(), np.unique(found[~inside]).tolist()


def test_objects_of_unseen_photographs_get_their_class(caplog):
    objects, photographs = classifier(), Photographs()
    with caplog.at_level(logging.INFO):
        fit_objects(objects, photographs, seed=0)
    assert "right about 100.0 % of the objects of photographs left out" in caplog.text
    assert [says(objects, photographs, i) for i in range(100, 106)] == [([i % 3 + 1], [0]) for i in range(100, 106)]


class Seen:
    """Takes the place of a classifier, and keeps what it is asked to describe."""

    bias, background = torch.zeros(4), 0

    def __init__(self):
        self.kept = []

    def object_vectors(self, image, objects, surroundings):
        self.kept.append((image[0], objects[0], surroundings[0]))
        return torch.zeros(1, objects.shape[1], 2)


def test_an_object_is_seen_as_it_is_and_in_a_mirror_smaller_or_larger():
    seen, photographs = Seen(), Photographs(count=40)
    vectors, classes, owners = _objects(seen, photographs, np.arange(40), np.random.default_rng(0))
    assert len(vectors) == 80 and classes.tolist() == [i % 3 + 1 for i in range(40) for _ in range(2)]
    assert owners.tolist() == np.arange(40).repeat(2).tolist()
    sides = []
    for i, (plain, mirrored) in enumerate(zip(seen.kept[::2], seen.kept[1::2], strict=True)):
        image, mask = photographs[i]
        parts = image.transpose(2, 0, 1), mask[None] == i % 3 + 1, mask[None] == 0
        for found, reflected, part in zip(plain, mirrored, parts, strict=True):
            assert np.array_equal(found.numpy(), part)
            sides.append(reflected.shape[-1])
            back = F.interpolate(reflected.flip(-1)[None], (48, 48), mode="bilinear", antialias=True)
            assert np.corrcoef(back.numpy().ravel(), part.ravel())[0, 1] > 0.8
    low, high = 48 * SCALES[0], 48 * SCALES[1]
    assert low - 1 < min(sides) < 48 * 0.8 and 48 * 1.2 < max(sides) < high + 1


def test_the_same_photographs_are_described_once(caplog):
    first, again, other, photographs = classifier(), classifier(), classifier(), Photographs(name="known")
    fit_objects(first, photographs, seed=0)
    read = photographs.read
    fit_objects(again, photographs, seed=0)
    assert photographs.read == read > 0
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    fit_objects(other, photographs, seed=1)
    assert photographs.read == 2 * read and not torch.equal(other.vectors[0].means, first.vectors[0].means)
    fit_objects(classifier(words=(6, 4)), photographs, seed=0)
    assert photographs.read == 3 * read


def test_a_class_without_an_object_is_left_to_the_network(caplog):
    objects, photographs = classifier(num_classes=6), Photographs(name="two classes more than objects", num_classes=6)
    fit_objects(objects, photographs, seed=0)
    assert objects.judged.tolist() == [False, True, True, True, False, False]
    assert "has 1 % of its area of class 4, class 5, which it leaves to the network" in caplog.text


@pytest.mark.parametrize("background", [0, 2, 3])
def test_the_background_is_any_class_and_ignored_pixels_are_of_none(background):
    objects = classifier(background=background)
    photographs = Photographs(name=f"background {background}", background=background)
    fit_objects(objects, photographs, seed=0)
    assert objects.judged.tolist() == [k != background for k in range(4)]
    for i in (100, 101, 102):
        image, mask = photographs[i]
        regions = [(mask != background) & (mask != 255), mask == background]
        inside, around = (torch.from_numpy(region)[None, None].float() for region in regions)
        vector = objects.object_vectors(torch.from_numpy(image.transpose(2, 0, 1).copy())[None], inside, around)[0, 0]
        scores = (objects.weight @ vector + objects.bias).masked_fill(~objects.judged, -np.inf)
        assert int(scores.argmax()) == mask[24, 24]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_few_photographs_do_without_a_word_of_the_folds(count, recwarn):
    objects = classifier(num_classes=4)
    fit_objects(objects, Photographs(count=count, name=f"{count} photographs"), seed=0)
    assert objects.judged.sum() == min(count, 3) and not recwarn.list


def test_one_photograph_with_two_classes_does(caplog):
    objects, photographs = classifier(), Photographs(count=1, name="one photograph")
    image, mask = photographs[0]
    mask[:, :24][mask[:, :24] > 0] = 2
    photographs.kept = image, mask
    with caplog.at_level(logging.INFO):
        fit_objects(objects, photographs, seed=0)
    assert re.search(r"fitted in \d+ s\n", caplog.text) and objects.judged.sum() == 2  # with no share of those left out


def test_two_classes_have_a_score_each():
    objects, photographs = classifier(num_classes=3), Photographs(kinds=2, name="two classes", num_classes=3)
    fit_objects(objects, photographs, seed=0)
    assert [says(objects, photographs, i)[0] for i in (100, 101)] == [[1], [2]]


@pytest.mark.parametrize(
    ("photographs", "said"),
    [
        (Photographs(kinds=1, name="one class"), "objects, of 1% of their area at least, of fewer than two classes"),
        (Photographs(flat=True, name="flat"), "no vocabulary can be learned"),
    ],
)
def test_photographs_that_it_cannot_be_fitted_to_are_refused(photographs, said):
    with pytest.raises(InputError, match=said):
        fit_objects(classifier(), photographs, seed=0)


def test_the_regression_is_that_of_all_dimensions():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 2)
    y = rng.integers(3, size=30).repeat(2)
    x = 0.03 * (rng.normal(size=(60, 200)) + 3 * np.eye(200)[y])
    weight, bias, accuracy = logistic_regression(x, y, groups)
    scores = x @ weight.T + bias
    found = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    fits = [LogisticRegression(C=strength, max_iter=2000).fit(x, y).predict_proba(x) for strength in STRENGTHS]
    distances = sorted(np.abs(fit - found).max() for fit in fits)
    assert 3 * distances[0] < 3e-3 < distances[1]  # of one of the strengths
    assert 0.5 < accuracy <= 1
