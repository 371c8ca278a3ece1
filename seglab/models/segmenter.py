"""The whole network: from a uint8 image to the logits of every pixel."""

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode


class Segmenter(nn.Module):
    """An encoder, a decoder and a 1x1 head, for images of any size from 1x1.

    It scales, normalises and pads the image itself, so that training, evaluation and export cannot disagree. Where the
    decoder's output is smaller than the padded image, the logits are enlarged bilinearly.

    Deep supervision (Lee et al. 2014, arXiv:1409.5185; with one weight of 0.4 at stride 16 that of PSPNet, Zhao et al.
    2016, arXiv:1612.01105): features of the encoder get 1x1 heads of their own, which only run while training.

    Args:
        encoder: Maps an image to features, with `channels` and `strides`; its first stride is 1.
        decoder: Maps the features to one of any resolution, with `out_channels`.
        num_classes: Width of the head.
        dropout: Probability of a zero in the deepest feature and in the decoder's output while training
            (Srivastava et al. 2014, JMLR 15).
        mean: Mean of each image channel, in [0, 1].
        std: Standard deviation of each image channel, in units of [0, 1].
        auxiliary_weights: For each auxiliary head the stride of its feature, of several the deepest, and the weight of
            its loss.
        object_classifier: Maps an image and its logits to better logits, see `FisherClassifier`; takes no part while
            training.

    Raises:
        ValueError: If the encoder's first feature is not at full resolution, a standard deviation or an auxiliary
            weight is not positive, or the encoder has no feature of an auxiliary head's stride.

    Attributes:
        auxiliary_weights: Weights of the losses of the auxiliary logits, in their order.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        num_classes: int,
        dropout: float = 0.0,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        auxiliary_weights: Mapping[int, float] | None = None,
        object_classifier: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if encoder.strides[0] != 1:
            raise ValueError(f"the encoder's first feature must have stride 1, got strides {list(encoder.strides)}")
        if not all(0 < value < math.inf for value in std):
            raise ValueError(f"standard deviations must be positive, got {list(std)}")
        self.encoder = encoder
        self.decoder = decoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(decoder.out_channels, num_classes, kernel_size=1)
        self.object_classifier = object_classifier
        auxiliary_weights = auxiliary_weights or {}
        positive = all(0 < weight < math.inf for weight in auxiliary_weights.values())
        if not positive or not set(auxiliary_weights) <= set(encoder.strides):
            raise ValueError(
                f"auxiliary weights must be positive, for strides among {sorted(set(encoder.strides))}, "
                f"got {dict(auxiliary_weights)}"
            )
        self.auxiliary_weights = list(auxiliary_weights.values())
        deepest = {stride: i for i, stride in enumerate(encoder.strides)}
        self.auxiliary_features = [deepest[stride] for stride in auxiliary_weights]
        self.auxiliary_heads = nn.ModuleList(
            nn.Conv2d(encoder.channels[i], num_classes, kernel_size=1) for i in self.auxiliary_features
        )
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    @property
    def stride(self) -> int:
        """Side in pixels of the square that an image is padded to a multiple of."""
        return max(self.encoder.strides)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Maps images (b, 3, h, w), uint8 or float in 0..255, to float32 logits (b, num_classes, h, w).

        While training with auxiliary heads, returns a list of the logits and those of each auxiliary head.
        """
        logits = self.segment(image)
        if self.training or self.object_classifier is None:
            return logits
        return self.object_classifier(image, logits)

    def segment(self, image: Tensor) -> Tensor | list[Tensor]:
        """Does what `forward` does, without the object classifier."""
        x = self.prepare(image)
        padded, size = x.shape[-2:], image.shape[-2:]
        features = self.encoder(x)
        *skips, deepest = features
        x = self.dropout(self.decoder([*skips, self.dropout(deepest)]))
        logits = enlarge_and_crop(self.head(x), padded, size)
        if not (self.training and self.auxiliary_heads):
            return logits
        auxiliary = zip(self.auxiliary_heads, self.auxiliary_features, strict=True)
        return [logits, *(enlarge_and_crop(head(features[i]), padded, size) for head, i in auxiliary)]

    def prepare(self, image: Tensor) -> Tensor:
        """Normalises images (b, 3, h, w) in 0..255 and pads them at the right and the bottom to the stride.

        The padding mirrors the image; an image smaller than its padding repeats its last row and column instead.
        """
        x = (image.to(self.mean.dtype) / 255 - self.mean) / self.std
        height, width = image.shape[-2:]
        bottom, right = -height % self.stride, -width % self.stride
        mode = "reflect" if bottom < height and right < width else "replicate"
        return F.pad(x, (0, right, 0, bottom), mode=mode)


def enlarge_and_crop(logits: Tensor, padded: torch.Size, size: torch.Size) -> Tensor:
    """Brings logits (b, num_classes, h, w) bilinearly to the padded image's size, and crops them to the image's."""
    if logits.shape[-2:] != padded:
        logits = F.interpolate(logits.float(), padded, mode="bilinear")
    return logits[..., : size[0], : size[1]].float()


def idle_parameters(model: nn.Module, size: int = 64) -> list[str]:
    """Returns the names of the parameters that train and get no gradient, such as a layer whose output nobody reads.

    Args:
        model: maps images uint8 (b, 3, h, w) to logits, or to a list of them while training; nothing is computed.
        size: side in pixels of the images that are thought of.
    """
    shadow = copy.deepcopy(model).to("meta").train()
    logits = shadow(torch.empty(2, 3, size, size, dtype=torch.uint8, device="meta"))
    sum(each.sum() for each in (logits if isinstance(logits, list) else [logits])).backward()
    return [name for name, each in shadow.named_parameters() if each.requires_grad and each.grad is None]


def forward_flops(model: nn.Module, size: int) -> int:
    """Returns the floating-point operations of one size x size image, two for each multiply-add; computes nothing."""
    shadow = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(1, 3, size, size, dtype=torch.uint8, device="meta"))
    return counter.get_total_flops()
