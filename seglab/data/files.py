"""Image and label files to arrays."""

import os
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from seglab.errors import InputError

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .avif .tif .tiff .bmp .gif .jp2 .tga .ppm .pgm .pbm .pnm".split()
)
MAX_PIXELS = 10**9
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own limit, 179 megapixels, is meant for servers
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # such a file is refused in `_decode`

_REMEDY = "replace the file or leave it out"
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # what makes each EXIF orientation upright


def read_image(path: str | Path, content: bytes | None = None, remedy: str = _REMEDY) -> np.ndarray:
    """Decode a photograph; its EXIF orientation is applied.

    Args:
        path: The file, or what to call it where its content is given.
        content: The file's bytes; without them it is read.
        remedy: What to do about a file that cannot be read.

    Returns:
        uint8 (h, w, 3) RGB. An alpha channel is dropped, 16-bit grey is scaled to 8 bits.

    Raises:
        InputError: if the file is missing, empty, truncated, not an image, or of more than `MAX_PIXELS`.
    """
    picture, _ = _decode(path, content, remedy)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PPM"):  # PGM of 16 bits
        grey = _sixteen_bits(picture, path, "save it with 8 bits a channel")
        return np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if picture.mode in ("I", "F"):
        raise InputError(f"{path}: has {picture.mode} pixels of 32 bits; save it with 8 bits a channel")
    try:
        return np.array(picture.convert("RGB"))
    except MemoryError:
        raise InputError(f"{path}: does not fit into the memory; {remedy}") from None


def read_mask(path: str | Path, remedy: str = _REMEDY) -> np.ndarray:
    """Decode a label image with its stored values; its EXIF orientation is applied.

    Args:
        path: The file.
        remedy: What to do about a file that cannot be read.

    Returns:
        uint8 or uint16 (h, w) for palette indices and grey values (0 and 1 for one bit), uint8 (h, w, 3) for colours.

    Raises:
        InputError: if the file is missing, empty, truncated, not an image, or in a mode that cannot hold labels.
    """
    picture, stored = _decode(path, None, remedy)
    if ";16" in stored.rawmode and picture.mode in ("LA", "RGB", "RGBA"):
        raise InputError(f"{path}: has 16 bits a channel; save it with 8, or as a grey PNG of 16 without alpha channel")
    if picture.format == "TIFF" and stored.rawmode.rstrip("R").endswith("I"):
        raise InputError(f"{path}: is a TIFF in which 0 is white; save it as a PNG, or as a TIFF in which 0 is black")
    if picture.mode in ("RGBA", "LA"):
        if picture.getchannel("A").getextrema()[0] < 255:
            raise InputError(
                f"{path}: has transparent pixels, whose label is unknown; save it without an alpha channel"
            )
        picture = picture.convert(picture.mode[:-1])
    if picture.mode in ("P", "L", "RGB"):
        return stored.values(np.array(picture), 255)
    if picture.mode == "1":
        return np.array(picture).astype(np.uint8)
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        return stored.values(_sixteen_bits(picture, path, "labels are whole numbers 0 to 65535"), 65535)
    raise InputError(f"{path}: mode {picture.mode} cannot hold labels; save it as a palette, grey or RGB PNG")


class _Stored(NamedTuple):
    """How a file holds its pixels: Pillow's name for it, and the largest value, which it stretches to its own."""

    rawmode: str
    largest: int | None

    @classmethod
    def of(cls, picture: Image.Image) -> "_Stored":
        args = picture.tile[0].args if picture.tile else None
        rawmode, *more = args if isinstance(args, tuple) and args else (args,)
        rawmode = rawmode if isinstance(rawmode, str) else ""
        if picture.format == "PPM" and more:
            return cls(rawmode, more[0])
        return cls(rawmode, {"L;2": 3, "L;4": 15}.get(rawmode.rstrip("R")))

    def values(self, pixels: np.ndarray, largest: int) -> np.ndarray:
        """The values in the file of pixels of 0 to `largest`."""
        return pixels if self.largest is None else np.rint(pixels * (self.largest / largest)).astype(pixels.dtype)


def is_turned(path: Path) -> bool:
    """Whether the EXIF of a photograph that can be read turns it by a quarter, so that its sides are swapped."""
    with Image.open(path) as picture:
        return picture.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)


def files_below(folder: Path, faults: list[str]) -> Iterator[Path]:
    """Yields the places of the files below a folder, links followed, but for hidden ones; in order of their names.

    Args:
        folder: where to begin.
        faults: gets a line for each folder that cannot be read.
    """

    def note(error: OSError) -> None:
        faults.append(f"{error.filename}: cannot be read ({error.strerror}); correct the permissions of the folder")

    for parent, folders, names in os.walk(folder, onerror=note, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(parent).relative_to(folder)
        yield from (below / name for name in sorted(names) if not name.startswith("."))


def _decode(path: str | Path, content: bytes | None, remedy: str) -> tuple[Image.Image, _Stored]:
    """The decoded, upright picture, and how the file holds it."""
    try:
        # An open file, since of a named one Pillow maps the pixels, and takes turned ones of a grey TIFF for upright.
        with Path(path).open("rb") if content is None else BytesIO(content) as file, Image.open(file) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            stored = _Stored.of(picture)  # which Pillow forgets as it loads
            picture.load()  # decodes all of it: only so is a truncated file noticed
            # Not by `ImageOps.exif_transpose`, which writes the tags anew, too, and fails where another is damaged.
            turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation))
            turned = picture if turn is None else picture.transpose(turn)
            turned.format = picture.format
            return turned, stored
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; restore it or leave it out") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; an image file belongs here") from None
    except PermissionError:
        raise InputError(f"{path}: may not be read; correct the permissions of the file") from None
    except Exception as error:  # of many kinds: each format is decoded by another library
        raise InputError(f"{path}: {_reason(path, content, error)}; {remedy}") from None


def _reason(path: str | Path, content: bytes | None, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"has more than {MAX_PIXELS // 10**6} megapixels, the most that is read"
    if isinstance(error, Image.UnidentifiedImageError):
        is_empty = not (Path(path).stat().st_size if content is None else content)
        return "is empty (zero bytes)" if is_empty else "is not an image that can be read"
    if isinstance(error, MemoryError):
        return "does not fit into the memory"
    return f"is truncated or damaged ({' '.join(str(error).split()) or type(error).__name__})"


def _sixteen_bits(picture: Image.Image, path: str | Path, remedy: str) -> np.ndarray:
    """The values of a picture of mode I or I;16, uint16 (h, w)."""
    raw = np.array(picture)
    if raw.min() < 0 or raw.max() > 65535:
        raise InputError(f"{path}: holds values from {raw.min()} to {raw.max()}; {remedy}")
    return raw.astype(np.uint16)
