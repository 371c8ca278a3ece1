"""The whole network: from a uint8 image to the logits of every pixel."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode


class Segmenter(nn.Module):
    """An encoder, a decoder and a 1x1 head, for images of any size from 1x1.

    It scales, normalises and pads the image itself, so that training, evaluation and export cannot disagree.

    Args:
        encoder: Maps an image to features, with `channels` and `strides`; its first stride is 1.
        decoder: Maps the features to full resolution, with `out_channels`.
        num_classes: Width of the head.
        dropout: Probability of a zero in the deepest feature and in the decoder's output while training
            (Srivastava et al. 2014, JMLR 15).
        mean: Mean of each image channel, in [0, 1].
        std: Standard deviation of each image channel, in units of [0, 1].

    Raises:
        ValueError: If the encoder's first feature is not at full resolution, or a standard deviation is not positive.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        num_classes: int,
        dropout: float = 0.0,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        if encoder.strides[0] != 1:
            raise ValueError(f"the encoder's first feature must have stride 1, got strides {list(encoder.strides)}")
        if min(std) <= 0:
            raise ValueError(f"standard deviations must be positive, got {list(std)}")
        self.encoder = encoder
        self.decoder = decoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(decoder.out_channels, num_classes, kernel_size=1)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    @property
    def stride(self) -> int:
        """Side in pixels of the square that an image is padded to a multiple of."""
        return max(self.encoder.strides)

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (b, 3, h, w), uint8 or float in 0..255, to float32 logits (b, num_classes, h, w)."""
        height, width = image.shape[-2:]
        *skips, deepest = self.encoder(self.prepare(image))
        x = self.dropout(self.decoder([*skips, self.dropout(deepest)]))
        return self.head(x)[..., :height, :width].float()

    def prepare(self, image: Tensor) -> Tensor:
        """Normalises images (b, 3, h, w) in 0..255 and pads them at the right and the bottom to the stride.

        The padding mirrors the image; an image smaller than its padding repeats its last row and column instead.
        """
        x = (image.to(self.mean.dtype) / 255 - self.mean) / self.std
        height, width = image.shape[-2:]
        bottom, right = -height % self.stride, -width % self.stride
        mode = "reflect" if bottom < height and right < width else "replicate"
        return F.pad(x, (0, right, 0, bottom), mode=mode)


def forward_flops(model: nn.Module, size: int) -> int:
    """Returns the floating-point operations of one size x size image, two for each multiply-add; computes nothing."""
    shadow = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(1, 3, size, size, dtype=torch.uint8, device="meta"))
    return counter.get_total_flops()
