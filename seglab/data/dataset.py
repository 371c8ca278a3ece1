"""Samples: windows of training images, and whole or centrally cropped images to evaluate on."""

from typing import Any

import cv2
import numpy as np
import torch

from seglab.data import crops
from seglab.data.reader import Reader, resize_image
from seglab.data.train_samples import TrainSamples

PROTOCOLS = ("full", "center_crop")
Sample = dict[str, Any]


class TrainDataset(torch.utils.data.Dataset):
    """Cropped and augmented windows, each drawn from (seed, epoch, index) and from nothing else.

    So a sample is the same in any worker, and after a restart.
    """

    def __init__(
        self, reader: Reader, samples: TrainSamples, ignore_index: int = 255, epochs: int | None = None
    ) -> None:
        """Take the parts.

        Args:
            reader: the training images.
            samples: how samples are drawn from them.
            ignore_index: label of pixels outside the image.
            epochs: of the whole training, over which crops grow; None where they are whole in each.
        """
        self.reader, self.samples, self.ignore_index, self.epochs = reader, samples, ignore_index, epochs
        self.windows = crops.windows_per_image(samples.crop)

    def __len__(self) -> int:
        return len(self.reader) * self.windows

    def __getitem__(self, key: tuple[int, int] | tuple[int, int, int]) -> Sample:
        """Sample `index` of an epoch.

        Args:
            key: (epoch, index), or (epoch, index, side of the window in pixels). Index plus a multiple of the length is
                the same image, drawn anew.

        Returns:
            "image" uint8 (3, h, w), "mask" int64 (h, w) and "name".
        """
        epoch, index, size = (*key, self.samples.crop_size)[:3]
        rng = np.random.default_rng((self.samples.seed, epoch, index))
        index %= len(self)
        progressive, pixels = self.samples.progressive_resize, size
        if progressive is not None and self.epochs is not None:
            pixels = progressive.side(size, epoch, self.epochs)
        image, mask = self._window(index, size, pixels, rng)
        mix = self.samples.mix
        if mix is not None and rng.random() < mix.p:
            partner = self._window(int(rng.integers(len(self))), size, pixels, rng)
            image, mask = mix((image, mask), partner, rng)
        return _sample(image, mask, self.reader.names[index // self.windows])

    def _window(self, index: int, size: int, pixels: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        samples = self.samples
        i, k = divmod(index, self.windows)
        image, mask = self.reader[i]
        # what the scale makes `size` pixels of: only the window is resized, never the image
        side = size if samples.scale is None else max(round(size / rng.uniform(*samples.scale)), 1)
        top, left = crops.window(samples.crop, k, *mask.shape, side, rng)
        image, mask = crops.cut(image, mask, top, left, side, self.ignore_index)
        if side != pixels:
            image = resize_image(image, pixels)
            mask = cv2.resize(mask, (pixels, pixels), interpolation=cv2.INTER_NEAREST_EXACT)
        if samples.augment is not None:
            image, mask = samples.augment(image, mask, seed=int(rng.integers(2**32)))
        return image, mask


class EvalDataset(torch.utils.data.Dataset):
    """Images with masks at the label's own size, so that all input sizes are scored on the same pixels."""

    def __init__(self, reader: Reader, protocol: str = "full", crop_size: int = 256) -> None:
        """Take the parts.

        Args:
            reader: the images, with `keep_mask_size`.
            protocol: "full" for whole images, "center_crop" for their central windows.
            crop_size: side of a central window in pixels of the resized image, clipped to it.
        """
        self.reader, self.protocol, self.crop_size = reader, protocol, crop_size

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, i: int) -> Sample:
        """Image `i`.

        Returns:
            "image" uint8 (3, h, w); "mask" int64 (height, width); "name"; "window" = (top, left, height, width), the
            part of the label that image and mask cover, and "size", height and width of the whole label, both in the
            label's own pixels.
        """
        image, mask = self.reader[i]
        size, part = mask.shape, (0, 0, *mask.shape)
        if self.protocol == "center_crop":
            (rows, own_rows), (cols, own_cols) = map(self._center, image.shape[:2], size)
            image, mask = image[rows, cols], mask[own_rows, own_cols]
            part = (own_rows.start, own_cols.start, *mask.shape)
        return _sample(image, mask, self.reader.names[i]) | {"window": part, "size": size}

    def _center(self, length: int, own: int) -> tuple[slice, slice]:
        """The middle of a side, in pixels of the image and in those of its label."""
        start = max(length - self.crop_size, 0) // 2
        stop = min(start + self.crop_size, length)
        own_start = min(round(start * own / length), own - 1)
        return slice(start, stop), slice(own_start, max(round(stop * own / length), own_start + 1))


def _sample(image: np.ndarray, mask: np.ndarray, name: str) -> Sample:
    # (h, w, 3) -> (3, h, w); the copy also frees the sample from the reader's memory
    pixels = np.array(image.transpose(2, 0, 1), order="C")
    return {"image": torch.from_numpy(pixels), "mask": torch.from_numpy(mask.astype(np.int64)), "name": str(name)}
