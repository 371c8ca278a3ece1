"""Mean, standard deviation and class areas of the training samples, computed once and kept."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from seglab.data import cache, crops
from seglab.data.reader import Reader
from seglab.errors import InputError

_log = logging.getLogger(__name__)
_VERSION = 3  # part of the key: raise it whenever the same pixels give other figures


@dataclass(frozen=True)
class Statistics:
    """Figures of the training samples.

    Attributes:
        mean: of red, green and blue, in 0..1.
        std: of red, green and blue, in 0..1.
        areas: labelled pixels of each class by its name, in the order of the class indices.
        image_areas: labelled pixels, of any class, of the images (or windows) that a class is in, by its name.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    areas: dict[str, int]
    image_areas: dict[str, int]

    def inverse_area_weights(self) -> list[float]:
        """For each class total labelled area / its area; 0, with a warning, for a class that no pixel has."""
        total = sum(self.areas.values())
        return self._listed({name: total / area for name, area in self.areas.items() if area})

    def median_frequency_weights(self) -> list[float]:
        """For each class median of the frequencies / its frequency; 0, with a warning, for a class that no pixel has.

        The frequency of a class is its share of the labelled area of those images that it is in. Eigen and Fergus,
        2015, arXiv:1411.4734.
        """
        frequencies = {name: area / self.image_areas[name] for name, area in self.areas.items() if area}
        return self._listed({name: median(frequencies.values()) / value for name, value in frequencies.items()})

    def effective_number_weights(self, beta: float = 0.9999999) -> list[float]:
        """For each class 1 / effective number of its n pixels; 0, with a warning, for a class that no pixel has.

        The effective number is (1 - beta^n) / (1 - beta): as good as n while n is far below 1 / (1 - beta) pixels, and
        never more than that. The mean weight of the classes that have pixels is 1. Cui et al., 2019, arXiv:1901.05555.

        Args:
            beta: 0 to below 1; 0 weighs all classes alike, near 1 is inverse area.

        Raises:
            InputError: beta is outside its range.
        """
        if not (isinstance(beta, int | float) and 0 <= beta < 1):
            raise InputError(f"loss.class_weights: beta={beta}: give a number from 0 to below 1")
        inverse = {name: 1 / (1 - beta**area) for name, area in self.areas.items() if area}
        return self._listed({name: value / fmean(inverse.values()) for name, value in inverse.items()})

    def _listed(self, weights: dict[str, float]) -> list[float]:
        if absent := [name for name in self.areas if name not in weights]:
            _log.warning("no training pixel is labelled %s: class weight 0", ", ".join(absent))
        return [weights.get(name, 0.0) for name in self.areas]


def compute(reader: Reader, crop: str = "random", crop_size: int = 256) -> Statistics:
    """Statistics of all training samples before augmentation, taken from the cache folder where they are known.

    Args:
        reader: the training images, resized as for training.
        crop: one of `crops.MODES`; whole images count for "random", where every pixel is as likely, else the windows.
        crop_size: side of a window in pixels; what reaches over an image's border does not count.

    Raises:
        InputError: if a file cannot be read.
    """
    key = _key("statistics", reader, crop, crop_size)
    if known := cache.load_json(key):
        return Statistics(tuple(known["mean"]), tuple(known["std"]), known["areas"], known["image_areas"])
    statistics = _measure(reader, crop, crop_size)
    cache.store_json(key, asdict(statistics))
    return statistics


def class_areas(reader: Reader, crop: str = "random", crop_size: int = 256) -> np.ndarray:
    """Labelled pixels of each class in each training sample, taken from the cache folder where they are known.

    Args:
        reader: as for `compute`, and so are the others.
        crop: samples are whole images for "random", else the windows.
        crop_size: side of a window in pixels.

    Returns:
        Pixels int64 (samples, num_classes), in the order of the samples.

    Raises:
        InputError: if a file cannot be read.
    """
    key = _key("class-areas", reader, crop, crop_size)
    if known := cache.load_arrays(key):
        return known["areas"]
    num_classes = len(reader.source.class_names)

    def count(i: int) -> np.ndarray:
        _, mask = reader[i]
        return np.stack([_areas(mask[part], num_classes) for part in _parts(*mask.shape, crop, crop_size)])

    areas = np.concatenate(list(_over_images(count, reader, "Counting the classes of each image")))
    cache.store_arrays(key, {"areas": areas})
    return areas


def _key(kind: str, reader: Reader, crop: str, crop_size: int) -> str:
    region = None if crop == "random" else (crop, crop_size)
    parts = (kind, _VERSION, reader.source.fingerprint(), reader.split, reader.resize, region)
    return f"{kind}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"


def _over_images(function: Callable[[int], Any], reader: Reader, title: str) -> Iterator[Any]:
    """Calls a function with the number of each image, in threads, with a progress bar; yields in their order."""
    pool = ThreadPoolExecutor()
    try:
        results = pool.map(function, range(len(reader)))
        yield from track(results, title, len(reader), console=Console(stderr=True), transient=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _areas(mask: np.ndarray, num_classes: int) -> np.ndarray:
    return np.bincount(mask.ravel(), minlength=256)[:num_classes]


def _measure(reader: Reader, crop: str, crop_size: int) -> Statistics:
    names = reader.source.class_names

    def sums(i: int) -> tuple[np.ndarray, np.ndarray]:
        # moments: pixels, sum, sum of squares by channel; areas: of each class, and of the images that it is in
        moments, areas = np.zeros((3, 3)), np.zeros((2, len(names)), np.int64)
        image, mask = reader[i]
        for part in _parts(*mask.shape, crop, crop_size):
            mean, std = (values[:, 0] for values in cv2.meanStdDev(image[part]))
            count = mask[part].size
            moments += np.stack([np.full(3, count), mean * count, (mean**2 + std**2) * count])
            area = _areas(mask[part], len(names))
            areas += np.stack([area, (area > 0) * area.sum()])
        return moments, areas

    moments, areas = np.zeros((3, 3)), np.zeros((2, len(names)), np.int64)
    for more_moments, more_areas in _over_images(sums, reader, "Measuring the training images"):
        moments += more_moments
        areas += more_areas
    mean = moments[1] / moments[0]
    std = np.sqrt(np.maximum(moments[2] / moments[0] - mean**2, 0))
    named = (dict(zip(names, row, strict=True)) for row in areas.tolist())
    return Statistics(tuple((mean / 255).tolist()), tuple((std / 255).tolist()), *named)


def _parts(height: int, width: int, crop: str, size: int) -> list[tuple[slice, slice]]:
    """The regions that count, clipped to the image."""
    if crop == "random":
        return [(slice(None), slice(None))]
    parts = []
    for k in range(crops.windows_per_image(crop)):
        top, left = crops.window(crop, k, height, width, size, np.random.default_rng(0))
        parts.append((slice(max(top, 0), top + size), slice(max(left, 0), left + size)))
    return parts
