"""Raw label values and colours to class indices, by one explicit table."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from seglab.errors import InputError
from seglab.numeric import is_whole

Raw = int | tuple[int, int, int]


class LabelTable:
    """An explicit map from raw label values, or RGB colours, to class indices."""

    def __init__(self, mapping: Mapping[Raw, int], class_names: Sequence[str], ignore_index: int) -> None:
        """Keep the map.

        Args:
            mapping: each raw value (0..65535), or (r, g, b) colour (0..255), with its class index or `ignore_index`.
            class_names: names in the order of the class indices.
            ignore_index: index of pixels that are never scored, outside the classes and below 256.

        Raises:
            InputError: if the table contradicts itself.
        """
        self.mapping = dict(mapping)
        self.class_names = tuple(class_names)
        self.ignore_index = ignore_index
        self.is_colour = any(isinstance(raw, tuple) for raw in self.mapping)
        if faults := list(self._faults()):
            raise InputError("\n".join(faults))

    @property
    def parameters(self) -> tuple:
        """What the table was made of: mapping, names of the classes and ignore_index."""
        return self.mapping, self.class_names, self.ignore_index

    def __reduce__(self) -> tuple:
        """Pickle without the look-up array, which is 16 MB for colours."""
        return LabelTable, self.parameters

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """Class indices of a raw label image.

        Args:
            raw: uint8 or uint16 (h, w), or uint8 (h, w, 3) for a table of colours.

        Returns:
            uint8 (h, w) of class indices and `ignore_index`.

        Raises:
            InputError: if a value is not in the table; the message names each value and its number of pixels.
        """
        if (raw.ndim == 3) != self.is_colour:
            if self.is_colour:
                raise InputError(
                    f"the label image holds single values, {raw[0, 0]} for one (of a palette its indices), and "
                    "data.classes gives colours: give values, such as 'data.classes={background: 0, cat: 1}'"
                )
            raise InputError(
                f"the label image holds colours, {raw[0, 0].tolist()} for one, and data.classes gives single values: "
                "give colours, such as 'data.classes={background: [0, 0, 0], cat: [64, 0, 0]}'"
            )
        codes = _pack(raw) if self.is_colour else raw
        mask = self._lut.take(codes, mode="clip")
        unknown = mask == self._unknown
        if unknown.any():
            raise InputError(self._unknown_message(codes[unknown]))
        return mask

    @cached_property
    def _unknown(self) -> int:
        return next(value for value in range(256) if value not in {*self.mapping.values(), self.ignore_index})

    @cached_property
    def _lut(self) -> np.ndarray:
        lut = np.full(1 << (24 if self.is_colour else 16), self._unknown, np.uint8)
        for raw, index in self.mapping.items():
            lut[_pack(np.array(raw)) if self.is_colour else raw] = index
        return lut

    def _faults(self) -> list[str]:
        count = len(self.class_names)
        names = sorted({name for name in self.class_names if self.class_names.count(name) > 1})
        faults = [f"data.classes: {name!r} stands twice; give each class its own name" for name in names]
        if not 1 <= count <= 254:
            faults.append(f"data.classes has {count} classes; give 1 to 254")
        if not count <= self.ignore_index <= 255:
            faults.append(
                f"data.ignore_index={self.ignore_index}: give a value from {count}, the number of classes, to 255"
            )
        for raw, index in self.mapping.items():
            key = f"data.classes.{self.class_names[index]}" if 0 <= index < count else "data.ignore"
            value = list(raw) if isinstance(raw, tuple) else raw
            if isinstance(raw, tuple) != self.is_colour:
                faults.append(
                    f"{key}: the value {value} is no colour, as others are: give [r, g, b]"
                    + (", in a list of lists such as [[224, 224, 192]]" if key == "data.ignore" else "")
                )
            elif not _is_raw(raw):
                faults.append(f"{key}: {value} is no label value: give 0 to 65535, or [r, g, b] from 0 to 255 each")
            if not (0 <= index < count or index == self.ignore_index):
                faults.append(
                    f"label value {value} maps to {index}, which is neither a class index nor the ignore_index"
                )
        return faults

    def _unknown_message(self, codes: np.ndarray) -> str:
        values, counts = np.unique(codes, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        shown = [f"{self._unpack(values[i])} ({counts[i]} pixels)" for i in order[:8]]
        more = f" and {len(order) - 8} more values" if len(order) > 8 else ""
        return (
            f"label values outside the label table: {', '.join(shown)}{more}; "
            "correct the label image, or give these values a class (data.classes) or leave them out (data.ignore)"
        )

    def _unpack(self, code: int) -> str:
        code = int(code)
        return str([code >> 16, code >> 8 & 255, code & 255] if self.is_colour else code)


def colormap(num_colors: int = 256) -> np.ndarray:
    """PASCAL VOC's colour map, in which the bits of an index are spread over red, green and blue.

    Returns:
        uint8 (num_colors, 3) RGB, for at most 256 colours.
    """
    index = np.arange(num_colors)
    colors = np.zeros((num_colors, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((index >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colors


def _is_raw(raw: Raw) -> bool:
    if isinstance(raw, tuple):
        return len(raw) == 3 and all(is_whole(part) and 0 <= part <= 255 for part in raw)
    return is_whole(raw) and 0 <= raw <= 65535


def _pack(colours: np.ndarray) -> np.ndarray:
    red, green, blue = (colours[..., channel].astype(np.uint32) for channel in range(3))
    return red << 16 | green << 8 | blue
