"""Photographs, labels and predictions of the test images, small enough for all of them to stand in one page."""

import base64
import io
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seglab.errors import InputError
from seglab.lab.bootstrap import mean_ratio, parts
from seglab.lab.runs import Run

LABEL_SIDE = 160  # pixels of the longer side of labels and predictions
PHOTO_SIDE = 320
NOT_SCORED = 255  # ignored in a label; outside the window in a prediction

ReadPair = Callable[[str], tuple[np.ndarray, np.ndarray]]
Track = Callable[[Iterable[Any], int], Iterable[Any]]


@dataclass
class Gallery:
    """The test images as a page holds them.

    A pack is the class indices of all images, a byte each, row by row and image after image, as zlib and base64 text;
    255 where nothing is scored. A page unpacks one in some 10 ms, and reads exact values, which a picture drawn on a
    canvas does not give in every browser.

    Attributes:
        sizes: width and height of each image in the packs.
        photos: each image's JPEG as base64 text, empty where it was not found.
        labels: the pack of the labels; empty where none was found.
        predictions: a pack for each run; empty where the run kept no predictions.
        faults: why photographs and labels are missing, a line for each image.
    """

    sizes: list[tuple[int, int]] = field(default_factory=list)
    photos: list[str] = field(default_factory=list)
    labels: str = ""
    predictions: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def has_pictures(self) -> bool:
        """Whether there is anything to draw: labels, or predictions of a run."""
        return bool(self.labels or any(self.predictions))


class Pack:
    """Takes one mask after the other, so that only their compressed bytes are held."""

    def __init__(self) -> None:
        self._compressor, self._parts = zlib.compressobj(9), []

    def add(self, mask: np.ndarray) -> None:
        """Appends class indices uint8 (h, w)."""
        self._parts.append(self._compressor.compress(mask.tobytes()))

    def text(self) -> str:
        """Closes the pack and returns it."""
        return base64.b64encode(b"".join([*self._parts, self._compressor.flush()])).decode()


def build_gallery(
    runs: Sequence[Run],
    split: str,
    names: Sequence[str],
    num_classes: int,
    read_pair: ReadPair | None,
    track: Track,
) -> Gallery:
    """Reads and shrinks the images, their labels, and every run's predictions.

    Args:
        runs: whose predictions to take.
        split: name of their evaluation.
        names: of the images.
        num_classes: number of classes; all above in a label is not scored.
        read_pair: returns image uint8 (h, w, 3) and mask uint8 (h, w) of a name; none where the dataset is not at hand.
        track: passes on an iterable of known length, and may show how far it is.

    Raises:
        InputError: A prediction cannot be read.
    """
    folders = [run.evaluation_folder(split) / "predictions" for run in runs]
    folders = [folder if any(folder.rglob("*.png")) else None for folder in folders]
    gallery, label_pack, packs = Gallery(), Pack(), [Pack() for _ in runs]

    def read(name: str) -> tuple[str, np.ndarray | None, list[np.ndarray | None], str]:
        preds = [None if folder is None else read_prediction(folder / f"{name}.png") for folder in folders]
        shapes = {prediction.shape for prediction in preds if prediction is not None}
        photo, mask, fault = read_small_pair(name, read_pair, shapes, num_classes)
        return photo, mask, [None if prediction is None else shrunk(prediction) for prediction in preds], fault

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for photo, mask, preds, fault in track(pool.map(read, names), len(names)):
            known = [small for small in (mask, *preds) if small is not None]
            height, width = known[0].shape if known else (1, 1)
            gallery.sizes.append((width, height))
            gallery.photos.append(photo)
            gallery.faults += [fault] if fault else []
            nothing = np.full((height, width), NOT_SCORED, np.uint8)
            for pack, small in zip((label_pack, *packs), (mask, *preds), strict=True):
                pack.add(nothing if small is None else small)
    gallery.labels = label_pack.text() if any(gallery.photos) else ""
    gallery.predictions = ["" if folder is None else pack.text() for folder, pack in zip(folders, packs, strict=True)]
    return gallery


def read_prediction(path: Path) -> np.ndarray:
    """Returns class indices uint8 (h, w).

    Raises:
        InputError: The file is missing or damaged.
    """
    try:
        with Image.open(path) as picture:
            return np.asarray(picture)
    except (OSError, SyntaxError) as error:  # PIL raises SyntaxError for a broken PNG
        run = path.parents[path.parts[::-1].index("evaluation")]
        raise InputError(
            f"{path} cannot be read ({error}): python evaluate.py run={run} writes the predictions again"
        ) from None


def read_small_pair(
    name: str, read_pair: ReadPair | None, shapes: set[tuple[int, ...]], num_classes: int
) -> tuple[str, np.ndarray | None, str]:
    """Returns the photograph as base64 of a JPEG, the shrunk mask, and what is wrong; empty and none where missing."""
    if read_pair is None:
        return "", None, ""
    try:
        image, mask = read_pair(name)
    except InputError as error:
        return "", None, str(error)
    if shapes - {mask.shape}:
        (height, width), other = mask.shape, next(iter(shapes - {mask.shape}))
        return "", None, f"{name}: the label is {width}x{height} and its prediction {other[1]}x{other[0]}"
    return jpeg(image), shrunk(np.where(mask < num_classes, mask, NOT_SCORED).astype(np.uint8)), ""


def shrunk(mask: np.ndarray) -> np.ndarray:
    """Returns a mask (h, w) with a longer side of at most `LABEL_SIDE`, each pixel the nearest of the original."""
    scale = min(1.0, LABEL_SIDE / max(mask.shape))
    rows, columns = (
        ((np.arange(count) + 0.5) * size / count).astype(int)
        for size, count in ((size, max(1, round(size * scale))) for size in mask.shape)
    )
    return np.ascontiguousarray(mask[rows[:, None], columns])


def jpeg(image: np.ndarray) -> str:
    """Returns a photograph uint8 (h, w, 3), shrunk to a longer side of `PHOTO_SIDE`, as base64 of a JPEG."""
    picture, buffer = Image.fromarray(image), io.BytesIO()
    picture.thumbnail((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.LANCZOS, reducing_gap=3)
    picture.save(buffer, "JPEG", quality=72, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def image_errors(confusion: np.ndarray, class_names: Sequence[str]) -> tuple[list[float | None], list[float | None]]:
    """Returns each image's share of wrong pixels and its mIoU; none where no pixel is scored.

    Args:
        confusion: a matrix for each image, int64 (N, K, K), rows the labels.
        class_names: names of the K classes.
    """
    accuracy, miou = (mean_ratio(parts(confusion, metric, class_names)) for metric in ("pixel_accuracy", "miou"))
    return [_plain(value) for value in 1 - accuracy], [_plain(value) for value in miou]


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
