"""Fitting a `FisherClassifier` to the objects of the training photographs, before the network trains."""

import hashlib
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from seglab.data import cache
from seglab.errors import InputError
from seglab.models import FisherClassifier

if TYPE_CHECKING:
    from seglab.data.reader import Reader

_log = logging.getLogger(__name__)
_VERSION = 1  # part of the key: raise it whenever the same photographs give another classifier
DESCRIPTORS = 60_000  # that a vocabulary is learned from
SMALLEST = 0.01  # share of its photograph that an object has at least
STRENGTHS = (3.0, 10.0, 30.0, 100.0)  # of the logistic regression, inverse to its penalty
FOLDS = 5


def fit_objects(classifier: FisherClassifier, reader: "Reader", seed: int) -> None:
    """Gives a classifier its vocabularies and weights, from the cache folder where they are known.

    Vocabularies are learned from descriptors of all photographs. An object is what a photograph has of a class; its
    mirror image is another. The classifier is a logistic regression with an L2 penalty, of the strength that has the
    smallest cross entropy on photographs that are left out (five folds). A class without an object gets the score of
    one in twice as many objects as there are.

    Args:
        classifier: gets what is learned.
        reader: the training photographs and their masks, resized as for training.
        seed: of the descriptors that are drawn, and of the vocabularies.

    Raises:
        InputError: The photographs have objects of fewer than two classes, or too little texture for a vocabulary.
    """
    parts = ("objects", _VERSION, reader.source.fingerprint(), reader.resize, classifier.settings, seed)
    key = f"objects-{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"
    known = cache.load_arrays(key)
    if known is None:
        start = time.perf_counter()
        with torch.no_grad():
            accuracy = _fit(classifier, reader, seed)
        _log.info(
            "object classifier: fitted in %.0f s, right about %.1f %% of objects of photographs left out",
            time.perf_counter() - start, 100 * accuracy,
        )  # fmt: skip
        cache.store_arrays(key, {name: value.numpy() for name, value in classifier.state_dict().items()})
    else:
        classifier.load_state_dict({name: torch.from_numpy(value) for name, value in known.items()})


def _fit(classifier: FisherClassifier, reader: "Reader", seed: int) -> float:
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(reader))[:300]
    each = -(-DESCRIPTORS // len(chosen))
    drawn: list[list[np.ndarray]] = [[] for _ in classifier.vectors]
    for image, _ in _photographs(reader, chosen, "Drawing descriptors"):
        for samples, descriptors in zip(drawn, classifier.describe(_batch(image)), strict=True):
            textured = descriptors[0][(descriptors[0] != 0).any(-1)].numpy()
            samples.append(rng.permutation(textured)[:each])
    for vectors, samples in zip(classifier.vectors, drawn, strict=True):
        try:
            vectors.fit(np.concatenate(samples), seed)
        except ValueError as error:
            raise InputError(
                f"model.object_classifier: no vocabulary can be learned of these images: {error}"
            ) from None
    x, classes, owners = _objects(classifier, reader)
    seen = np.unique(classes)
    if len(seen) < 2:
        raise InputError(
            "model.object_classifier: the training images have objects of fewer than two classes: give "
            "model/object_classifier=none"
        )
    weight, bias, accuracy = logistic_regression(x, classes, owners)
    classifier.weight.zero_()
    classifier.weight[seen] = torch.from_numpy(weight).float()
    classifier.bias.fill_(-np.log(2 * len(classes)))
    classifier.bias[seen] = torch.from_numpy(bias).float()
    return accuracy


def _objects(classifier: FisherClassifier, reader: "Reader") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the vector of each object (n, length), its class among all but background, and its photograph."""
    vectors, classes, owners = [], [], []
    background = classifier.background
    others = [k for k in range(len(classifier.bias) + 1) if k != background]
    for i, (image, mask) in enumerate(_photographs(reader, range(len(reader)), "Describing the objects")):
        kept = [k for k in others if (mask == k).mean() >= SMALLEST]
        if not kept:
            continue
        regions = np.stack([mask == k for k in kept])
        for mirrored in (False, True):
            shown = (image[:, ::-1], regions[..., ::-1]) if mirrored else (image, regions)
            region = torch.from_numpy(np.ascontiguousarray(shown[1])[None]).float()
            vectors.append(classifier.region_vectors(_batch(shown[0]), region)[0].numpy())
            classes += [k - (k > background) for k in kept]
            owners += [i] * len(kept)
    return np.concatenate(vectors) if vectors else np.empty((0, 0)), np.array(classes, int), np.array(owners, int)


def logistic_regression(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Fits a logistic regression on fewer vectors than they have dimensions.

    Args:
        x: vectors (n, d).
        y: their classes, int (n,).
        groups: int (n,); vectors of one group are left out together.

    Returns:
        Weight (classes, d) and bias (classes,), and the share of the vectors left out that got their class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict

    values, axes = np.linalg.eigh((x @ x.T).astype(np.float64))
    kept = values > 1e-6 * values[-1]
    lengths, axes = np.sqrt(values[kept]), axes[:, kept]
    inside = axes * lengths  # the same vectors in the space that they span
    folds = list(GroupKFold(min(FOLDS, len(np.unique(groups)))).split(x, y, groups))
    rows = np.searchsorted(np.unique(y), y)
    best = None
    for strength in STRENGTHS:
        regression = LogisticRegression(C=strength, max_iter=300)
        probabilities = cross_val_predict(regression, inside, rows, cv=folds, method="predict_proba")
        loss = -np.log(probabilities[np.arange(len(rows)), rows].clip(1e-6)).mean()
        if best is None or loss < best[0]:
            best = loss, regression, float((probabilities.argmax(1) == rows).mean())
    _, regression, accuracy = best
    regression.fit(inside, rows)
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:  # of two classes the second's alone
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    return weight @ (axes / lengths).T @ x, bias, accuracy


def _batch(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]


def _photographs(reader: "Reader", numbers: Iterator[int], title: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    shown = track(numbers, title, len(numbers), console=Console(stderr=True), transient=True)
    yield from (reader[int(i)] for i in shown)
