import cv2
import numpy as np
import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from seglab.data.mix import ClassMix, CopyPaste, CutMix
from seglab.errors import InputError

IGNORE = 9
CLASSES = [f"class {i}" for i in range(9)]
MIXES = [CutMix(), ClassMix(IGNORE), CopyPaste(CLASSES)]


def painted(mask):
    """An image whose every pixel tells its label: red and green the label, blue which sample it is of."""
    return np.dstack([mask * 20, 250 - mask * 20, np.zeros_like(mask)])


def scene(seed, labels=range(10), size=64):
    """A sample of discs of some labels on background 0, and a stripe that is not scored."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, size + 16), np.uint8)
    for label in labels:
        center = rng.integers(0, size, 2).tolist()
        cv2.circle(mask, center, int(rng.integers(6, 14)), int(label), -1)
    mask[:3] = IGNORE
    return painted(mask), mask


def rngs(count=40):
    return (np.random.default_rng(seed) for seed in range(count))


@pytest.mark.parametrize("mix", MIXES, ids=lambda mix: type(mix).__name__)
def test_pixels_bring_their_labels_and_nothing_else_changes(mix):
    sample, other = scene(0, [1, 2, 3]), scene(1, [4, 5, 6])
    other[0][..., 2] = 200
    given = [values.copy() for values in (*sample, *other)]
    mixed = 0
    for rng in rngs():
        image, mask = mix(sample, other, rng)
        assert (
            image.dtype == mask.dtype == np.uint8 and image.shape == sample[0].shape and mask.shape == image.shape[:2]
        )
        pasted = image[..., 2] == 200
        assert set(np.unique(image[..., 2])) <= {0, 200}
        assert np.array_equal(mask[~pasted], sample[1][~pasted])
        assert set(np.unique(mask[pasted])) <= {0, 4, 5, 6, IGNORE}
        if not isinstance(mix, CopyPaste):  # which interpolates where it scales
            assert np.array_equal(image[..., :2], painted(mask)[..., :2])
            assert np.array_equal(mask[pasted], other[1][pasted])
        mixed += pasted.any()
    assert mixed > 30
    assert all(np.array_equal(a, b) for a, b in zip(given, (*sample, *other), strict=True))


@pytest.mark.parametrize("mix", MIXES, ids=lambda mix: type(mix).__name__)
def test_a_mix_repeats_by_its_generator_and_takes_arrays_that_cannot_be_written(mix):
    pairs = scene(0), scene(1)
    for values in (*pairs[0], *pairs[1]):
        values.flags.writeable = False
    first, again = [mix(*pairs, rng) for rng in rngs(10)], [mix(*pairs, rng) for rng in rngs(10)]
    for one, two in zip(first, again, strict=True):
        assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])
    assert len({image.tobytes() for image, _ in first}) > 5


def test_cutmix_pastes_one_rectangle_of_any_share_at_its_own_place():
    (image, mask), other = scene(0), scene(1)
    other[0][..., 2] = 200
    shares = []
    for rng in rngs(300):
        pasted = CutMix()((image, mask), other, rng)[0][..., 2] == 200
        rows, cols = np.flatnonzero(pasted.any(1)), np.flatnonzero(pasted.any(0))
        assert pasted.sum() == len(rows) * len(cols)
        if len(rows):
            assert len(rows) == np.ptp(rows) + 1 and len(cols) == np.ptp(cols) + 1
            assert len(cols) / len(rows) == pytest.approx(80 / 64, abs=1 / len(rows) + 0.2)
        shares.append(pasted.mean())
    assert np.histogram(shares, 4, (0, 1))[0].min() > 50
    narrow = [(CutMix(alpha=100)((image, mask), other, rng)[0][..., 2] == 200).mean() for rng in rngs()]
    assert np.mean(narrow) == pytest.approx(0.5, abs=0.05) and np.std(narrow) < 0.06


@pytest.mark.parametrize(("labels", "pasted"), [([], 0), ([1], 1), ([1, 2], 2), ([1, 2, 3], 2)])
def test_classmix_pastes_whole_classes_half_of_them(labels, pasted):
    sample = (np.zeros((60, 60, 3), np.uint8), np.full((60, 60), 8, np.uint8))
    mask = np.zeros((60, 60), np.uint8)  # background and a stripe for each label: every class is seen whole
    for label in labels:
        mask[:, label * 10 : label * 10 + 10] = label
    mask[:2] = IGNORE
    seen = set()
    for rng in rngs():
        out = ClassMix(IGNORE)(sample, (painted(mask), mask), rng)[1]
        chosen = set(np.unique(out).tolist()) - {8}
        assert len(chosen) == pasted and IGNORE not in chosen
        assert np.array_equal(out, np.where(np.isin(mask, list(chosen)), mask, 8))
        seen |= chosen
    assert seen == ({0, *labels} if labels else set())


def test_copy_paste_moves_mirrors_and_scales_one_object_within_the_window():
    sample = (np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8))
    mask = np.zeros((64, 64), np.uint8)
    mask[10:30, 20:25] = mask[25:30, 20:40] = 3  # an L, its corner to the left
    mix = CopyPaste(CLASSES, scale=[0.5, 1.5])
    factors, corners, places = [], [], set()
    for rng in rngs(100):
        image, out = mix(sample, (np.full((64, 64, 3), 100, np.uint8), mask), rng)
        assert set(np.unique(out)) == {0, 3} and np.array_equal(image[..., 0], np.where(out == 3, 100, 0))
        left, top, width, height = cv2.boundingRect(out)
        assert abs(width - height) <= 1
        factors.append(width / 20)
        half = out[top : top + height // 2, left : left + width]
        corners.append(half[:, 0].all())
        assert half[:, 0].all() != half[:, -1].all()
        places.add((top, left))
    assert min(factors) < 0.65 and max(factors) > 1.35 and 0.45 <= min(factors) and max(factors) <= 1.55
    assert 30 < sum(corners) < 70 and len(places) > 80


def test_copy_paste_takes_single_objects_of_the_classes_named_and_leaves_specks_out():
    sample = (np.zeros((64, 64, 3), np.uint8), np.full((64, 64), 8, np.uint8))
    mask = np.zeros((64, 64), np.uint8)
    for label, place in ((1, 5), (1, 25), (2, 45)):
        mask[place : place + 10, 5:15] = label
    mask[60:62, 60:62] = 3  # 4 pixels, half of what min_area asks for
    mask[:, 30:50] = IGNORE
    other = (painted(mask), mask)

    def pasted(rng, **options):
        out = CopyPaste(CLASSES, scale=[1, 1], **options)(sample, other, rng)[1]
        return {label: (out == label).sum() // 100 for label in np.unique(out).tolist() if label != 8}

    counts = [pasted(rng, max_objects=1) for rng in rngs()]
    assert all(count in ({1: 1}, {2: 1}) for count in counts) and {1: 1} in counts and {2: 1} in counts
    assert {label for rng in rngs() for label in pasted(rng)} == {1, 2}
    assert {label for rng in rngs() for label in pasted(rng, min_area=0)} == {1, 2, 3}
    assert {label for rng in rngs(10) for label in pasted(rng, objects=["class 2"])} == {2}
    assert {label for rng in rngs(10) for label in pasted(rng, objects=["class 0"])} == {0}


def test_an_object_of_the_whole_window_never_grows_over_it():
    full = (np.full((32, 48, 3), 7, np.uint8), np.full((32, 48), 4, np.uint8))
    image, mask = CopyPaste(CLASSES, scale=[3, 4])(scene(0, size=32), full, np.random.default_rng(0))
    assert (mask == 4).all() and (image == 7).all()


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("cutmix", "p", 1.5),
        ("cutmix", "alpha", 0),
        ("classmix", "p", -0.1),
        ("classmix", "p", "often"),
        ("copy_paste", "p", 2),
        ("copy_paste", "scale", [2, 0.5]),
        ("copy_paste", "scale", 2),
        ("copy_paste", "min_area", 2),
        ("copy_paste", "max_objects", 0),
        ("copy_paste", "max_objects", 1.5),
        ("copy_paste", "objects", ["dgo"]),
        ("copy_paste", "objects", []),
    ],
)
def test_a_config_builds_and_a_wrong_value_of_it_is_named(name, key, value, request):
    config = OmegaConf.to_container(OmegaConf.load(request.config.rootpath / f"conf/mix/{name}.yaml"))
    data = {"ignore_index": 9, "class_names": CLASSES}

    def build(config):
        return instantiate(OmegaConf.create({"data": data, "mix": config}).mix, _convert_="all")

    assert build(config).p == 0.5
    with pytest.raises(InstantiationException) as error:
        build(config | {key: value})
    assert isinstance(error.value.__cause__, InputError) and f"mix.{key}=" in str(error.value.__cause__)
