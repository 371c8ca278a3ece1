"""Parts of one training sample pasted on another: CutMix, ClassMix and copy-paste.

Both samples are labelled, so that the pasted pixels bring their own labels, and the loss stays as it is.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import cv2
import numpy as np

from seglab.data.crops import between
from seglab.errors import InputError
from seglab.numeric import is_number

Pair = tuple[np.ndarray, np.ndarray]  # image uint8 (h, w, 3), mask uint8 (h, w)
Box = tuple[slice, slice]  # rows, columns


class Mix(Protocol):
    """Mixes a sample with another one of its size.

    Attributes:
        p: probability that a sample is mixed.
    """

    p: float

    def __call__(self, sample: Pair, other: Pair, rng: np.random.Generator) -> Pair:
        """Returns a new sample and leaves those given as they are; draws from `rng` alone."""
        ...


class CutMix:
    """Pastes a rectangle of the window's proportions, at the place where it stands in the other sample.

    Yun et al., 2019, arXiv:1905.04899; on segmentation French et al., 2020, arXiv:1906.01916.
    """

    def __init__(self, p: float = 0.5, alpha: float = 1.0) -> None:
        """Check the values.

        Args:
            p: probability that a sample is mixed.
            alpha: the rectangle's share of the area is drawn from Beta(alpha, alpha); 1 draws all shares alike.

        Raises:
            InputError: A value is outside its range.
        """
        _check(p=(p, 0, 1), alpha=(alpha, 0.01, 100))
        self.p, self.alpha = p, alpha

    def __call__(self, sample: Pair, other: Pair, rng: np.random.Generator) -> Pair:
        """See `Mix`."""
        side = rng.beta(self.alpha, self.alpha) ** 0.5
        box = tuple(_span(length, round(length * side), rng) for length in sample[1].shape)
        image, mask = (values.copy() for values in sample)
        image[box], mask[box] = (values[box] for values in other)
        return image, mask


class ClassMix:
    """Pastes the pixels of half of the other sample's classes, rounded up, but never of all of them.

    Olsson et al., 2020, arXiv:2007.07936, who predict the labels that are given here. Pixels that are not scored are
    no class and stay behind.
    """

    def __init__(self, ignore_index: int, p: float = 0.5) -> None:
        """Check the values.

        Args:
            ignore_index: label of pixels that are never scored.
            p: probability that a sample is mixed.

        Raises:
            InputError: A value is outside its range.
        """
        _check(p=(p, 0, 1))
        self.ignore_index, self.p = ignore_index, p

    def __call__(self, sample: Pair, other: Pair, rng: np.random.Generator) -> Pair:
        """See `Mix`."""
        present = _labels(other[1])
        present = present[present != self.ignore_index]
        count = (len(present) + 1) // 2 if len(present) > 1 else 0
        chosen = np.zeros(256, np.uint8)
        chosen[rng.permutation(present)[:count]] = 1
        where = cv2.LUT(other[1], chosen)
        image, mask = (cv2.copyTo(new, where, values.copy()) for new, values in zip(other, sample, strict=True))
        return image, mask


class CopyPaste:
    """Pastes some objects of the other sample, each mirrored, scaled and placed at random.

    Ghiasi et al., 2020, arXiv:2012.07177. An object is a connected region of one class. Of two that overlap, the later
    one covers the other.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        objects: Sequence[str] | None = None,
        p: float = 0.5,
        max_objects: int = 3,
        scale: Sequence[float] = (0.5, 1.5),
        min_area: float = 0.005,
    ) -> None:
        """Check the values.

        Args:
            class_names: names of the classes in the order of their indices.
            objects: names of the classes whose objects are pasted; None for all but the first, the background.
            p: probability that a sample is mixed.
            max_objects: as many are pasted at most, and at least one where the other sample has any.
            scale: least and largest factor of an object's size; it never grows over the window.
            min_area: share of the window that an object covers at least, else it is left out.

        Raises:
            InputError: A value is outside its range, or a name is not that of a class.
        """
        _check(p=(p, 0, 1), min_area=(min_area, 0, 1))
        if not (isinstance(max_objects, int) and max_objects >= 1):
            raise InputError(f"mix.max_objects={max_objects}: give a whole number of at least 1")
        if fault := scale_fault("mix.scale", scale):
            raise InputError(fault)
        names = [str(name) for name in class_names]
        chosen = names[1:] if objects is None else [str(name) for name in objects]
        if not chosen or set(chosen) - set(names):
            raise InputError(f"mix.objects={', '.join(chosen)}: give one or more of the classes {', '.join(names)}")
        self.objects = [names.index(name) for name in chosen]
        self.p, self.max_objects, self.scale, self.min_area = p, max_objects, tuple(scale), min_area

    def __call__(self, sample: Pair, other: Pair, rng: np.random.Generator) -> Pair:
        """See `Mix`."""
        image, mask = (values.copy() for values in sample)
        found = list(self._find(other[1]))
        count = rng.integers(1, self.max_objects + 1)
        for n in rng.permutation(len(found))[:count].tolist():
            label, box, shape = found[n]
            part, shape, place = self._placed(other[0][box], shape, mask.shape, rng)
            cv2.copyTo(part, shape, image[place])
            mask[place][shape > 0] = label
        return image, mask

    def _find(self, mask: np.ndarray) -> Iterator[tuple[int, Box, np.ndarray]]:
        """Yields class, box and shape, uint8 (height, width of the box) of 0 and 1, of each object."""
        present = _labels(mask)
        for label in self.objects:
            if label not in present:
                continue
            count, regions, figures, _ = cv2.connectedComponentsWithStats(cv2.inRange(mask, label, label))
            for n in range(1, count):
                left, top, width, height, area = figures[n].tolist()
                if area >= self.min_area * mask.size:
                    box = slice(top, top + height), slice(left, left + width)
                    yield label, box, (regions[box] == n).astype(np.uint8)

    def _placed(
        self, part: np.ndarray, shape: np.ndarray, room: tuple[int, int], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, Box]:
        """Returns an object's pixels and its shape, mirrored and resized, and the box where it goes."""
        (height, width), mirrored = shape.shape, rng.random() < 0.5
        factor = min(rng.uniform(*self.scale), room[0] / height, room[1] / width)
        size = max(round(width * factor), 1), max(round(height * factor), 1)
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
        shape = cv2.resize(shape, size, interpolation=cv2.INTER_NEAREST_EXACT)
        if mirrored:
            part, shape = cv2.flip(part, 1), cv2.flip(shape, 1)
        return part, shape, tuple(_span(length, own, rng) for length, own in zip(room, shape.shape, strict=True))


def scale_fault(key: str, scale: Any) -> str | None:
    """Returns what is wrong with a range of factors, or None."""
    if isinstance(scale, Sequence) and len(scale) == 2 and all(map(is_number, scale)):
        if 0.1 <= scale[0] <= scale[1] <= 10:
            return None
    return f"{key}={scale}: give the least and the largest factor, from 0.1 to 10, as [0.5, 2.0]"


def _check(**values: tuple[Any, float, float]) -> None:
    faults = [
        f"mix.{key}={value}: give a number from {least} to {most}"
        for key, (value, least, most) in values.items()
        if not (is_number(value) and least <= value <= most)
    ]
    if faults:
        raise InputError("\n".join(faults))


def _labels(mask: np.ndarray) -> np.ndarray:
    return np.flatnonzero(cv2.calcHist([mask], [0], None, [256], [0, 256]))


def _span(length: int, own: int, rng: np.random.Generator) -> slice:
    """A random place of `own` pixels on a side of `length`."""
    start = between(length - own, rng)
    return slice(start, start + own)
