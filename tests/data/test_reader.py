import multiprocessing
import pickle

import cv2
import numpy as np
import pytest

from seglab.data.reader import Reader, resize_image


class Counting:
    """A source of pairs of several sizes that counts how often each is read."""

    class_names = ("background", "thing")
    ignore_index = 2

    def __init__(self, sizes=((40, 60), (50, 30), (20, 20))):
        rng = np.random.default_rng(0)
        self.pairs = [(rng.integers(0, 256, (*s, 3), np.uint8), rng.integers(0, 3, s, np.uint8)) for s in sizes]
        self.reads = np.zeros(len(sizes), int)

    def names(self, split):
        return np.array([f"pair{i}" for i in range(len(self.pairs))])

    def sizes(self, split):
        return np.array([mask.shape for _, mask in self.pairs])

    def read(self, split, i):
        self.reads[i] += 1
        return self.pairs[i]


def test_pairs_come_back_unchanged_and_are_read_once():
    source = Counting()
    reader = Reader(source, "train")
    for _ in range(3):
        for i, (image, mask) in enumerate(source.pairs):
            assert np.array_equal(reader[i][0], image) and np.array_equal(reader[i][1], mask)
    assert source.reads.tolist() == [1, 1, 1]
    with pytest.raises(IndexError):
        reader[3]


def test_kept_pairs_cannot_be_changed():
    reader = Reader(Counting(), "train")
    for _ in range(2):
        with pytest.raises(ValueError, match="read-only"):
            reader[0][0][:] = 0


def test_no_more_is_kept_than_fits():
    source = Counting()
    reader = Reader(source, "train", cache_mb=(40 * 60 + 50 * 30) * 4 / 2**20)
    for i in [0, 1, 2] * 2:
        reader[i]
    assert source.reads.tolist() == [1, 1, 2]
    source = Counting()
    reader = Reader(source, "train", cache_mb=0)
    assert np.array_equal(reader[0][0], reader[0][0]) and source.reads[0] == 2


@pytest.mark.parametrize(
    ("resize", "sizes"), [(10, [(10, 15), (17, 10), (10, 10)]), (80, [(80, 120), (133, 80), (80, 80)])]
)
def test_the_shorter_side_is_resized(resize, sizes):
    source = Counting()
    reader, eval_reader = Reader(source, "train", resize), Reader(source, "train", resize, keep_mask_size=True)
    method = cv2.INTER_AREA if resize == 10 else cv2.INTER_LINEAR
    for i, (height, width) in enumerate(sizes):
        image, mask = reader[i]
        assert image.shape == (height, width, 3) and mask.shape == (height, width)
        assert np.array_equal(image, cv2.resize(source.pairs[i][0], (width, height), interpolation=method))
        assert set(np.unique(mask)) <= {0, 1, 2}
        assert np.array_equal(eval_reader[i][0], image) and np.array_equal(eval_reader[i][1], source.pairs[i][1])


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((8, 600), (68, 5120)),  # not 320 x 24000
        ((600, 1), (5120, 9)),
        ((8, 5120), (8, 5120)),
        ((1, 20000), (1, 20000)),
        ((8, 128), (320, 5120)),
        ((8, 12), (320, 480)),
        ((640, 12000), (320, 6000)),
    ],
)
def test_a_very_narrow_image_is_enlarged_less(size, expected):
    assert resize_image(np.zeros((*size, 3), np.uint8), 320).shape[:2] == expected
    for keep_mask_size in (False, True):
        image, mask = Reader(Counting([size]), "train", 320, keep_mask_size)[0]
        assert image.shape[:2] == expected and mask.shape == (size if keep_mask_size else expected)


def test_a_mask_is_resized_about_its_pixel_centres():
    source = Counting([(4, 4)])
    source.pairs[0] = (np.zeros((4, 4, 3), np.uint8), np.arange(16, dtype=np.uint8).reshape(4, 4))
    assert Reader(source, "train", 12)[0][1].tolist() == np.arange(16).reshape(4, 4).repeat(3, 0).repeat(3, 1).tolist()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_forked_processes_share_what_was_read():
    source = Counting()
    reader = Reader(source, "train")
    child = multiprocessing.get_context("fork").Process(target=lambda: [reader[i] for i in range(3)])
    child.start()
    child.join()
    assert child.exitcode == 0
    for i, (image, mask) in enumerate(source.pairs):
        assert np.array_equal(reader[i][0], image) and np.array_equal(reader[i][1], mask)
    assert source.reads.tolist() == [0, 0, 0]  # this process found everything read


def test_a_pickled_reader_begins_empty_and_reads_the_same():
    reader = Reader(Counting(), "train", 16)
    before = reader[1]
    copy = pickle.loads(pickle.dumps(reader))
    assert len(pickle.dumps(reader)) < 60_000
    copy.source.reads[:] = 0
    assert np.array_equal(copy[1][0], before[0]) and copy.source.reads[1] == 1


def test_a_file_that_changed_its_size_is_read_and_not_kept():
    source = Counting()
    reader = Reader(source, "train")
    source.pairs[0] = source.pairs[1]
    assert np.array_equal(reader[0][0], source.pairs[1][0]) and np.array_equal(reader[0][0], source.pairs[1][0])
    assert source.reads[0] == 2
