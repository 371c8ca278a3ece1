"""Any data set in two folders: images/ and masks/ with the same stems."""

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from unicodedata import normalize

import numpy as np

from seglab.data.files import SUFFIXES, files_below
from seglab.data.labels import LabelTable, Raw
from seglab.data.pairs import PairedFiles, Pairs
from seglab.data.source import SPLITS
from seglab.errors import InputError

_log = logging.getLogger(__name__)

FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


class ImageFolder(PairedFiles):
    """Photographs in images/ and label images of the same stems in masks/, sub-folders allowed.

    The splits are the sub-folders train, val and test of both, or else the lists train.txt, val.txt and test.txt in the
    root, or else drawn by a hash of each name, so that a pair keeps its split when others are added. Names are of
    Unicode's form NFC, whatever the disk has: macOS writes an umlaut as a letter and its dots.
    """

    def __init__(
        self,
        root: str | Path,
        classes: Sequence[str] | Mapping[str, int | Sequence[int]],
        ignore_index: int,
        ignore: Sequence[int | Sequence[int]] = (),
        splits: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        """List the files.

        Args:
            root: the folder that holds images/ and masks/.
            classes: names for the label values 0, 1, 2, ..., or each name with its label value or [r, g, b] colour.
            ignore_index: mask value of the pixels that are never scored.
            ignore: label values or colours that are never scored.
            splits: fractions of train, val and test where neither sub-folders nor lists give them.
            seed: another one draws other splits.

        Raises:
            InputError: if a folder is missing or the classes or fractions contradict themselves.
        """
        root = Path(root)
        super().__init__(root, "images", "masks", LabelTable(*_label_map(classes, ignore, ignore_index), ignore_index))
        self.fractions = _fractions(FRACTIONS if splits is None else splits)
        self.seed = seed
        self._on_disk: dict[Path, Path] = {}
        images, others, faults = _list_files(root / "images", self._on_disk)
        masks, _, mask_faults = _list_files(root / "masks", self._on_disk)
        self._faults = [*faults, *mask_faults, *_orphans(root, images, masks, others)]
        names = sorted(images.keys() & masks.keys())
        self._all = Pairs(
            "all", np.array(names), np.array([images[n] for n in names]), np.array([masks[n] for n in names])
        )
        self._pairs: dict[str, Pairs] = {}

    def listing_faults(self) -> list[str]:
        """Images without label image, label images without image, stems that stand twice, and pairs of no split."""
        faults = list(self._faults)
        if self._has_folders():
            starts = tuple(f"{split}/" for split in SPLITS)
            outside = [name for name in self._all.names.tolist() if not name.startswith(starts)]
            if outside:
                faults.append(
                    f"{self.root}: {len(outside)} pairs lie in none of images/train, val and test, {outside[0]} for "
                    "one; move them there, or out of images/ and masks/"
                )
        return faults

    def check(self, splits: Iterable[str] = SPLITS) -> None:
        """As any pairs; of all splits at once, a warning says how many pairs are in none of them."""
        splits = tuple(splits)
        super().check(splits)
        left_out = len(self._all.names) - sum(len(self.names(split)) for split in splits)
        if left_out and set(splits) == set(SPLITS):
            lists = ", ".join(f"{split}.txt" for split in SPLITS)
            _log.warning("%s: %d pairs stand in none of %s and are left out", self.root, left_out, lists)

    def pairs(self, split: str) -> Pairs:
        """The pairs of a split."""
        if split not in SPLITS:
            raise InputError(f"split={split}: give one of {', '.join(SPLITS)}")
        if split not in self._pairs:
            chosen = self._choose(split)
            if not len(chosen):
                raise InputError(f"{self.root}: the split {split} has no pair in it; {self._remedy(split)}")
            suffixes = self._all.image_suffixes[chosen], self._all.mask_suffixes[chosen]
            self._pairs[split] = Pairs(split, self._all.names[chosen], *suffixes)
        return self._pairs[split]

    def _paths(self, pairs: Pairs, i: int) -> tuple[Path, Path]:
        image, mask = super()._paths(pairs, i)
        return self._on_disk.get(image, image), self._on_disk.get(mask, mask)

    def _choose(self, split: str) -> np.ndarray:
        """Indices of a split's pairs, int (n,)."""
        names = self._all.names
        if not len(names):
            return np.empty(0, np.int64)
        if self._has_folders():
            return np.flatnonzero(np.char.startswith(names, f"{split}/"))
        if self._has_lists():
            return self._read_list(self.root / f"{split}.txt")
        upper = np.cumsum([self.fractions[name] for name in SPLITS])
        upper[upper > 1 - 1e-6] = 1.0  # sums of fractions are not exact
        positions = np.array([_position(self.seed, name) for name in names])
        return np.flatnonzero(np.searchsorted(upper, positions, side="right") == SPLITS.index(split))

    def _has_folders(self) -> bool:
        return any((self.root / "images" / split).is_dir() for split in SPLITS)

    def _has_lists(self) -> bool:
        return any((self.root / f"{split}.txt").is_file() for split in SPLITS)

    def _read_list(self, path: Path) -> np.ndarray:
        try:
            text = normalize("NFC", path.read_text(encoding="utf-8-sig"))
            lines = [line.strip() for line in text.splitlines() if line.strip()]
        except FileNotFoundError:
            return np.empty(0, np.int64)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as text ({error}); give one name a line") from None
        index = {name: i for i, name in enumerate(self._all.names.tolist())}
        names = [name if name in index else _without_suffix(name) for name in lines]
        if missing := [name for name in names if name not in index]:
            raise InputError(
                "\n".join(
                    f"{path}: {name} has no pair in images/ and masks/; add it or remove the line" for name in missing
                )
            )
        return np.array([index[name] for name in names], np.int64)

    def _remedy(self, split: str) -> str:
        if not len(self._all.names):
            return "put images in images/ and label images of the same stems in masks/"
        if self._has_folders():
            return f"fill images/{split} and masks/{split}"
        if self._has_lists():
            return f"write {split}.txt, one name a line"
        largest = max(self.fractions, key=lambda other: self.fractions[other] * (other != split))
        half = round((self.fractions[split] + self.fractions[largest]) / 2, 7)
        return f"add images, or give it more: 'data.splits={_as_typed(self.fractions | {split: half, largest: half})}'"


def _label_map(classes: Sequence | Mapping, ignore: Sequence, ignore_index: int) -> tuple[dict[Raw, int], list[str]]:
    if not isinstance(classes, Mapping) and not all(isinstance(name, str | int | float) for name in classes):
        raise InputError(f"data.classes={classes}: give each a name, such as {{background: [0,0,0], cat: [64,0,0]}}")
    named = classes if isinstance(classes, Mapping) else {name: value for value, name in enumerate(classes)}
    if not isinstance(classes, Mapping) and len(named) < len(classes):
        raise InputError(f"data.classes: a name stands twice in {', '.join(map(str, classes))}; give each its own")
    if isinstance(ignore, str) or not isinstance(ignore, Sequence):
        raise InputError(f"data.ignore={ignore}: give a list, such as [{ignore}]")
    mapping: dict[Raw, int] = {}
    for index, (name, value) in enumerate([*named.items(), *((None, value) for value in ignore)]):
        raw = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        key = "data.ignore" if name is None else f"data.classes.{name}"
        try:
            known = raw in mapping
        except TypeError:  # a list or a mapping inside
            raise InputError(f"{key}: {value} is no label value: give 0 to 65535, or [r, g, b]") from None
        if known:
            raise InputError(f"{key}: the label value {value} is already given; give each value once")
        mapping[raw] = ignore_index if name is None else index
    return mapping, list(map(str, named))


def _fractions(splits: Mapping[str, float]) -> dict[str, float]:
    if not isinstance(splits, Mapping) or not all(isinstance(share, int | float) for share in splits.values()):
        raise InputError(f"data.splits={splits}: give fractions, such as {_as_typed(FRACTIONS)}")
    fractions = {split: splits.get(split, 0.0) for split in SPLITS}
    if set(splits) - set(SPLITS) or min(fractions.values()) < 0 or not abs(sum(fractions.values()) - 1) <= 1e-6:
        raise InputError(f"data.splits={_as_typed(splits)}: give fractions of train, val and test whose sum is 1")
    return fractions


def _as_typed(values: Mapping[str, float]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in values.items()) + "}"


def _position(seed: int, name: str) -> float:
    """A number in [0, 1) that depends on the seed and the name alone."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=6).digest(), "big") / 2**48


def _list_files(folder: Path, on_disk: dict[Path, Path]) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Suffix of each image file by its name, of each file of another kind, and the names that stand twice.

    Args:
        folder: images/ or masks/.
        on_disk: gets the path of each file whose name is not of the form NFC, by what it would be in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; data.root=PATH names the folder that holds images/ and masks/")
    found: dict[str, str] = {}
    others: dict[str, str] = {}
    faults: list[str] = []
    for place in files_below(folder, faults):
        stem, suffix = place.with_suffix("").as_posix(), place.suffix
        name = normalize("NFC", stem)
        if suffix.lower() not in SUFFIXES:
            others[name] = suffix
            continue
        if name in found:
            same = "has the same stem" if suffix != found[name] else "is the same in another form of Unicode"
            faults.append(f"{folder / place}: {name}{found[name]} {same}; rename or remove one of them")
        found[name] = suffix
        if name != stem:
            on_disk[folder / f"{name}{suffix}"] = folder / place
    return found, others, faults


def _orphans(root: Path, images: dict[str, str], masks: dict[str, str], others: dict[str, str]) -> Iterator[str]:
    if masks and not images:
        kinds = " ".join(sorted(SUFFIXES))
        yield f"{root / 'images'}: holds no photograph of a kind that is read ({kinds}); save them as one"
        return
    for name in sorted(images.keys() - masks.keys()):
        yield f"{root / 'images' / name}{images[name]}: has no label image masks/{name}.*; add it or remove the image"
    for name in sorted(masks.keys() - images.keys()):
        if name in others:
            yield f"{root / 'images' / name}{others[name]}: is of a kind that is not read; save it as JPEG or PNG"
            continue
        yield f"{root / 'masks' / name}{masks[name]}: has no image images/{name}.*; add it or remove the label image"


def _without_suffix(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in SUFFIXES else name
