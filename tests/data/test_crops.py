import numpy as np
import pytest

from seglab.data.crops import cut, window, windows_per_image


def _pair(height, width):
    image = np.arange(height * width * 3).reshape(height, width, 3).astype(np.uint8)
    return image, (np.arange(height * width).reshape(height, width) % 7).astype(np.uint8)


def test_five_windows_are_the_corners_and_the_centre():
    assert [windows_per_image(mode) for mode in ("random", "center", "five")] == [1, 1, 5]
    places = [window("five", k, 10, 20, 4, None) for k in range(5)]
    assert places == [(0, 0), (0, 16), (6, 0), (6, 16), (3, 8)]
    assert window("center", 0, 10, 20, 4, None) == (3, 8)


def test_random_windows_reach_every_place_and_no_other():
    rng = np.random.default_rng(0)
    places = {window("random", 0, 5, 6, 3, rng) for _ in range(500)}
    assert places == {(top, left) for top in range(3) for left in range(4)}


@pytest.mark.parametrize("mode", ["random", "center", "five"])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (20, 9), (5, 30), (3, 4), (1, 1)])
def test_any_image_gives_a_window_that_holds_what_it_covers(mode, height, width):
    image, mask = _pair(height, width)
    rng = np.random.default_rng(1)
    for k in range(windows_per_image(mode)):
        top, left = window(mode, k, height, width, 8, rng)
        part, labels = cut(image, mask, top, left, 8, ignore_index=9)
        assert part.shape == (8, 8, 3) and labels.shape == (8, 8)
        for y in range(8):
            for x in range(8):
                inside = 0 <= top + y < height and 0 <= left + x < width
                assert labels[y, x] == (mask[top + y, left + x] if inside else 9)
                if inside:
                    assert (part[y, x] == image[top + y, left + x]).all()
        assert (labels != 9).sum() == min(height, 8) * min(width, 8)  # as much of the image as fits


def test_the_border_is_the_reflected_image():
    image, mask = _pair(6, 6)
    part, _ = cut(image, mask, -2, -1, 9, ignore_index=9)
    assert np.array_equal(part, np.pad(image, ((2, 1), (1, 2), (0, 0)), mode="reflect"))
