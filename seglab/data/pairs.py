"""Pairs of an image file and a label file under one root: what the folder layouts have in common."""

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from seglab.data import cache, files
from seglab.data.labels import LabelTable
from seglab.data.scan import scan
from seglab.data.source import SPLITS
from seglab.errors import InputError

_MANY_FAULTS = 20  # from here on their number is said


@dataclass(frozen=True)
class Pairs:
    """The pairs of one split: numpy arrays, which stay small and are shared with forked workers.

    Attributes:
        key: what these pairs are called on disk; two splits of one key hold the same pairs.
        names: path below the image folder without suffix, str (n,).
        image_suffixes: suffix of each image file, str (n,).
        mask_suffixes: suffix of each label file, str (n,).
    """

    key: str
    names: np.ndarray
    image_suffixes: np.ndarray
    mask_suffixes: np.ndarray


class PairedFiles(ABC):
    """A source whose images and label images lie in two folders; a layout adds which pairs belong to a split."""

    def __init__(self, root: Path, image_folder: str, mask_folder: str, table: LabelTable) -> None:
        """Keep the parts; nothing is read yet."""
        self.root = root
        self.image_folder = image_folder
        self.mask_folder = mask_folder
        self.table = table
        self.class_names = table.class_names
        self.ignore_index = table.ignore_index
        self._sizes: dict[str, np.ndarray] = {}
        self._fingerprint: str | None = None

    @abstractmethod
    def pairs(self, split: str) -> Pairs:
        """The pairs of a split.

        Raises:
            InputError: if the split is missing or empty.
        """

    def listing_faults(self) -> list[str]:
        """What is wrong with the layout itself, before any file is read."""
        return []

    def names(self, split: str) -> np.ndarray:
        """Names of the pairs, str (n,)."""
        return self.pairs(split).names

    def read(self, split: str, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Decode pair `i`: image uint8 (h, w, 3) RGB, mask uint8 (h, w) of class indices and `ignore_index`."""
        image_path, mask_path = self._paths(self.pairs(split), i)
        image, raw = _decode_both(image_path, mask_path)
        if image.shape[:2] != raw.shape[:2]:
            (image_height, image_width), (height, width) = image.shape[:2], raw.shape[:2]
            remedy = "; give both the same size"
            if (image_width, image_height) == (height, width) and files.is_turned(image_path):
                remedy = ", turned by its EXIF; draw the mask on the turned photograph"
            raise InputError(f"{mask_path}: is {width}x{height} and its image {image_width}x{image_height}{remedy}")
        try:
            return image, self.table.apply(raw)
        except InputError as error:
            lossy = mask_path.suffix.lower() in (".jpg", ".jpeg", ".jpe", ".jfif")
            hint = "; JPEG changes label values, a PNG keeps them" if lossy else ""
            raise InputError(f"{mask_path}: {error}{hint}") from None

    def sizes(self, split: str) -> np.ndarray:
        """Height and width of each pair in pixels, int (n, 2); the files are checked for it if they have not been."""
        key = self.pairs(split).key
        if key not in self._sizes:
            self.check([split])
        return self._sizes[key]

    def fingerprint(self) -> str:
        """A hexadecimal digest of path, size and times of change of every file, and of the label table."""
        if self._fingerprint is None:
            digest = hashlib.blake2b(digest_size=16)
            digest.update(repr(self.table.parameters).encode())
            for split in SPLITS:
                digest.update(f"\n{split}\n".encode())
                for lines in self._for_each_file(split, self._stamp):
                    digest.update(lines.encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def content_digest(self) -> str:
        """A hexadecimal digest of every file's bytes and the label table, the same for a copy of the data elsewhere.

        The files are read for it once, until one changes.

        Raises:
            InputError: if a file cannot be read.
        """
        entry = f"content/{self.fingerprint()}"
        if (known := cache.load_json(entry)) is None:
            digest = hashlib.blake2b(repr(self.table.parameters).encode(), digest_size=16)
            for split in SPLITS:
                digest.update(f"\n{split}\n".encode())
                for part in self._for_each_file(split, self._content):
                    digest.update(part.encode())
            known = digest.hexdigest()
            cache.store_json(entry, known)
        return known

    def check(self, splits: Iterable[str] = SPLITS) -> None:
        """Read every file of the splits once; a success is remembered until a file changes.

        Raises:
            InputError: naming all files at fault, a line each, but for label images that one label table does not fit.
        """
        faults, found = self.listing_faults(), []
        for split in splits:
            try:
                found.append((split, self.pairs(split)))
            except InputError as error:
                faults.append(str(error))
        faults += _repeats({pairs.key: (split, pairs.names) for split, pairs in found}, self.root)
        for split, pairs in {pairs.key: (split, pairs) for split, pairs in found}.values():
            faults += self._scan(split, pairs)
        faults = [line for fault in faults for line in fault.splitlines()]
        lines = list(_grouped(faults, self.root))
        if len(lines) > _MANY_FAULTS:
            lines.append(f"{self.root}: {len(faults)} faults in all")
        if lines:
            raise InputError("\n".join(lines))

    def _paths(self, pairs: Pairs, i: int) -> tuple[Path, Path]:
        name = str(pairs.names[i])
        image_path = self.root / self.image_folder / f"{name}{pairs.image_suffixes[i]}"
        return image_path, self.root / self.mask_folder / f"{name}{pairs.mask_suffixes[i]}"

    def _scan(self, split: str, pairs: Pairs) -> list[str]:
        """Read all pairs unless that is known to succeed; returns the faults."""
        entry = f"check/{self.fingerprint()}-{pairs.key}"
        stored = cache.load_arrays(entry)
        if stored is not None:
            self._sizes[pairs.key] = stored["sizes"]
            return []
        sizes, faults = scan(lambda i: self.read(split, i), len(pairs.names), f"checking {split}")
        if not faults:
            self._sizes[pairs.key] = sizes
            cache.store_arrays(entry, {"sizes": sizes})
        return faults

    def _for_each_file(self, split: str, tell: Callable[[Path], str]) -> Iterator[str]:
        """What `tell` says of each file of a split, many lines at a time; nothing for a missing split."""
        try:
            pairs = self.pairs(split)
        except InputError:
            return

        def chunk(start: int) -> str:
            indices = range(start, min(start + 256, len(pairs.names)))
            return "".join(tell(path) for i in indices for path in self._paths(pairs, i))

        with ThreadPoolExecutor() as pool:  # each file waits for the disk, on a network for long
            yield from pool.map(chunk, range(0, len(pairs.names), 256))

    def _stamp(self, path: Path) -> str:
        relative = path.relative_to(self.root).as_posix()
        try:
            state = os.stat(path)
        except OSError:
            return f"{relative} missing\n"
        # An archive gives its files the same times of writing wherever it is unpacked; when that was says ctime.
        return f"{relative} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}\n"

    def _content(self, path: Path) -> str:
        try:
            content = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; every file of a dataset has to be readable") from None
        return f"{path.relative_to(self.root).as_posix()} {content}\n"


def _decode_both(image_path: Path, mask_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Image and raw labels; where both files are at fault, the error names both."""
    arrays, faults = [], []
    for decode, path in ((files.read_image, image_path), (files.read_mask, mask_path)):
        try:
            arrays.append(decode(path, remedy="replace the file or remove it with its pair"))
        except InputError as error:
            faults.append(str(error))
    if faults:
        raise InputError("\n".join(faults))
    return arrays[0], arrays[1]


def _grouped(faults: Iterable[str], root: Path) -> Iterator[str]:
    """The faults, but what a label table lacks once for all label images that have it, with the names of a few."""
    groups: dict[str, list[str]] = {}
    for fault in faults:
        reason = re.sub(r" \(\d+ pixels\)|, \[[\d, ]+\] for one", "", fault.partition(": ")[2])
        groups.setdefault(reason if "data.classes" in reason else fault, []).append(fault)
    for first, *others in groups.values():
        names = [os.path.relpath(other.partition(": ")[0], root) for other in others[:3]]
        names += ["..."] * (len(others) > 3)
        yield first + (f"; the same in {len(others)} more: {', '.join(names)}" if others else "")


def _repeats(lists: dict[str, tuple[str, np.ndarray]], root: Path) -> list[str]:
    """Names that stand twice in a split, or in two, where the model would be scored on what it has seen."""
    faults = []
    for split, names in lists.values():
        unique, counts = np.unique(names, return_counts=True)
        faults += [f"{root}: {name} stands twice in the split {split}; list it once" for name in unique[counts > 1]]
    for (first, names), (second, others) in combinations(lists.values(), 2):
        both = np.intersect1d(names, others)
        faults += [f"{root}: {name} is in both {first} and {second}; leave it in one of them" for name in both]
    return faults
