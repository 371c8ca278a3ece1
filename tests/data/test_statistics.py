import logging

import numpy as np
import pytest

from seglab.data import statistics
from seglab.data.crops import cut, window
from seglab.data.reader import Reader
from seglab.data.shapes import Shapes
from seglab.data.statistics import Statistics
from seglab.errors import InputError


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


@pytest.mark.parametrize(("crop", "count"), [("random", 1), ("center", 1), ("five", 5)])
def test_classes_are_counted_in_each_sample_and_kept(crop, count, monkeypatch):
    reader, size = _reader(), 24
    areas = statistics.class_areas(reader, crop, size)
    assert areas.shape == (12 * count, 9)
    for i, k in np.ndindex(12, count):
        mask = reader[i][1]
        if crop != "random":
            _, mask = cut(*reader[i], *window(crop, k, 40, 40, size, None), size, 9)
        assert areas[i * count + k].tolist() == [(mask == c).sum() for c in range(9)]
    monkeypatch.setattr(statistics, "_over_images", None)
    assert np.array_equal(statistics.class_areas(reader, crop, size), areas)


def test_figures_are_kept_and_not_mixed_up(monkeypatch):
    cases = [(_reader(), "random", 24), (_reader(resize=20), "random", 24), (_reader(size=48), "random", 24)]
    cases += [(_reader(), "five", 24), (_reader(), "five", 16), (_reader(), "center", 24)]
    found = [statistics.compute(*case) for case in cases]
    assert len({str(f) for f in found}) == len(cases)
    monkeypatch.setattr(Shapes, "read", None)  # nothing is read any more
    fresh = [(Reader(reader.source, "train", reader.resize), *rest) for reader, *rest in cases]
    assert [statistics.compute(*case) for case in fresh] == found


def _of(areas, image_areas=None):
    return Statistics((0,) * 3, (1,) * 3, areas, image_areas or dict.fromkeys(areas, sum(areas.values())))


def test_inverse_area_weights():
    assert _of({"a": 30, "b": 10}).inverse_area_weights() == [40 / 30, 4.0]


def test_median_frequency_weights():
    """The frequencies are 1/2, 1/4, 1/8 and 1/2; b is small in area and frequent in its images."""
    found = _of({"a": 400, "b": 10, "c": 50, "d": 50}, {"a": 800, "b": 40, "c": 400, "d": 100})
    assert found.median_frequency_weights() == pytest.approx([0.375 / 0.5, 0.375 / 0.25, 0.375 / 0.125, 0.375 / 0.5])


@pytest.mark.parametrize("beta", [0, 0.5, 0.999, 0.9999999])
def test_effective_number_weights(beta):
    areas = np.array([30, 10, 5000])
    inverse = 1 / np.array([sum(beta**k for k in range(n)) for n in areas])  # the geometric series, term by term
    found = _of(dict(zip("abc", areas.tolist(), strict=True))).effective_number_weights(beta)
    np.testing.assert_allclose(found, 3 * inverse / inverse.sum(), rtol=1e-6)


def test_effective_numbers_run_from_equal_to_inverse_area():
    found = _of({"a": 30, "b": 10})
    assert found.effective_number_weights(0) == [1.0, 1.0]
    assert found.effective_number_weights(1 - 1e-12) == pytest.approx([0.5, 1.5], rel=1e-3)
    for beta in (1, -0.1, "much", None):
        with pytest.raises(InputError, match=f"beta={beta}: give a number from 0 to below 1"):
            found.effective_number_weights(beta)


@pytest.mark.parametrize("rule", ["inverse_area", "median_frequency", "effective_number"])
def test_a_class_without_a_pixel_weighs_nothing(rule, caplog):
    with caplog.at_level(logging.WARNING):
        assert getattr(_of({"a": 5, "b": 0}), f"{rule}_weights")() == [1.0, 0.0]
        assert getattr(_of({"a": 0, "b": 0}), f"{rule}_weights")() == [0.0, 0.0]
    assert "no training pixel is labelled b" in caplog.text and "labelled a, b" in caplog.text


@pytest.mark.parametrize(("crop", "count"), [("random", 1), ("five", 5)])
def test_areas_of_the_images_that_a_class_is_in(crop, count):
    reader = _reader()
    expected = np.zeros(9, np.int64)
    for i in range(12):
        image, mask = reader[i]
        for k in range(count):
            part = mask if crop == "random" else cut(image, mask, *window(crop, k, 40, 40, 24, None), 24, 9)[1]
            for c in range(9):
                expected[c] += (part != 9).sum() * (part == c).any()
    found = statistics.compute(reader, crop, 24).image_areas
    assert found == dict(zip(Shapes.class_names, expected.tolist(), strict=True))
    assert len(set(found.values())) > 1
