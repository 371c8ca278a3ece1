"""Image and label files to arrays."""

import struct
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from seglab.errors import InputError

_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_PNG_GREY_SCALES = {"L;2": 85, "L;4": 17}  # Pillow stretches grey PNGs of 2 and 4 bits to 0..255


def read_image(path: str | Path, content: bytes | None = None) -> np.ndarray:
    """Decode a photograph; its EXIF orientation is applied.

    Args:
        path: The file, or what to call it where its content is given.
        content: The file's bytes; without them it is read.

    Returns:
        uint8 (h, w, 3) RGB. An alpha channel is dropped, 16-bit grey is scaled to 8 bits.

    Raises:
        InputError: if the file is missing, empty, truncated or not an image.
    """
    picture, _ = _decode(path, content)
    if picture.mode.startswith("I;16"):
        grey = (np.asarray(picture) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode in ("I", "F"):
        raise InputError(f"{path}: has {picture.mode} pixels of 32 bits; save it with 8 bits a channel")
    return np.array(picture.convert("RGB"))


def read_mask(path: str | Path) -> np.ndarray:
    """Decode a label image with its stored values; its EXIF orientation is applied.

    Returns:
        uint8 or uint16 (h, w) for palette indices and grey values (0 and 1 for one bit), uint8 (h, w, 3) for colours.

    Raises:
        InputError: if the file is missing, empty, truncated, not an image, or in a mode that cannot hold labels.
    """
    picture, scale = _decode(path)
    if picture.mode in ("RGBA", "LA"):
        if picture.getchannel("A").getextrema()[0] < 255:
            raise InputError(
                f"{path}: has transparent pixels, whose label is unknown; save it without an alpha channel"
            )
        picture = picture.convert(picture.mode[:-1])
    if picture.mode in ("P", "L", "RGB"):
        raw = np.array(picture)
        return raw // scale if scale > 1 else raw
    if picture.mode == "1":
        return np.array(picture).astype(np.uint8)
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        raw = np.array(picture)
        if raw.min() < 0 or raw.max() > 65535:
            raise InputError(
                f"{path}: holds values from {raw.min()} to {raw.max()}; labels are whole numbers 0 to 65535"
            )
        return raw.astype(np.uint16)
    raise InputError(f"{path}: mode {picture.mode} cannot hold labels; save it as a palette, grey or RGB PNG")


def _decode(path: str | Path, content: bytes | None = None) -> tuple[Image.Image, int]:
    """The decoded, upright picture, and the factor by which Pillow has stretched its grey values."""
    try:
        with Image.open(path if content is None else BytesIO(content)) as picture:
            scale = _PNG_GREY_SCALES.get(picture.tile[0].args, 1) if picture.format == "PNG" and picture.tile else 1
            picture.load()  # decodes all of it: only so is a truncated file noticed
            ImageOps.exif_transpose(picture, in_place=True)
            return picture, scale
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; restore it or take its name off the list") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; an image file belongs here") from None
    except PermissionError:
        raise InputError(f"{path}: may not be read; correct the permissions of the file") from None
    except _UNREADABLE as error:
        if content is not None:
            raise InputError(f"{path}: {_reason(len(content), error)}; give another file") from None
        reason = _reason(Path(path).stat().st_size, error)
        raise InputError(f"{path}: {reason}; replace the file or remove it with its pair") from None


def _reason(size: int, error: Exception) -> str:
    if size == 0:
        return "is empty (zero bytes)"
    if isinstance(error, Image.UnidentifiedImageError):
        return "is not an image that can be read"
    return f"is truncated or damaged ({error})"
