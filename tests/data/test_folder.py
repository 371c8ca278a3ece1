import logging
import sys
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from seglab.data.folder import ImageFolder
from seglab.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SEGLAB_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


def write_pair(root, name, labels=None, image_suffix=".jpg", mask_suffix=".png"):
    labels = np.zeros((6, 8), np.uint8) if labels is None else labels
    for folder, suffix, array in (
        ("images", image_suffix, np.zeros((*labels.shape[:2], 3), np.uint8)),
        ("masks", mask_suffix, labels),
    ):
        path = root / folder / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


def folder(root, **changes):
    return ImageFolder(**{"root": root, "classes": ["sky", "tree"], "ignore_index": 2} | changes)


LABELS = np.repeat(np.array([0, 1, 255], np.uint8), 2)[:, None].repeat(8, 1)


def test_a_list_of_classes_means_the_values_from_zero(tmp_path):
    write_pair(tmp_path, "a", LABELS)
    source = folder(tmp_path, ignore=[255], splits={"train": 1})
    image, mask = source.read("train", 0)
    assert image.shape == (6, 8, 3)
    np.testing.assert_array_equal(mask[:, 0], [0, 0, 1, 1, 2, 2])
    with pytest.raises(InputError, match=r"a\.png: label values outside the label table: 255 \(16 pixels\)"):
        folder(tmp_path, splits={"train": 1}).check(["train"])


def test_classes_by_value_and_by_colour(tmp_path):
    write_pair(tmp_path, "a", LABELS)
    source = folder(tmp_path, classes={"tree": 1, "void": 255, "sky": 0}, ignore_index=3, splits={"train": 1})
    assert source.class_names == ("tree", "void", "sky")
    np.testing.assert_array_equal(source.read("train", 0)[1][:, 0], [2, 2, 0, 0, 1, 1])

    colours = np.array([[10, 20, 30], [0, 0, 0], [255, 255, 255]], np.uint8)
    write_pair(tmp_path, "a", np.repeat(colours, 2, 0)[:, None].repeat(8, 1))
    classes = {"sky": [10, 20, 30], "tree": [0, 0, 0]}
    source = folder(tmp_path, classes=classes, ignore=[[255, 255, 255]], splits={"train": 1})
    source.check(["train"])
    np.testing.assert_array_equal(source.read("train", 0)[1][:, 0], [0, 0, 1, 1, 2, 2])


def test_drawn_splits_cover_all_and_keep_their_members(tmp_path):
    for i in range(200):
        write_pair(tmp_path, f"p{i:03}", np.zeros((1, 1), np.uint8), ".png")
    source = folder(tmp_path)
    splits = {split: set(source.names(split)) for split in ("train", "val", "test")}
    assert sum(map(len, splits.values())) == 200 == len(set.union(*splits.values()))
    assert 140 <= len(splits["train"]) <= 180 and len(splits["val"]) >= 8 and len(splits["test"]) >= 8
    assert splits["val"] == set(folder(tmp_path).names("val"))
    assert splits["val"] != set(folder(tmp_path, seed=1).names("val"))
    for i in range(200, 220):
        write_pair(tmp_path, f"p{i:03}", np.zeros((1, 1), np.uint8), ".png")
    grown = folder(tmp_path)
    for split, names in splits.items():
        assert names <= set(grown.names(split))
    halves = folder(tmp_path, splits={"train": 0.7, "val": 0.3})
    assert len(halves.names("train")) + len(halves.names("val")) == 220
    with pytest.raises(InputError, match=r"split test has no pair.*'data\.splits={train: 0.35, val: 0.3, test: 0.35}'"):
        halves.names("test")


def test_sub_folders_are_splits(tmp_path):
    write_pair(tmp_path, "train/day/a")
    write_pair(tmp_path, "train/b", image_suffix=".PNG")
    write_pair(tmp_path, "val/a", image_suffix=".webp", mask_suffix=".tif")
    source = folder(tmp_path)
    assert source.names("train").tolist() == ["train/b", "train/day/a"]
    assert source.names("val").tolist() == ["val/a"]
    assert source.read("val", 0)[0].shape == (6, 8, 3)
    source.check(["train", "val"])
    np.testing.assert_array_equal(source.sizes("train"), [[6, 8]] * 2)
    with pytest.raises(InputError, match="split test has no pair in it; fill images/test and masks/test"):
        source.check()
    write_pair(tmp_path, "validation/c")
    with pytest.raises(InputError, match="1 pairs lie in none of images/train, val and test, validation/c for one"):
        folder(tmp_path).check(["train"])


def test_lists_are_splits(tmp_path):
    for name in ("a", "b.c", "sub/d", "unused"):
        write_pair(tmp_path, name)
    (tmp_path / "train.txt").write_text("\ufeffsub/d\r\na\n", encoding="utf-8")  # as Notepad writes it
    (tmp_path / "val.txt").write_text("b.c.jpg\n\n")
    source = folder(tmp_path)
    assert source.names("train").tolist() == ["sub/d", "a"]
    assert source.names("val").tolist() == ["b.c"]
    with pytest.raises(InputError, match=r"write test\.txt"):
        source.names("test")
    (tmp_path / "test.txt").write_text("a\nghost\n")
    with pytest.raises(InputError, match=r"test\.txt: ghost has no pair"):
        folder(tmp_path).names("test")
    (tmp_path / "test.txt").write_text("a\n")
    with pytest.raises(InputError, match="a is in both train and test"):
        folder(tmp_path).check()


def test_pairs_in_no_list_are_left_out_aloud(tmp_path, caplog):
    for name in ("a", "b", "c", "d", "e"):
        write_pair(tmp_path, name)
    for split, name in (("train", "a"), ("val", "b"), ("test", "c")):
        (tmp_path / f"{split}.txt").write_text(name)
    folder(tmp_path).check(["val"])
    assert not caplog.records
    folder(tmp_path).check()
    said = f"{tmp_path}: 2 pairs stand in none of train.txt, val.txt, test.txt and are left out"
    assert caplog.record_tuples == [("seglab.data.folder", logging.WARNING, said)]
    (tmp_path / "train.txt").write_text("a\nd\ne\n")
    folder(tmp_path).check()
    assert len(caplog.records) == 1


def test_names_are_one_in_any_form_of_unicode(tmp_path):
    composed, decomposed = (normalize(form, "Zürich") for form in ("NFC", "NFD"))
    write_pair(tmp_path, decomposed)
    (tmp_path / "masks" / f"{decomposed}.png").rename(tmp_path / "masks" / f"{composed}.png")
    (tmp_path / "train.txt").write_text(f"{decomposed}.jpg\n", encoding="utf-8")
    source = folder(tmp_path)
    source.check(["train"])
    assert source.names("train").tolist() == [composed] and source.read("train", 0)[0].shape == (6, 8, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="the disk takes both for one file here")
def test_two_files_of_one_name_in_two_forms_of_unicode(tmp_path):
    for form in ("NFC", "NFD"):
        write_pair(tmp_path, normalize(form, "Zürich"))
    with pytest.raises(InputError) as caught:
        folder(tmp_path).check(["train"])
    path, name = tmp_path / "images" / "Zürich.jpg", "Zürich.jpg"
    said = f"{path}: {name} is the same in another form of Unicode; rename or remove one of them"
    assert said in normalize("NFC", str(caught.value))


def test_check_names_the_halves_without_their_other_half(tmp_path):
    for name in ("a", "b", "c"):
        write_pair(tmp_path, f"train/{name}")
    (tmp_path / "masks/train/a.png").unlink()
    (tmp_path / "images/train/b.jpg").unlink()
    Image.new("RGB", (8, 6)).save(tmp_path / "images/train/c.png")
    (tmp_path / "images/.DS_Store").touch()
    (tmp_path / "images/train/._c.jpg").touch()
    (tmp_path / "images/notes.txt").touch()
    with pytest.raises(InputError) as caught:
        folder(tmp_path).check(["train"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert any(line.startswith(f"{tmp_path / 'images/train/a.jpg'}: has no label image") for line in lines)
    assert any(line.startswith(f"{tmp_path / 'masks/train/b.png'}: has no image") for line in lines)
    assert any("train/c" in line and "same stem" in line for line in lines)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"splits": {"train": 0.5, "val": 0.1}}, "whose sum is 1"),
        ({"splits": {"train": 0.5, "valid": 0.5}}, "fractions of train, val and test"),
        ({"splits": {"train": 1.5, "val": -0.5}}, "fractions of train, val and test"),
        ({"splits": [1, 0, 0]}, r"data.splits=\[1, 0, 0\]: give fractions, such as {train: 0.8, val: 0.1, test: 0.1}"),
        ({"splits": {"train": "a"}}, "data.splits={'train': 'a'}: give fractions"),
        ({"classes": ["sky", "sky"]}, "stands twice"),
        ({"classes": {"sky": 0, "tree": 0}}, r"data\.classes\.tree: the label value 0 is already given"),
        ({"ignore": [1]}, r"data\.ignore: the label value 1 is already given"),
        ({"ignore": [[1, 2, 3]]}, r"data\.classes\.sky: the value 0 is no colour"),
        ({"classes": {"sky": "blue"}, "ignore_index": 1}, r"data\.classes\.sky: blue is no label value"),
        ({"ignore_index": 1}, "ignore_index=1"),
        ({"classes": [[0, 0, 0], [64, 0, 0]]}, r"give each a name, such as {background: \[0,0,0\]"),
        ({"classes": {"sky": [[0, 0, 0]]}}, r"data\.classes\.sky: \[\[0, 0, 0\]\] is no label value"),
        ({"classes": {"sky": {"tree": 1}}}, r"data\.classes\.sky: {'tree': 1} is no label value"),
        ({"ignore": [[[1]]]}, r"data\.ignore: \[\[1\]\] is no label value"),
    ],
)
def test_contradictions_are_refused(tmp_path, changes, message):
    write_pair(tmp_path, "a")
    with pytest.raises(InputError, match=message):
        folder(tmp_path, **changes)


def test_photographs_of_another_kind_are_told_so(tmp_path):
    write_pair(tmp_path, "a")
    write_pair(tmp_path, "b")
    (tmp_path / "images/b.jpg").rename(tmp_path / "images/b.heic")
    with pytest.raises(InputError, match=r"b\.heic: is of a kind that is not read; save it as JPEG or PNG"):
        folder(tmp_path).check(["train"])
    (tmp_path / "images/a.jpg").rename(tmp_path / "images/a.heic")
    with pytest.raises(InputError, match="images: holds no photograph of a kind that is read"):
        folder(tmp_path).check(["train"])


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(InputError, match=r"images: no such folder; data\.root=PATH names"):
        folder(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match="split train has no pair in it; put images in images/"):
        folder(tmp_path).check()


def test_a_fault_of_the_label_table_is_told_once_for_all_its_files(tmp_path):
    for i in range(6):
        write_pair(tmp_path, f"train/p{i}", np.full((6, 8), 255 * (i > 0), np.uint8) * (np.arange(8) < i + 1))
    write_pair(tmp_path, "train/q", np.full((6, 8), 7, np.uint8))
    with pytest.raises(InputError) as caught:
        folder(tmp_path).check(["train"])
    first, other = str(caught.value).splitlines()
    assert first.startswith(f"{tmp_path}/masks/train/p1.png: label values outside the label table: 255 (12 pixels); ")
    assert first.endswith("; the same in 4 more: masks/train/p2.png, masks/train/p3.png, masks/train/p4.png, ...")
    assert other.startswith(f"{tmp_path}/masks/train/q.png: ") and other.endswith("leave them out (data.ignore)")


def test_a_mask_drawn_on_a_photograph_before_its_exif_turns_it(tmp_path):
    write_pair(tmp_path, "train/a")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "images/train/a.jpg", exif=exif)
    with pytest.raises(InputError, match="is 8x6 and its image 6x8, turned by its EXIF; draw the mask on the turned"):
        folder(tmp_path).check(["train"])
    Image.new("RGB", (6, 8)).save(tmp_path / "images/train/a.jpg")
    with pytest.raises(InputError, match="is 8x6 and its image 6x8; give both the same size"):
        folder(tmp_path).check(["train"])
