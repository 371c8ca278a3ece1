import pickle

import numpy as np
import pytest

from seglab.data.labels import LabelTable, colormap
from seglab.errors import InputError


def test_values_become_classes_and_ignore():
    table = LabelTable({0: 0, 7: 1, 65535: 2, 255: 3}, ["sky", "cat", "dog"], ignore_index=3)
    raw = np.array([[0, 7], [255, 65535]], np.uint16)
    mask = table.apply(raw)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, [[0, 1], [3, 2]])
    np.testing.assert_array_equal(table.apply(np.array([[7, 255]], np.uint8)), [[1, 3]])


@pytest.mark.parametrize("ignore_index", [3, 4, 255])
def test_stray_values_are_named_with_their_pixels(ignore_index):
    table = LabelTable({0: 0, 1: 1, 2: 2, 255: ignore_index}, ["a", "b", "c"], ignore_index)
    raw = np.zeros((10, 10), np.uint8)
    raw[0, :3], raw[1, :5] = 37, 201
    with pytest.raises(InputError, match=r"201 \(5 pixels\), 37 \(3 pixels\).*data\.ignore"):
        table.apply(raw)


def test_many_stray_values_are_counted_not_listed():
    table = LabelTable({0: 0}, ["a"], 1)
    with pytest.raises(InputError, match="and 92 more values"):
        table.apply(np.arange(1, 101, dtype=np.uint8).reshape(10, 10))


def test_colours_become_classes():
    table = LabelTable({(0, 0, 0): 0, (1, 0, 0): 1, (0, 1, 0): 2, (0, 0, 1): 3}, ["a", "b", "c"], ignore_index=3)
    raw = np.array([[[0, 0, 0], [1, 0, 0]], [[0, 1, 0], [0, 0, 1]]], np.uint8)
    np.testing.assert_array_equal(table.apply(raw), [[0, 1], [2, 3]])
    raw[0, 0] = 9, 8, 7
    with pytest.raises(InputError, match=r"\[9, 8, 7\] \(1 pixels\)"):
        table.apply(raw)


def test_the_form_of_labels_and_table_must_agree():
    with pytest.raises(InputError, match=r"holds colours, \[0, 0, 0\] for one.*: give colours, such as"):
        LabelTable({0: 0}, ["a"], 1).apply(np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(InputError, match="holds single values, 0 for one .*: give values, such as"):
        LabelTable({(0, 0, 0): 0}, ["a"], 1).apply(np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize(
    ("mapping", "names", "ignore_index", "message"),
    [
        ({0: 0}, ["a", "a"], 2, "'a' stands twice"),
        ({0: 0}, ["a", "b"], 1, "ignore_index=1"),
        ({0: 0}, ["a"], 256, "ignore_index=256"),
        ({0: 5}, ["a"], 1, "maps to 5"),
        ({70000: 0}, ["a"], 1, "data.classes.a: 70000 is no label value"),
        ({-1: 0}, ["a"], 1, "data.classes.a: -1 is no label value"),
        ({(0, 0, 256): 0}, ["a"], 1, r"data.classes.a: \[0, 0, 256\] is no label value"),
        ({(0, 0): 0}, ["a"], 1, r"data.classes.a: \[0, 0\] is no label value"),
        ({0: 0, (0, 0, 0): 0}, ["a"], 1, "data.classes.a: the value 0 is no colour, as others are"),
        ({}, [], 0, "0 classes"),
        ({"0": 0}, ["a"], 1, "data.classes.a: 0 is no label value: give 0 to 65535"),
    ],
)
def test_contradictions_are_refused(mapping, names, ignore_index, message):
    with pytest.raises(InputError, match=message):
        LabelTable(mapping, names, ignore_index)


def test_the_largest_table_still_finds_strays():
    names = [f"class{i}" for i in range(254)]
    table = LabelTable({i: i for i in range(254)} | {255: 254}, names, 254)
    np.testing.assert_array_equal(table.apply(np.array([[253, 255]], np.uint8)), [[253, 254]])
    with pytest.raises(InputError, match=r"254 \(1 pixels\)"):
        table.apply(np.array([[254]], np.uint8))


def test_a_pickled_table_is_small_and_the_same():
    table = LabelTable({(1, 2, 3): 0, (4, 5, 6): 1}, ["a"], 1)
    raw = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    mask = table.apply(raw)
    data = pickle.dumps(table)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data).apply(raw), mask)


def test_colormap_is_pascals():
    colors = colormap()
    assert colors.shape == (256, 3) and colors.dtype == np.uint8
    assert colors[[0, 1, 2, 8, 15, 20, 255]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [64, 0, 0], [192, 128, 128], [0, 64, 128], [224, 224, 192],
    ]  # fmt: skip
    assert len(np.unique(colors, axis=0)) == 256
