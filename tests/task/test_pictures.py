import numpy as np
import pytest
from PIL import Image

from seglab.data.labels import colormap
from seglab.task.pictures import (
    BOUNDARY_COLOR,
    legend,
    overlay,
    palette,
    save_confusion,
    save_mask,
    save_reliability,
    strips,
)

NAMES = ["background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"]


@pytest.fixture
def mask():
    return np.random.default_rng(0).choice([*range(9), 9, 255], (13, 17)).astype(np.uint8)


def test_a_mask_comes_back_as_it_was_written(mask, tmp_path):
    save_mask(mask[:, ::-1], tmp_path / "mask.png", 9)  # a view that is not contiguous
    with Image.open(tmp_path / "mask.png") as picture:
        assert picture.mode == "P" and picture.size == (17, 13)
        np.testing.assert_array_equal(np.asarray(picture), mask[:, ::-1])
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), palette(9)[mask[:, ::-1]])


def test_the_palette_is_that_of_pascal_voc():
    assert palette(9)[:9].tolist() == colormap(9).tolist()
    assert palette(9)[[0, 1, 2, 8]].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [64, 0, 0]]
    assert (palette(9)[9:] == BOUNDARY_COLOR).all()


def test_an_overlay_tints_the_objects_and_nothing_else(mask):
    image = np.random.default_rng(1).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    picture = overlay(image, mask, 9, opacity=0.25)
    shown = (mask > 0) & (mask < 9)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[~shown], image[~shown])
    np.testing.assert_allclose(picture[shown], (0.75 * image + 0.25 * palette(9)[mask])[shown], atol=1)


def _swatches(band):
    """Where the inside of each swatch shows, but that of class 7, which has the outline's colour."""
    pixels = np.asarray(band)
    return [np.argwhere((pixels == palette(9)[index]).all(-1)) for index in (1, 2, 3, 4, 5, 6, 8, 9)]


def test_the_legend_wraps():
    wide, narrow = legend(NAMES, 2000), legend(NAMES, 200)
    assert wide.width == 2000 and narrow.width == 200 and narrow.height > 2 * wide.height
    for band, rows in ((wide, 1), (narrow, 4)):
        places = _swatches(band)
        assert all(len(place) >= 13 * 13 for place in places)  # each is whole: none runs over the edge
        assert len({place[:, 0].min() for place in places}) >= rows
    assert len({place[:, 0].min() for place in _swatches(wide)}) == 1


def test_a_legend_narrower_than_a_name_takes_a_row_for_each():
    assert len({place[:, 0].min() for place in _swatches(legend(NAMES, 40))}) == 8


def test_strips_show_image_label_and_prediction_side_by_side():
    image = np.full((20, 40, 3), 200, np.uint8)
    mask, preds = np.full((20, 40), 1, np.uint8), np.full((20, 40), 2, np.uint8)
    sheet = np.asarray(strips([("one", image, mask, preds), ("two", image, preds, mask)], NAMES, height=50))
    assert sheet.shape[1] == 420  # three tiles of 100 would be narrower
    assert sheet.shape[0] == 22 + 2 * (50 + 6 + 16) + legend(NAMES, 420).height
    for top, colors in ((22, (1, 2)), (22 + 72, (2, 1))):
        middle = sheet[top + 25]
        np.testing.assert_array_equal(middle[6 + 50], [200] * 3)
        np.testing.assert_array_equal(middle[112 + 50], palette(9)[colors[0]])
        np.testing.assert_array_equal(middle[218 + 50], palette(9)[colors[1]])


def test_strips_of_images_of_many_shapes_keep_their_aspect():
    rows = [
        ("tall", np.zeros((200, 20, 3), np.uint8), np.ones((200, 20), np.uint8), np.ones((200, 20), np.uint8)),
        ("wide", np.zeros((20, 200, 3), np.uint8), np.ones((20, 200), np.uint8), np.ones((20, 200), np.uint8)),
    ]
    sheet = np.asarray(strips(rows, NAMES, height=30))
    assert sheet.shape[1] == 3 * 300 + 4 * 6
    label = (sheet[22 + 15] == palette(9)[1]).all(-1)
    assert label.sum() == 2 * 3  # label and prediction, 30 * 20 / 200 pixels wide


def test_a_confusion_matrix_is_drawn(tmp_path):
    confusion = np.diag(np.arange(9)).astype(np.int64)  # the first class is absent
    save_confusion(confusion, NAMES, tmp_path / "confusion.png", "title")
    with Image.open(tmp_path / "confusion.png") as picture:
        assert picture.width > 500 and np.asarray(picture.convert("L")).std() > 10


def test_a_reliability_picture_is_drawn_also_where_nothing_is_scored(tmp_path):
    sums = np.zeros((15, 4))
    save_reliability(sums, tmp_path / "empty.png", "title")
    sums[[7, 14]] = [[10, 5, 2, 9], [90, 88, 80, 4]]
    save_reliability(sums, tmp_path / "full.png", "title")
    blue = []
    for name in ("empty", "full"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            pixels = np.asarray(picture.convert("RGB"))
            blue.append((pixels == (31, 119, 180)).all(-1).sum())  # the bars' colour, in the legend too
    assert blue[1] > 4 * blue[0] > 0
