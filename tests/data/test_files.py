import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, features

from seglab.data.files import read_image, read_mask
from seglab.data.labels import colormap
from seglab.errors import InputError

LABELS = np.array([[0, 1, 2], [3, 200, 255]], np.uint8)


def photo(height=40, width=60):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def save_palette(path, labels):
    picture = Image.frombytes("P", labels.shape[::-1], labels.tobytes())
    picture.putpalette(colormap().tobytes())
    picture.save(path)


def png(width, height, bits, data=b"", kind=0):
    """A PNG by hand, grey by default: Pillow writes none of 2 or 4 bits, and none whose pixels are missing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def stored_mode(path):
    with Image.open(path) as picture:
        return picture.mode


def test_palette_indices_are_kept_as_they_are(tmp_path):
    save_palette(tmp_path / "a.png", LABELS)
    assert stored_mode(tmp_path / "a.png") == "P"
    raw = read_mask(tmp_path / "a.png")
    assert raw.dtype == np.uint8
    np.testing.assert_array_equal(raw, LABELS)


def test_grey_values_are_kept_as_they_are(tmp_path):
    Image.fromarray(LABELS).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), LABELS)
    wide = LABELS.astype(np.uint16) * 257
    Image.fromarray(wide).save(tmp_path / "b.png")
    raw = read_mask(tmp_path / "b.png")
    assert raw.dtype == np.uint16
    np.testing.assert_array_equal(raw, wide)
    Image.fromarray(LABELS.astype(np.int32)).save(tmp_path / "c.tif")
    assert stored_mode(tmp_path / "c.tif") == "I"
    np.testing.assert_array_equal(read_mask(tmp_path / "c.tif"), LABELS)


def test_one_bit_becomes_zero_and_one(tmp_path):
    Image.fromarray(LABELS > 1).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), LABELS > 1)


@pytest.mark.parametrize(("bits", "labels"), [(2, [[0, 1, 2, 3]]), (4, [[0, 1, 2, 15]])])
def test_grey_of_few_bits_is_not_stretched(tmp_path, bits, labels):
    packed = 0
    for value in labels[0]:
        packed = packed << bits | value
    row = b"\0" + packed.to_bytes(bits * 4 // 8, "big")
    (tmp_path / "a.png").write_bytes(png(4, 1, bits, row))
    assert read_mask(tmp_path / "a.png").tolist() == labels


def test_colours_and_opaque_alpha(tmp_path):
    colours = photo()
    Image.fromarray(colours).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), colours)
    alpha = np.full((*colours.shape[:2], 1), 255, np.uint8)
    Image.fromarray(np.concatenate([colours, alpha], 2)).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "b.png"), colours)
    alpha[0, 0] = 0
    Image.fromarray(np.concatenate([colours, alpha], 2)).save(tmp_path / "c.png")
    with pytest.raises(InputError, match=r"c\.png: has transparent pixels"):
        read_mask(tmp_path / "c.png")


@pytest.mark.parametrize("largest", [1, 2, 20, 300, 65535])
def test_grey_of_a_pgm_is_not_stretched(tmp_path, largest):
    labels = np.array([[0, 1, largest // 2, largest]], "u1" if largest < 256 else ">u2")
    (tmp_path / "a.pgm").write_bytes(f"P5 4 1 {largest}\n".encode() + labels.tobytes())
    np.testing.assert_array_equal(read_mask(tmp_path / "a.pgm"), labels)
    (tmp_path / "b.pgm").write_text(f"P2 4 1 {largest} {' '.join(map(str, labels[0]))}")
    np.testing.assert_array_equal(read_mask(tmp_path / "b.pgm"), labels)


def test_files_whose_values_are_lost_or_turned_round_are_refused(tmp_path):
    colours = np.array([[[3, 1, 1], [6, 2, 2]]], ">u2")
    (tmp_path / "a.png").write_bytes(png(2, 1, 16, b"\0" + colours.tobytes(), kind=2))
    grey = np.array([[[1, 65535], [2, 65535]]], ">u2")
    (tmp_path / "b.png").write_bytes(png(2, 1, 16, b"\0" + grey.tobytes(), kind=4))
    for name in "ab":
        with pytest.raises(InputError, match=rf"{name}\.png: has 16 bits a channel; save it with 8"):
            read_mask(tmp_path / f"{name}.png")
    Image.fromarray(LABELS).save(tmp_path / "c.tif", tiffinfo={262: 0})
    with pytest.raises(InputError, match=r"c\.tif: is a TIFF in which 0 is white"):
        read_mask(tmp_path / "c.tif")


def test_modes_that_hold_no_labels_are_refused(tmp_path):
    Image.fromarray(LABELS.astype(np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif: mode F"):
        read_mask(tmp_path / "a.tif")
    Image.fromarray(LABELS.astype(np.int32) * 1000).save(tmp_path / "b.tif")
    with pytest.raises(InputError, match="from 0 to 255000"):
        read_mask(tmp_path / "b.tif")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_photo_becomes_rgb(tmp_path, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    picture = Image.fromarray(photo()).convert(mode)
    picture.save(tmp_path / f"a.{suffix}")
    image = read_image(tmp_path / f"a.{suffix}")
    assert image.shape == (40, 60, 3) and image.dtype == np.uint8 and image.flags.writeable
    if mode != "CMYK":
        np.testing.assert_array_equal(image, np.asarray(picture.convert("RGB")))


def test_grey_of_sixteen_bits_keeps_its_contrast(tmp_path):
    grey = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    for suffix, mode in (("png", "I;16"), ("tif", "I;16"), ("pgm", "I")):
        Image.fromarray(grey).save(tmp_path / f"a.{suffix}")
        assert stored_mode(tmp_path / f"a.{suffix}") == mode
        image = read_image(tmp_path / f"a.{suffix}")
        assert image.dtype == np.uint8 and image.shape == (16, 16, 3)
        np.testing.assert_array_equal(image[..., 1], np.arange(256).reshape(16, 16))


def test_grey_of_more_than_sixteen_bits_is_refused(tmp_path):
    Image.fromarray(LABELS.astype(np.int32)).save(tmp_path / "a.tif")  # though none of its values needs them
    with pytest.raises(InputError, match=r"a\.tif: has I pixels of 32 bits; save it with 8 bits a channel"):
        read_image(tmp_path / "a.tif")
    Image.fromarray(LABELS.astype(np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(InputError, match=r"b\.tif: has F pixels of 32 bits; save it with 8 bits"):
        read_image(tmp_path / "b.tif")


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_image_and_mask_alike(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = np.zeros((8, 12, 3), np.uint8)
    upright[:3, :4] = 255
    Image.fromarray(upright).save(tmp_path / f"a.{suffix}", exif=exif)
    Image.fromarray(upright[..., 0]).save(tmp_path / f"b.{suffix}", exif=exif)
    image, mask = read_image(tmp_path / f"a.{suffix}"), read_mask(tmp_path / f"b.{suffix}")
    np.testing.assert_array_equal(image[..., 0], mask)
    assert mask.shape == ((8, 12) if orientation < 5 else (12, 8))
    corners = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert mask[corners[orientation]] == 255 and (mask == 255).sum() == 12


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize(("kind", "value"), [(2, b"abc\0"), (1, b"abcd")])
def test_a_photograph_is_turned_though_another_tag_is_damaged(tmp_path, format, kind, value):
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6), struct.pack("<HHI", 0x011A, kind, 4) + value  # turn; resolution
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + b"".join(entries) + bytes(4)
    Image.fromarray(photo(8, 12)).save(tmp_path / "a", format, exif=exif)
    with Image.open(tmp_path / "a") as picture:
        lying = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "a"), np.rot90(lying, -1))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_a_damaged_avif_is_named(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(photo()).save(buffer, "AVIF")
    content = buffer.getvalue()
    start = content.index(b"mdat") + 4
    (tmp_path / "a.avif").write_bytes(content[:start] + bytes(len(content) - start))
    with pytest.raises(InputError, match=r"a\.avif: is truncated or damaged \(.+\); replace the file or leave it out$"):
        read_image(tmp_path / "a.avif")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("two\nlines"), r"is truncated or damaged \(two lines\)"),
        (ZeroDivisionError(), r"is truncated or damaged \(ZeroDivisionError\)"),
        (MemoryError(), "does not fit into the memory"),
    ],
)
def test_whatever_fails_in_decoding_is_said_of_the_file(tmp_path, monkeypatch, error, reason):
    def fail(self):
        raise error

    Image.fromarray(photo()).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    for read in (read_image, read_mask):
        with pytest.raises(InputError, match=rf"a\.png: {reason}; remove its row$"):
            read(tmp_path / "a.png", remedy="remove its row")


def test_large_photographs_are_read_up_to_a_limit_of_our_own(tmp_path):
    (tmp_path / "large.png").write_bytes(png(15_000, 12_000, 1))
    (tmp_path / "larger.png").write_bytes(png(40_000, 30_000, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with pytest.raises(InputError, match=r"large\.png: is truncated or damaged \(image file is truncated"):
            read_image(tmp_path / "large.png")
    with warnings.catch_warnings(record=True):  # pytest forgets what is ignored
        with pytest.raises(InputError, match=r"larger\.png: has more than 1000 megapixels, the most that is read; "):
            read_image(tmp_path / "larger.png")


@pytest.mark.parametrize("read", [read_image, read_mask])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP"])
def test_truncated_files_are_named(tmp_path, read, format):
    buffer = io.BytesIO()
    Image.fromarray(photo()[..., 0]).save(buffer, format)
    for share in (0.9, 0.5):
        path = tmp_path / f"broken-{share}"
        path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * share)])
        with pytest.raises(InputError, match=r"broken-.*(truncated|not an image).*replace the file"):
            read(path)


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_other_files_are_named(tmp_path, read):
    (tmp_path / "empty.png").touch()
    with pytest.raises(InputError, match=r"empty\.png: is empty \(zero bytes\)"):
        read(tmp_path / "empty.png")
    (tmp_path / "text.jpg").write_text("<html>not found</html>")
    with pytest.raises(InputError, match=r"text\.jpg: is not an image"):
        read(tmp_path / "text.jpg")
    with pytest.raises(InputError, match=r"absent\.jpg: no such file"):
        read(tmp_path / "absent.jpg")
    with pytest.raises(InputError, match="is a folder"):
        read(tmp_path)
