"""Decoded pairs of one split, resized, and kept in memory that all DataLoader workers share."""

import mmap

import cv2
import numpy as np

from seglab.data.source import Source

NARROWEST = 16  # an image is enlarged to a longer side of at most so many times the length asked of its shorter side


class Reader:
    """Reads pair after pair of a split and keeps as many decoded ones as fit.

    The memory is an anonymous map, so that forked workers fill and read the same pages; a spawned worker, or a pickled
    reader, begins with an empty one. Pages cost nothing until they are filled.
    """

    def __init__(
        self,
        source: Source,
        split: str,
        resize: int | None = None,
        keep_mask_size: bool = False,
        cache_mb: float = 1024,
    ) -> None:
        """Reserve the memory.

        Args:
            source: where the pairs come from.
            split: train, val or test.
            resize: length in pixels that the shorter side of each image is brought to, but see `NARROWEST`; None leaves
                the size.
            keep_mask_size: leave each mask at the label's own size, for evaluation.
            cache_mb: MiB of decoded pairs to keep; 0 keeps none.
        """
        self.source, self.split, self.resize = source, split, resize
        self.keep_mask_size, self.cache_mb = keep_mask_size, cache_mb
        self.names = source.names(split)  # (n,)
        sizes = np.asarray(source.sizes(split), np.int64)  # (n, 2)
        self.image_sizes = _resized(sizes, resize)
        self.mask_sizes = sizes if keep_mask_size else self.image_sizes
        self._allocate()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Pair `i`, not to be written to.

        Returns:
            The image, uint8 (h, w, 3) RGB, and the mask, uint8 (h, w) or at the label's own size.

        Raises:
            InputError: if the source cannot read a file.
        """
        if not -len(self) <= i < len(self):
            raise IndexError(f"pair {i} of {len(self)} in split {self.split!r}")
        i = i % len(self)
        if i >= self._kept:
            return self._read(i)
        image, mask = self._slot(i)
        if not self._filled[i]:
            fresh_image, fresh_mask = self._read(i)
            if fresh_image.shape != image.shape or fresh_mask.shape != mask.shape:
                return fresh_image, fresh_mask  # the file has changed since its size was noted
            image[:], mask[:] = fresh_image, fresh_mask
            self._filled[i] = 1  # last: another worker sees a whole pair or none
        image.flags.writeable = mask.flags.writeable = False
        return image, mask

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key not in ("_memory", "_filled")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._allocate()

    def _allocate(self) -> None:
        ends = np.cumsum(self.image_sizes.prod(1) * 3 + self.mask_sizes.prod(1))
        self._kept = int(np.searchsorted(ends, self.cache_mb * 2**20, side="right"))
        self._ends = ends[: self._kept]
        total = int(ends[self._kept - 1]) if self._kept else 0
        self._memory = np.frombuffer(mmap.mmap(-1, max(total + self._kept, 1)), np.uint8)
        self._filled = self._memory[total:]

    def _slot(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        (height, width), mask_size = self.image_sizes[i].tolist(), self.mask_sizes[i].tolist()
        start, end = int(self._ends[i - 1]) if i else 0, int(self._ends[i])
        middle = start + height * width * 3
        return self._memory[start:middle].reshape(height, width, 3), self._memory[middle:end].reshape(mask_size)

    def _read(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        image, mask = self.source.read(self.split, i)
        size = image.shape[:2]
        image = resize_image(image, self.resize)
        if image.shape[:2] != size and not self.keep_mask_size:
            mask = cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        return image, mask


def resize_image(image: np.ndarray, shorter_side: int | None) -> np.ndarray:
    """Returns an image uint8 (h, w, 3) with its shorter side brought to a length in pixels; none leaves its size.

    A very narrow image keeps a shorter side below that, see `NARROWEST`.
    """
    height, width = _resized(np.array([image.shape[:2]]), shorter_side)[0].tolist()
    if (height, width) == image.shape[:2]:
        return image
    shrinks = height < image.shape[0]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _resized(sizes: np.ndarray, shorter_side: int | None) -> np.ndarray:
    """Sizes (n, 2) brought to one length of the shorter side, the proportions kept to a pixel.

    An image over `NARROWEST` times as long as wide is enlarged less, or not at all: its size would explode.
    """
    if shorter_side is None:
        return sizes
    own, longer = sizes.min(1, keepdims=True), sizes.max(1, keepdims=True)
    reference = np.maximum(own, np.minimum(longer / NARROWEST, shorter_side))  # the length that becomes `shorter_side`
    return np.maximum(np.rint(sizes * (shorter_side / reference)).astype(np.int64), 1)
