"""Random changes of training samples, by albumentations, repeatable for each sample."""

import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import albumentations as A
import cv2
import numpy as np

from seglab.errors import InputError

_KEPT = 251  # a value that no one fills masks with


class Augmentation:
    """A chain of albumentations transforms that never invents a label and draws each sample from its own seed.

    By themselves, albumentations' transforms fill the corners that a rotation uncovers with label 0, and a chain hands
    one seed to all of them, which makes them fire together. Here such corners get `ignore_index` (reflected ones keep
    the reflected labels), and the transforms draw one after the other from one stream. What is filled shows in a second
    mask, of one value, that goes through the chain too: not every transform lets the label be chosen.
    """

    def __init__(self, transforms: Sequence[A.BasicTransform | A.BaseCompose], ignore_index: int) -> None:
        """Take built transforms.

        Args:
            transforms: in the order in which they apply; none leaves samples as they are.
            ignore_index: label of pixels that a transform fills with a constant.
        """
        self.ignore_index = ignore_index
        self.compose = None
        if transforms:
            targets = {"kept": "mask"}
            self.compose = A.Compose(list(transforms), mask_interpolation=cv2.INTER_NEAREST, additional_targets=targets)

    def __call__(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Change one sample; the same seed makes the same change.

        Args:
            image: uint8 (h, w, 3) RGB.
            mask: uint8 (h, w).
            seed: a whole number from 0.

        Returns:
            Image and mask, uint8, of the sizes given.

        Raises:
            InputError: if a transform changes the size or the number type.
        """
        if self.compose is None:
            return image, mask
        self.compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        out = self.compose(image=image, mask=mask, kept=np.full_like(mask, _KEPT))
        for key, before in (("image", image), ("mask", mask)):
            after = out[key]
            if after.shape != before.shape or after.dtype != before.dtype:
                raise InputError(
                    f"augment.transforms: a {before.dtype} {key} of shape {before.shape} became {after.dtype} of shape "
                    f"{after.shape}; leave out the transform that crops, resizes or normalises (data.crop_size and "
                    "data.resize set the size, the model normalises)"
                )
        return out["image"], np.where(out["kept"] == _KEPT, out["mask"], np.uint8(self.ignore_index))


@contextmanager
def refuse_unknown_arguments() -> Iterator[None]:
    """While transforms are built inside, make an argument that albumentations would ignore an error.

    Raises:
        InputError: naming the arguments, which albumentations only warns of.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    faults = {str(warning.message) for warning in caught if "not valid for transform" in str(warning.message)}
    if faults:
        raise InputError("\n".join(f"augment.transforms: {fault}" for fault in sorted(faults)))
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
