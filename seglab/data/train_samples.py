"""What a training sample is: which window of an image, how it is changed, and how often its image is drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from seglab.data import crops
from seglab.data.augment import Augmentation
from seglab.data.mix import Mix, scale_fault
from seglab.numeric import is_number, is_whole


@dataclass(frozen=True)
class ProgressiveResize:
    """Training crops that show as much as ever on fewer pixels at first, which is faster, and on all at the end.

    Tan and Le 2021, arXiv:2104.00298 (progressive learning); the three values as of MosaicML Composer's method.

    Attributes:
        initial_scale: what the side of a crop is multiplied by at the start, above 0 to 1.
        delay_fraction: share of the epochs for which it stays so.
        finetune_fraction: share of the epochs, at the end and one at least unless it is 0, with crops of their whole
            side; it grows evenly in between.
    """

    initial_scale: float = 0.5
    delay_fraction: float = 0.5
    finetune_fraction: float = 0.2

    def side(self, whole: int, epoch: int, epochs: int) -> int:
        """Returns the side in pixels of a crop that is `whole` at the end, in one of `epochs` epochs, the first 0.

        It is a multiple of 8 where it is not whole, so that there are few sizes to prepare for.
        """
        last = round(epochs * self.finetune_fraction)
        if self.finetune_fraction and epoch >= epochs - max(last, 1):
            return whole
        first = round(epochs * self.delay_fraction)
        grown = max(epoch - first, 0) / max(epochs - last - first, 1)
        scale = self.initial_scale + (1 - self.initial_scale) * grown
        return min(max(round(whole * scale / 8), 1) * 8, whole)

    def fault(self) -> str | None:
        """Returns what is wrong with the values, if anything."""
        for name, value in vars(self).items():
            if not (is_number(value) and 0 <= value <= 1):
                return f"data.progressive_resize.{name}={value}: give a share from 0 to 1"
        if self.initial_scale == 0:
            return "data.progressive_resize.initial_scale=0: give a share above 0"
        if self.delay_fraction + self.finetune_fraction > 1:
            return "data.progressive_resize: delay_fraction and finetune_fraction together are over 1"
        return None


@dataclass(frozen=True)
class TrainSamples:
    """How training samples are drawn from images.

    Attributes:
        crop: windows of an image, one of `crops.MODES`; "five" makes five samples of each image.
        crop_size: side of a window in pixels; smaller images are padded.
        crop_sizes: sides of windows, one drawn for each batch; None for `crop_size` in all.
        progressive_resize: makes crops of fewer pixels at first; None for none.
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
    progressive_resize: ProgressiveResize | None = None
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
        if self.progressive_resize is not None and (fault := self.progressive_resize.fault()):
            yield fault
        if self.scale is not None and (fault := scale_fault("data.scale", self.scale)):
            yield fault
        if self.repeat_threshold is not None and not (
            is_number(self.repeat_threshold) and 0 < self.repeat_threshold <= 1
        ):
            yield f"data.repeat_threshold={self.repeat_threshold}: give a share of the images, above 0 to 1"
        if not (is_whole(self.seed) and 0 <= self.seed < 2**32):
            yield f"seed={self.seed}: give a whole number from 0 to {2**32 - 1}"
