import logging

import numpy as np
import pytest

from seglab.data import statistics
from seglab.data.crops import cut, window
from seglab.data.reader import Reader
from seglab.data.shapes import Shapes
from seglab.data.statistics import Statistics


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGLAB_CACHE_DIR", str(tmp_path))


def _reader(size=40, **kwargs):
    return Reader(Shapes(size=size, train=12), "train", **kwargs)


def _expected(images, masks):
    images, masks = np.stack(images) / 255, np.stack(masks)
    return images.mean((0, 1, 2)), images.std((0, 1, 2)), [(masks == c).sum() for c in range(9)]


def _check(found, expected):
    np.testing.assert_allclose(found.mean, expected[0], rtol=1e-9)
    np.testing.assert_allclose(found.std, expected[1], rtol=1e-7)
    assert list(found.areas.values()) == expected[2]
    assert tuple(found.areas) == Shapes.class_names


def test_whole_images_count_for_random_crops():
    reader = _reader()
    _check(statistics.compute(reader), _expected(*zip(*(reader[i] for i in range(12)), strict=True)))


@pytest.mark.parametrize(("crop", "count"), [("five", 5), ("center", 1)])
def test_windows_count_for_fixed_crops(crop, count):
    reader = _reader()
    parts = []
    for i in range(12):
        for k in range(count):
            parts.append(cut(*reader[i], *window(crop, k, 40, 40, 24, None), 24, 9))
    _check(statistics.compute(reader, crop, 24), _expected(*zip(*parts, strict=True)))


def test_a_border_outside_the_image_does_not_count():
    reader = _reader()
    whole, padded = statistics.compute(reader), statistics.compute(reader, "center", 100)
    assert padded.areas == whole.areas
    np.testing.assert_allclose(padded.mean, whole.mean)


def test_figures_are_kept_and_not_mixed_up(monkeypatch):
    cases = [(_reader(), "random", 24), (_reader(resize=20), "random", 24), (_reader(size=48), "random", 24)]
    cases += [(_reader(), "five", 24), (_reader(), "five", 16), (_reader(), "center", 24)]
    found = [statistics.compute(*case) for case in cases]
    assert len({str(f) for f in found}) == len(cases)
    monkeypatch.setattr(Shapes, "read", None)  # nothing is read any more
    fresh = [(Reader(reader.source, "train", reader.resize), *rest) for reader, *rest in cases]
    assert [statistics.compute(*case) for case in fresh] == found


def test_inverse_area_weights(caplog):
    assert Statistics((0,) * 3, (1,) * 3, {"a": 30, "b": 10}).inverse_area_weights() == [40 / 30, 4.0]
    with caplog.at_level(logging.WARNING):
        assert Statistics((0,) * 3, (1,) * 3, {"a": 5, "b": 0}).inverse_area_weights() == [1.0, 0.0]
    assert "b" in caplog.text
