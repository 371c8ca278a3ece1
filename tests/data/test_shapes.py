import numpy as np
import pytest

from seglab.data.shapes import Shapes
from seglab.errors import InputError


def _stack(source, split, count):
    pairs = [source.read(split, i) for i in range(count)]
    return np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])


def test_pairs_are_what_the_names_and_sizes_say():
    source = Shapes(size=40, train=3, val=2, test=1)
    assert source.names("train").tolist() == ["train_00000", "train_00001", "train_00002"]
    assert source.sizes("val").tolist() == [[40, 40], [40, 40]]
    image, mask = source.read("test", 0)
    assert image.shape == (40, 40, 3) and mask.shape == (40, 40)
    assert image.dtype == mask.dtype == np.uint8
    source.check(["train", "val", "test"])


def test_a_scene_follows_from_seed_split_and_index():
    first, second = Shapes(size=32), Shapes(size=32)
    second.read("train", 5)  # reading one scene leaves the others as they are
    for a, b in zip(first.read("train", 1), second.read("train", 1), strict=True):
        assert np.array_equal(a, b)
    images = [Shapes(size=32, seed=s).read(split, i)[0] for s, split, i in [(0, "train", 1), (1, "train", 1)]]
    images += [first.read("val", 1)[0], first.read("train", 2)[0]]
    assert len({image.tobytes() for image in images}) == 4


def test_fingerprint_follows_the_parameters():
    prints = {Shapes(**kwargs).fingerprint() for kwargs in ({}, {"size": 64}, {"seed": 1}, {"train": 9}, {"val": 9})}
    assert len(prints) == 5
    assert Shapes().fingerprint() == Shapes().fingerprint()


def test_all_classes_appear_and_only_they():
    _, masks = _stack(Shapes(size=64), "train", 150)
    shares = np.bincount(masks.ravel(), minlength=10) / masks.size
    assert len(shares) == 10
    assert (shares[1:9] > 0.01).all() and 0.4 < shares[0] < 0.8 and 0.03 < shares[9] < 0.2


def test_different_labels_never_touch():
    _, masks = _stack(Shapes(size=64), "train", 30)
    for a, b in ((masks[:, 1:], masks[:, :-1]), (masks[:, :, 1:], masks[:, :, :-1])):
        assert not ((a != b) & (a != 9) & (b != 9)).any()


def test_colour_alone_does_not_tell_the_class():
    source = Shapes(size=48)
    images, masks = _stack(source, "train", 300)
    means = np.stack([images[masks == c].mean(0) for c in range(9)])
    images, masks = _stack(source, "val", 60)
    preds = ((images[..., None, :] - means) ** 2).sum(-1).argmin(-1)
    iou = [((preds == c) & (masks == c)).sum() / (((preds == c) | (masks == c)) & (masks != 9)).sum() for c in range(9)]
    assert np.mean(iou) < 0.25


@pytest.mark.parametrize(
    ("kwargs", "word"), [({"size": 8}, "size"), ({"seed": -1}, "seed"), ({"ignore_index": 3}, "ignore_index")]
)
def test_a_wrong_parameter_is_named(kwargs, word):
    with pytest.raises(InputError, match=word):
        Shapes(**kwargs)


def test_an_empty_or_unknown_split_is_refused():
    with pytest.raises(InputError, match="'test'"):
        Shapes(test=0).names("test")
    with pytest.raises(InputError, match="'val'"):
        Shapes(val=-1).check(["val"])
    with pytest.raises(InputError, match="'tset'"):
        Shapes().read("tset", 0)
    with pytest.raises(IndexError):
        Shapes(val=2).read("val", 2)
