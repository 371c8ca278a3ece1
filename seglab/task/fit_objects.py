"""Fitting a `FisherClassifier` to the objects of the training photographs, before the network trains."""

import hashlib
import logging
import math
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch.nn import functional as F

from seglab.data import cache
from seglab.errors import InputError
from seglab.models import FisherClassifier
from seglab.models.fisher_vectors import is_textured

if TYPE_CHECKING:
    from seglab.data.reader import Reader

_log = logging.getLogger(__name__)
_VERSION = 4  # part of the key: raise it whenever the same photographs give another classifier
DESCRIPTORS = 60_000  # that a vocabulary is learned from
PHOTOGRAPHS = (300, 1500)  # that give descriptors to the vocabularies, and objects, at most
SMALLEST = 0.01  # share of its photograph that an object has at least
SCALES = (0.7, 1.35)  # of the mirror images, drawn evenly by their logarithm
STRENGTHS = (30.0, 10.0, 100.0, 300.0)  # of the logistic regression, inverse to its penalty; the first if none is tried
FOLDS = 5


def fit_objects(classifier: FisherClassifier, reader: "Reader", seed: int) -> None:
    """Gives a classifier its vocabularies and weights, from the cache folder where they are known.

    Vocabularies are learned from descriptors of the photographs. An object is what a photograph has of a class; its
    mirror image, smaller or larger, is another. The classifier is a logistic regression with an L2 penalty, of the
    strength that has the smallest cross entropy on photographs that are left out (five folds). A class without an
    object is not judged: it keeps the network's probability, as the background does.

    Args:
        classifier: gets what is learned.
        reader: the training photographs and their masks, resized as for training.
        seed: of the photographs, descriptors and sizes of mirror images that are drawn, and of the vocabularies.

    Raises:
        InputError: The photographs have objects of fewer than two classes, or too little texture for a vocabulary.
    """
    parts = ("objects", _VERSION, reader.source.fingerprint(), reader.resize, classifier.settings, seed)
    key = f"objects-{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"
    start, known = time.perf_counter(), cache.load_arrays(key)
    if known is None:
        with torch.no_grad():
            accuracy = _fit(classifier, reader, seed)
        state = {name: value.numpy() for name, value in classifier.state_dict().items()}
        cache.store_arrays(key, state | {"accuracy": np.array(accuracy)})
        how = f"fitted in {time.perf_counter() - start:.0f} s"
    else:
        accuracy = float(known.pop("accuracy"))
        classifier.load_state_dict({name: torch.from_numpy(value) for name, value in known.items()})
        how = "known from the cache"
    of_left_out = ""
    if not np.isnan(accuracy):
        of_left_out = f", right about {100 * accuracy:.1f} % of the objects of photographs left out"
    _log.info("object classifier: %s%s", how, of_left_out)
    judged = zip(reader.source.class_names, classifier.judged.tolist(), strict=True)
    if unjudged := [name for k, (name, is_judged) in enumerate(judged) if not is_judged and k != classifier.background]:
        _log.warning(
            "object classifier: no training photograph that was looked at has %g %% of its area of %s, which it leaves "
            "to the network", 100 * SMALLEST, ", ".join(unjudged),
        )  # fmt: skip


def _fit(classifier: FisherClassifier, reader: "Reader", seed: int) -> float:
    """Fits, and returns the share of the objects left out that got their class."""
    rng = np.random.default_rng(seed)
    most_of_words, most_of_objects = PHOTOGRAPHS
    of_words = rng.permutation(len(reader))[:most_of_words]
    each = -(-DESCRIPTORS // len(of_words))
    drawn: list[list[np.ndarray]] = [[] for _ in classifier.vectors]
    for image, _ in _photographs(reader, of_words, "Drawing descriptors"):
        for samples, sizes in zip(drawn, classifier.describe(_batch(image)), strict=True):
            found = torch.cat(sizes, 1)[0]
            textured = found[is_textured(found)].numpy()
            samples.append(textured[rng.permutation(len(textured))[:each]])
    for vectors, samples in zip(classifier.vectors, drawn, strict=True):
        try:
            vectors.fit(np.concatenate(samples), seed)
        except ValueError as error:
            raise InputError(
                f"model.object_classifier: no vocabulary can be learned of these images: {error}"
            ) from None
    x, classes, owners = _objects(classifier, reader, np.sort(rng.permutation(len(reader))[:most_of_objects]), rng)
    seen = np.unique(classes)
    if len(seen) < 2:
        raise InputError(
            f"model.object_classifier: the training images have objects, of {SMALLEST:.0%} of their area at least, of "
            "fewer than two classes: give model/object_classifier=none"
        )
    weight, bias, accuracy = logistic_regression(x, classes, owners)
    classifier.judged.zero_()[seen] = True
    classifier.weight.zero_()[seen] = torch.from_numpy(weight).float()
    classifier.bias.zero_()[seen] = torch.from_numpy(bias).float()
    return accuracy


def _objects(
    classifier: FisherClassifier, reader: "Reader", numbers: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the vector of each object (n, length), its class, and the number of its photograph."""
    vectors, classes, owners = [], [], []
    others = [k for k in range(len(classifier.bias)) if k != classifier.background]
    photographs = _photographs(reader, numbers, "Describing the objects")
    for i, (image, mask) in zip(numbers, photographs, strict=True):
        kept = [k for k in others if (mask == k).mean() >= SMALLEST]
        if not kept:
            continue
        regions = np.stack([mask == k for k in (*kept, classifier.background)])
        plain = _batch(image).float(), torch.from_numpy(regions[None]).float()
        scale = math.exp(rng.uniform(*np.log(SCALES)))
        size = [max(1, round(scale * side)) for side in mask.shape]
        for part, region in (plain, [_mirrored(each, size) for each in plain]):
            vectors.append(classifier.object_vectors(part, region[:, :-1], region[:, -1:])[0].numpy())
            classes += kept
            owners += [i] * len(kept)
    return np.concatenate(vectors) if vectors else np.empty((0, 0)), np.array(classes, int), np.array(owners, int)


def logistic_regression(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Fits a logistic regression on fewer vectors than they have dimensions.

    Args:
        x: vectors (n, d).
        y: their classes, int (n,), at least two.
        groups: int (n,); vectors of one group are left out together.

    Returns:
        Weight (classes, d) and bias (classes,), and the share of the vectors left out that got their class: not a
        number where there is one group alone.
    """
    from sklearn.linear_model import LogisticRegression

    values, axes = np.linalg.eigh((x @ x.T).astype(np.float64))
    kept = values > 1e-6 * values[-1]
    lengths, axes = np.sqrt(values[kept]), axes[:, kept]
    inside = axes * lengths  # the same vectors in the space that they span
    tried = [(*_left_out(strength, inside, y, groups), strength) for strength in STRENGTHS]
    _, accuracy, strength = min(tried, key=lambda each: each[0])
    regression = LogisticRegression(C=strength, max_iter=300).fit(inside, y)
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:  # of two classes the second's alone
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    return (weight @ (axes / lengths).T).astype(x.dtype) @ x, bias, accuracy


def _left_out(strength: float, x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Returns the cross entropy of vectors that a regression has not seen, and the share of these that it gets right.

    Where the others have one class alone, it is that for certain. With one group alone nothing can be left out.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    if len(np.unique(groups)) < 2:
        return 0.0, float("nan")
    classes = np.unique(y)
    probabilities = np.zeros((len(y), len(classes)))
    for others, left in GroupKFold(min(FOLDS, len(np.unique(groups)))).split(x, y, groups):
        columns = np.searchsorted(classes, np.unique(y[others]))
        probabilities[np.ix_(left, columns)] = 1.0
        if len(columns) > 1:
            regression = LogisticRegression(C=strength, max_iter=300).fit(x[others], y[others])
            probabilities[np.ix_(left, columns)] = regression.predict_proba(x[left])
    of_own = probabilities[np.arange(len(y)), np.searchsorted(classes, y)]
    return float(-np.log(of_own.clip(1e-6)).mean()), float((classes[probabilities.argmax(1)] == y).mean())


def _mirrored(x: torch.Tensor, size: list[int]) -> torch.Tensor:
    """Mirrors (b, c, h, w) and brings it to another size; values keep their range."""
    return F.interpolate(x.flip(-1), size, mode="bilinear", antialias=True)


def _batch(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]


def _photographs(reader: "Reader", numbers: Sequence[int], title: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    console = Console(stderr=True)
    shown = track(numbers, title, len(numbers), console=console, disable=not console.is_terminal, transient=True)
    yield from (reader[int(i)] for i in shown)
