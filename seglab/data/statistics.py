"""Mean, standard deviation and class areas of the training samples, computed once and kept."""

import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from seglab.data import cache, crops
from seglab.data.reader import Reader

_log = logging.getLogger(__name__)
_VERSION = 1  # part of the key: raise it whenever the same pixels give other figures


@dataclass(frozen=True)
class Statistics:
    """Figures of the training samples.

    Attributes:
        mean: of red, green and blue, in 0..1.
        std: of red, green and blue, in 0..1.
        areas: labelled pixels of each class by its name, in the order of the class indices.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    areas: dict[str, int]

    def inverse_area_weights(self) -> list[float]:
        """For each class total labelled area / its area; 0, with a warning, for a class that no pixel has."""
        total = sum(self.areas.values())
        if absent := [name for name, area in self.areas.items() if not area]:
            _log.warning("no training pixel is labelled %s: class weight 0", ", ".join(absent))
        return [total / area if area else 0.0 for area in self.areas.values()]


def compute(reader: Reader, crop: str = "random", crop_size: int = 256) -> Statistics:
    """Statistics of all training samples before augmentation, taken from the cache folder where they are known.

    Args:
        reader: the training images, resized as for training.
        crop: one of `crops.MODES`; whole images count for "random", where every pixel is as likely, else the windows.
        crop_size: side of a window in pixels; what reaches over an image's border does not count.

    Raises:
        InputError: if a file cannot be read.
    """
    region = None if crop == "random" else (crop, crop_size)
    parts = ("statistics", _VERSION, reader.source.fingerprint(), reader.split, reader.resize, region)
    key = f"statistics-{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"
    if known := cache.load_json(key):
        return Statistics(tuple(known["mean"]), tuple(known["std"]), known["areas"])
    statistics = _measure(reader, crop, crop_size)
    cache.store_json(key, asdict(statistics))
    return statistics


def _measure(reader: Reader, crop: str, crop_size: int) -> Statistics:
    names = reader.source.class_names

    def sums(i: int) -> tuple[np.ndarray, np.ndarray]:
        moments, areas = np.zeros((3, 3)), np.zeros(256, np.int64)  # moments: pixels, sum, sum of squares by channel
        image, mask = reader[i]
        for part in _parts(*mask.shape, crop, crop_size):
            mean, std = (values[:, 0] for values in cv2.meanStdDev(image[part]))
            count = mask[part].size
            moments += np.stack([np.full(3, count), mean * count, (mean**2 + std**2) * count])
            areas += np.bincount(mask[part].ravel(), minlength=256)
        return moments, areas

    moments, areas = np.zeros((3, 3)), np.zeros(256, np.int64)
    pool = ThreadPoolExecutor()
    try:
        results = pool.map(sums, range(len(reader)))
        title, console = "Measuring the training images", Console(stderr=True)
        for more_moments, more_areas in track(results, title, len(reader), console=console, transient=True):
            moments += more_moments
            areas += more_areas
    finally:
        pool.shutdown(cancel_futures=True)
    mean = moments[1] / moments[0]
    std = np.sqrt(np.maximum(moments[2] / moments[0] - mean**2, 0))
    named = dict(zip(names, areas[: len(names)].tolist(), strict=True))
    return Statistics(tuple((mean / 255).tolist()), tuple((std / 255).tolist()), named)


def _parts(height: int, width: int, crop: str, size: int) -> list[tuple[slice, slice]]:
    """The regions that count, clipped to the image."""
    if crop == "random":
        return [(slice(None), slice(None))]
    parts = []
    for k in range(crops.windows_per_image(crop)):
        top, left = crops.window(crop, k, height, width, size, np.random.default_rng(0))
        parts.append((slice(max(top, 0), top + size), slice(max(left, 0), left + size)))
    return parts
