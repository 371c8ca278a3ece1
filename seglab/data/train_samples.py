"""What a training sample is: which window of an image, how it is changed, and how often its image is drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from seglab.data import crops
from seglab.data.augment import Augmentation
from seglab.data.mix import Mix, scale_fault


@dataclass(frozen=True)
class TrainSamples:
    """How training samples are drawn from images.

    Attributes:
        crop: windows of an image, one of `crops.MODES`; "five" makes five samples of each image.
        crop_size: side of a window in pixels; smaller images are padded.
        crop_sizes: sides of windows, one drawn for each batch; None for `crop_size` in all.
        scale: least and largest factor by which a window is magnified, uniformly drawn; None for none.
        augment: changes each window; None for none.
        mix: pastes parts of another sample, whose window is drawn and changed like the first; None for none.
        repeat_threshold: samples of classes that a smaller share of the samples has are drawn more often, see
            `repeat_factors`; None draws each once an epoch.
        seed: of the order, the windows and the changes.
    """

    crop: str = "random"
    crop_size: int = 256
    crop_sizes: Sequence[int] | None = None
    scale: Sequence[float] | None = None
    augment: Augmentation | None = None
    mix: Mix | None = None
    repeat_threshold: float | None = None
    seed: int = 0

    def faults(self) -> Iterator[str]:
        """Yields a line for each value that makes no sense."""
        if self.crop not in crops.MODES:
            yield f"data.crop={self.crop}: choose one of {', '.join(crops.MODES)}"
        if not (is_whole(self.crop_size) and self.crop_size >= 1):
            yield f"data.crop_size={self.crop_size}: give a whole number of at least 1"
        if self.crop_sizes is not None and not (
            isinstance(self.crop_sizes, Sequence)
            and self.crop_sizes
            and all(is_whole(size) and size >= 1 for size in self.crop_sizes)
        ):
            yield f"data.crop_sizes={self.crop_sizes}: give sides in pixels, as [192, 256, 320]"
        if self.scale is not None and (fault := scale_fault("data.scale", self.scale)):
            yield fault
        if self.repeat_threshold is not None and not (
            isinstance(self.repeat_threshold, int | float) and 0 < self.repeat_threshold <= 1
        ):
            yield f"data.repeat_threshold={self.repeat_threshold}: give a share of the images, above 0 to 1"
        if not (is_whole(self.seed) and 0 <= self.seed < 2**32):
            yield f"seed={self.seed}: give a whole number from 0 to {2**32 - 1}"


def is_whole(value: Any) -> bool:
    """Returns whether a value is a whole number, and not True or False."""
    return isinstance(value, int) and not isinstance(value, bool)
