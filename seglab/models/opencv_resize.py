"""How OpenCV resizes a photograph, as tensors: what an exported network does before it, for any size.

Equal to `cv2.resize`: to the bit where it enlarges, and up to one level of a few values where it shrinks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_NARROWEST = 16  # as in `seglab.data.reader`: a test holds them together
_UNIT = 2048  # OpenCV's weights of a bilinear resize are whole multiples of 1 / 2048


def resize_shorter_side(image: Tensor, length: int) -> Tensor:
    """Returns images uint8 (b, 3, h, w) with their shorter side brought to a length in pixels, as training reads them.

    They shrink by `INTER_AREA` and grow by `INTER_LINEAR`; both are computed, since the size is not known to a graph.
    Very narrow images grow less.
    """
    sides = image.shape[-2:]
    shorter, longer = torch.sym_min(*sides), torch.sym_max(*sides)
    # `reference` / `_NARROWEST` becomes `length`: the shorter side, but of a very narrow image more.
    reference = torch.sym_max(_NARROWEST * shorter, torch.sym_min(longer, _NARROWEST * length))
    # The nearest whole number to side * length * _NARROWEST / reference, of two as near ones the even one.
    lengths = [side * length * _NARROWEST for side in sides]
    size = [(2 * one + reference - 1 + one // reference % 2) // (2 * reference) for one in lengths]
    shrinks = torch.scalar_tensor(shorter) > length
    return torch.where(shrinks, shrink(image, size), enlarge(image, size))


def shrink(image: Tensor, size: Sequence[int]) -> Tensor:
    """Returns images uint8 (b, 3, h, w) at a size, each pixel the mean of the area that it covers: `INTER_AREA`."""
    rows, columns = (_shares(length, new) for length, new in zip(image.shape[-2:], size, strict=True))
    means = rows @ (image.float() @ columns.T)
    # OpenCV rounds a half to the even number, and only where it halves both sides, up.
    halves = [torch.scalar_tensor(old) == 2 * new for old, new in zip(image.shape[-2:], size, strict=True)]
    return torch.where(halves[0] & halves[1], (means + 0.5).floor(), means.round()).to(torch.uint8)


def _shares(length: int, new: int) -> Tensor:
    """Returns which share (new, length) of each new pixel lies in each old one."""
    # In whole numbers, an old pixel being `new` long and a new one `length`: a half stays one, whatever computes it.
    covered, old = torch.arange(new)[:, None] * length, torch.arange(length) * new
    overlap = torch.minimum(old + new, covered + length) - torch.maximum(old, covered)
    return (overlap.clamp_min(0).double() / length).float()


def enlarge(image: Tensor, size: Sequence[int]) -> Tensor:
    """Returns images uint8 (b, 3, h, w) at a size, bilinearly in OpenCV's whole numbers: `INTER_LINEAR`."""
    (top, bottom, *vertical), (left, right, *horizontal) = (
        _neighbours(length, new) for length, new in zip(image.shape[-2:], size, strict=True)
    )
    image = image.to(torch.int32)
    across = image[..., left] * horizontal[0] + image[..., right] * horizontal[1]
    parts = zip((top, bottom), vertical, strict=True)
    down = sum(across[..., row, :] // 16 * weight[:, None] // 2**16 for row, weight in parts)
    return ((down + 2) // 4).to(torch.uint8)


def _neighbours(length: int, new: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the two old pixels (new,) that each new one lies between, and their weights in `_UNIT`."""
    place = (((2 * torch.arange(new) + 1) * length).double() / (2 * new) - 0.5).float()
    first = place.floor()
    second = ((place - first) * _UNIT).round().to(torch.int32)
    ends = first.long().clamp(0, length - 1), (first.long() + 1).clamp(0, length - 1)
    return *ends, _UNIT - second, second
