import warnings

import albumentations as A
import cv2
import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from seglab.data.augment import Augmentation, refuse_unknown_arguments
from seglab.errors import InputError

NAMES = ["none", "flip", "sharpen_flip", "albu", "strong"]


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (48, 64, 3), np.uint8), rng.integers(1, 9, (48, 64), np.uint8)


def _load(name, conf):
    with refuse_unknown_arguments():
        return Augmentation(list(instantiate(OmegaConf.load(conf / f"augment/{name}.yaml")).transforms.values()), 9)


@pytest.fixture
def conf(request):
    return request.config.rootpath / "conf"


@pytest.mark.parametrize("name", NAMES)
def test_each_recipe_repeats_by_seed_and_keeps_shapes(name, conf, pair):
    augment = _load(name, conf)
    first = [augment(*pair, seed=s) for s in range(12)]
    again = [_load(name, conf)(*pair, seed=s) for s in reversed(range(12))][::-1]
    for (image, mask), (image2, mask2) in zip(first, again, strict=True):
        assert np.array_equal(image, image2) and np.array_equal(mask, mask2)
        assert image.shape == (48, 64, 3) and image.dtype == mask.dtype == np.uint8
    distinct = len({image.tobytes() for image, _ in first})
    assert distinct == {"none": 1, "flip": 2, "albu": 12, "strong": 12}.get(name, distinct) and (
        name == "none" or distinct > 1
    )


@pytest.mark.parametrize("name", NAMES)
def test_no_recipe_invents_a_label(name, conf, pair):
    augment = _load(name, conf)
    for seed in range(40):
        assert 1 <= augment(*pair, seed=seed)[1].min() <= augment(*pair, seed=seed)[1].max() <= 9


@pytest.mark.parametrize(
    "transform",
    [
        A.Rotate(limit=40, border_mode=0, p=1),
        A.CoarseDropout(fill_mask=5, p=1),
        A.PixelDropout(0.1, mask_drop_value=0, p=1),
        A.GridElasticDeform(num_grid_xy=(4, 4), magnitude=20, p=1),
        A.OneOf([A.Sequential([A.PixelDropout(0.1, mask_drop_value=2, p=1)])], p=1),
    ],
    ids=["rotate", "cut-out", "pixels", "grid", "nested"],
)
def test_what_a_transform_fills_is_ignored_whatever_it_fills_it_with(transform):
    image, mask = np.zeros((64, 64, 3), np.uint8), np.full((64, 64), 3, np.uint8)
    mask[:, 32:] = 7
    found = [Augmentation([transform], 9)(image, mask, seed)[1] for seed in range(8)]
    assert {int(label) for labels in found for label in np.unique(labels)} == {3, 7, 9}


def test_a_cut_out_that_leaves_the_mask_alone_leaves_it_so():
    image, mask = np.full((64, 64, 3), 200, np.uint8), np.full((64, 64), 3, np.uint8)
    cut, labels = Augmentation([A.CoarseDropout(p=1)], 9)(image, mask, 0)
    assert (cut == 0).any() and (labels == 3).all()


def test_image_and_mask_move_together():
    mask = np.zeros((64, 64), np.uint8)
    mask[10:30, 20:50] = 1
    image = np.repeat(mask[..., None] * 200, 3, axis=2)
    rotate = [A.Rotate(limit=40, border_mode=4, p=1), A.HorizontalFlip(p=0.5)]
    for seed in range(10):
        moved, labels = Augmentation(rotate, 9)(image, mask, seed)
        assert ((moved[..., 0] > 100) == (labels == 1)).mean() > 0.98


@pytest.mark.parametrize("name", NAMES)
def test_what_is_painted_by_the_mask_stays_painted_by_it(name, conf):
    augment = _load(name, conf)
    mask = np.zeros((64, 64), np.uint8)
    mask[8:40, 12:30], mask[30:60, 36:60] = 1, 2
    image = np.repeat(np.array([40, 110, 190], np.uint8)[mask][..., None], 3, axis=2)
    for seed in range(30):
        moved, labels = augment(image, mask, seed)
        lightness = moved.mean(2)
        levels = np.array([np.median(lightness[labels == label]) for label in range(3)])
        found = np.abs(lightness[..., None] - levels).argmin(2)
        inside = (cv2.erode(labels, np.ones((5, 5))) == cv2.dilate(labels, np.ones((5, 5)))) & (labels != 9)
        assert (np.diff(levels) > 15).all() and (found == labels)[inside].mean() > 0.99 and inside.mean() > 0.4


def test_what_a_hole_of_the_strong_recipe_hides_is_not_scored(conf):
    [cut_out] = [node for node in _load("strong", conf).compose.transforms if isinstance(node, A.CoarseDropout)]
    cut_out.p = 1
    image, mask = np.full((64, 64, 3), 30, np.uint8), np.ones((64, 64), np.uint8)
    for seed in range(10):
        changed, labels = Augmentation([cut_out], 9)(image, mask, seed)
        assert (labels == 9).any() and np.array_equal(labels == 9, (changed != 30).all(2))


def test_uncovered_pixels_are_ignored_at_any_depth(pair):
    nested = A.OneOf([A.Sequential([A.Rotate(limit=(30, 30), p=1)], p=1), A.Affine(scale=0.5, p=1)], p=1)
    augment = Augmentation([nested, A.Affine(translate_percent=0.3, p=1)], 9)
    for seed in range(20):
        mask = augment(*pair, seed=seed)[1]
        assert (mask == 9).any() and mask.min() >= 1


def test_transforms_draw_independently():
    # two flips with p 0.5 that shared one draw would flip always both or neither
    augment = Augmentation([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)], 9)
    mask = np.array([[0, 1], [2, 3]], np.uint8)
    image = np.repeat(mask[..., None], 3, axis=2)
    corners = [augment(image, mask, seed)[1][0, 0] for seed in range(200)]
    assert np.bincount(corners, minlength=4).min() > 25


def test_a_cut_out_keeps_its_labels(pair):
    dropout = A.CoarseDropout(p=1)
    image, mask = Augmentation([dropout], 9)(*pair, seed=0)
    assert np.array_equal(mask, pair[1]) and not np.array_equal(image, pair[0])


def test_unknown_arguments_are_errors():
    with pytest.raises(InputError, match="mask_value"), refuse_unknown_arguments():
        A.Rotate(limit=10, mask_value=9)


def test_other_warnings_pass_through():
    with pytest.warns(UserWarning, match="something else"), refuse_unknown_arguments():
        warnings.warn("something else", UserWarning, stacklevel=1)


@pytest.mark.parametrize("transform", [A.Resize(8, 8), A.Normalize(), A.RandomCrop(16, 16)])
def test_a_change_of_size_or_type_is_refused(transform, pair):
    with pytest.raises(InputError, match="augment.transforms"):
        Augmentation([transform], 9)(*pair, seed=0)
