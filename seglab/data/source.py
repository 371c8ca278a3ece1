"""What every dataset offers to the rest of the data floor."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np

SPLITS = ("train", "val", "test")


class Source(Protocol):
    """Pairs of images and masks in the splits train, val and test.

    Attributes:
        class_names: names in the order of the class indices.
        ignore_index: mask value of pixels that are never scored.
    """

    class_names: tuple[str, ...]
    ignore_index: int

    def names(self, split: str) -> np.ndarray:
        """Names of the pairs, str (n,).

        Raises:
            InputError: if the split is missing or empty.
        """
        ...

    def read(self, split: str, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Decode pair `i`.

        Returns:
            The image, uint8 (h, w, 3) RGB, and the mask, uint8 (h, w) of class indices and `ignore_index`.

        Raises:
            InputError: naming the file that is missing, damaged, of another size or with a stray label value.
        """
        ...

    def sizes(self, split: str) -> np.ndarray:
        """Height and width of each pair in pixels, int (n, 2)."""
        ...

    def fingerprint(self) -> str:
        """A hexadecimal digest that changes when a file, the label table or a parameter changes."""
        ...

    def content_digest(self) -> str:
        """A hexadecimal digest of the pixels' content, the same for a copy of the data elsewhere."""
        ...

    def check(self, splits: Iterable[str] = SPLITS) -> None:
        """Read every file of the splits once.

        Raises:
            InputError: naming all files at fault, a line each.
        """
        ...
