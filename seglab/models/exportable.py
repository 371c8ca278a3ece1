"""A network from a photograph to its mask, as `torch.export` can trace it for every size and batch."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.models.opencv_resize import resize_shorter_side
from seglab.models.segmenter import Segmenter

OUTPUTS = ("mask", "logits", "probabilities")


class Exportable(nn.Module):
    """A `Segmenter` with all that comes before and after it: resizing, padding, resizing back, argmax.

    No step asks for a size, whose answer would be that of the traced example: sizes only enter into computations. An
    image that is padded already goes through the `Segmenter` as it is.

    Args:
        model: The network, in evaluation mode.
        resize: Length in pixels that the image's shorter side is brought to before; none leaves its size.
        outputs: What is returned, some of `OUTPUTS`.
    """

    def __init__(self, model: Segmenter, resize: int | None = None, outputs: Sequence[str] = OUTPUTS[:1]) -> None:
        super().__init__()
        self.model, self.resize, self.outputs = model, resize, tuple(outputs)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Maps images uint8 (b, 3, h, w), RGB, of any size to each output by its name.

        `mask` is uint8 (b, h, w), class indices; `logits` and `probabilities` are float32 (b, num_classes, h, w).
        """
        resized = image if self.resize is None else resize_shorter_side(image, self.resize)
        height, width = resized.shape[-2:]
        logits = self.model.segment(pad_to_stride(resized, self.model.stride))[..., :height, :width]
        if self.model.object_classifier is not None:
            logits = self.model.object_classifier(resized, logits)
        if self.resize is not None:
            logits = F.interpolate(logits, image.shape[-2:], mode="bilinear")
        found = {"mask": logits.argmax(1).to(torch.uint8), "logits": logits, "probabilities": logits.softmax(1)}
        return {name: found[name] for name in self.outputs}


def pad_to_stride(image: Tensor, stride: int) -> Tensor:
    """Pads images (b, c, h, w) at the right and the bottom as `Segmenter.prepare` does, and never asks for a size."""
    sides = image.shape[-2:]
    padded = [(side + stride - 1) // stride * stride for side in sides]  # ONNX rounds -1/2 up
    mirrors = torch.scalar_tensor(1, dtype=torch.int64)  # or else the last row and column are repeated
    for side, length in zip(sides, padded, strict=True):
        mirrors = mirrors * (torch.scalar_tensor(2 * side, dtype=torch.int64) > length)
    for dim, side, length in zip((-2, -1), sides, padded, strict=True):
        beyond = torch.arange(length, device=image.device) - (side - 1)
        image = image.index_select(dim, side - 1 + beyond.clamp_max(0) - beyond.clamp_min(0) * mirrors)
    return image
