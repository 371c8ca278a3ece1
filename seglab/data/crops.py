"""Square windows of an image: a random one, the central one, or the four corners and the centre."""

import cv2
import numpy as np

MODES = ("random", "center", "five")


def windows_per_image(mode: str) -> int:
    """Number of training samples that one image gives in an epoch."""
    return 5 if mode == "five" else 1


def window(mode: str, k: int, height: int, width: int, size: int, rng: np.random.Generator) -> tuple[int, int]:
    """Top and left of window `k` of an image.

    Where the image is smaller than the window, the window reaches over its border: top or left is then negative, or the
    window ends below or right of the image.

    Args:
        mode: one of `MODES`.
        k: 0 to 3 are the corners of "five" in reading order, 4 its centre; the other modes have one window.
        height: height of the image in pixels.
        width: width of the image in pixels.
        size: side of the window in pixels.
        rng: places the window of "random".
    """
    rows, cols = height - size, width - size  # the last positions, negative where the image is smaller
    if mode == "random":
        return between(rows, rng), between(cols, rng)
    if mode == "five" and k < 4:
        return rows * (k // 2), cols * (k % 2)
    return rows // 2, cols // 2


def cut(
    image: np.ndarray, mask: np.ndarray, top: int, left: int, size: int, ignore_index: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a window out of an image and its mask.

    Outside the image, the picture is its reflection (repeated where the image is tiny) and the mask is `ignore_index`.

    Args:
        image: uint8 (h, w, 3).
        mask: uint8 (h, w).
        top: row of the window's first pixel, may be negative.
        left: column of the window's first pixel, may be negative.
        size: side of the window in pixels.
        ignore_index: label of pixels outside the image.

    Returns:
        The window of the image, uint8 (size, size, 3), and of the mask, uint8 (size, size).
    """
    height, width = mask.shape
    rows, cols = slice(max(top, 0), top + size), slice(max(left, 0), left + size)
    image, mask = image[rows, cols], mask[rows, cols]
    border = (max(-top, 0), max(top + size - height, 0), max(-left, 0), max(left + size - width, 0))
    if any(border):
        image = cv2.copyMakeBorder(image, *border, cv2.BORDER_REFLECT_101)
        mask = cv2.copyMakeBorder(mask, *border, cv2.BORDER_CONSTANT, value=ignore_index)
    return image, mask


def between(last: int, rng: np.random.Generator) -> int:
    """Returns a random whole number between 0 and `last`, both included, which may be negative."""
    return int(rng.integers(min(last, 0), max(last, 0) + 1))
