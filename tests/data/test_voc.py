import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.data.labels import colormap
from seglab.data.voc import VOC_CLASSES, VocFolder
from seglab.errors import InputError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "voc9_288"
VOC9 = ["background", "cat", "chair", "cow", "dog", "horse", "person", "sheep", "sofa"]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SEGLAB_CACHE_DIR", str(folder))
    return folder


def write_labels(path, labels):
    picture = Image.frombytes("P", labels.shape[::-1], labels.astype(np.uint8).tobytes())
    picture.putpalette(colormap().tobytes())
    picture.save(path)


@pytest.fixture
def devkit(tmp_path):
    """Six pairs of 20 x 30: stripes of background, cat, bicycle and boundary."""
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    labels = np.repeat(np.array([0, 8, 2, 255], np.uint8), 5)[:, None].repeat(30, 1)
    names = [f"2007_00000{i}" for i in range(6)]
    for i, name in enumerate(names):
        Image.new("RGB", (30, 20), (40 * i, 0, 0)).save(root / "JPEGImages" / f"{name}.jpg")
        write_labels(root / "SegmentationClass" / f"{name}.png", labels)
    for split, listed in {"train": names[:3], "val": names[3:5], "test": names[5:]}.items():
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(listed) + "\n")
    return root


def voc(root, **changes):
    return VocFolder(**{"root": root, "classes": ["background", "cat"], "ignore_index": 2} | changes)


@pytest.mark.parametrize(("other", "bicycle"), [("ignore", 2), ("background", 0)])
def test_pairs_are_those_of_the_lists(devkit, other, bicycle):
    source = voc(devkit, other=other)
    assert source.class_names == ("background", "cat") and source.ignore_index == 2
    assert source.names("train").tolist() == ["2007_000000", "2007_000001", "2007_000002"]
    assert source.names("test").tolist() == ["2007_000005"]
    image, mask = source.read("val", 1)
    assert image.shape == (20, 30, 3) and abs(int(image[0, 0, 0]) - 160) < 4
    np.testing.assert_array_equal(mask[:, 7], np.repeat([0, 1, bicycle, 2], 5))
    source.check()
    np.testing.assert_array_equal(source.sizes("train"), [[20, 30]] * 3)


def test_the_order_of_the_classes_is_that_of_the_indices(devkit):
    _, mask = voc(devkit, classes=["bicycle", "cat", "background"], ignore_index=3, other="background").read("val", 0)
    np.testing.assert_array_equal(mask[:, 0], np.repeat([2, 1, 0, 3], 5))


def test_the_root_may_be_above_the_devkit(devkit):
    assert voc(devkit.parent).root == devkit
    (devkit.parent / "VOCdevkit").mkdir()
    devkit.rename(devkit.parent / "VOCdevkit" / "VOC2012")
    assert len(voc(devkit.parent).names("train")) == 3


def test_no_devkit_says_how_to_get_one(tmp_path):
    with pytest.raises(InputError, match=r"data\.root=.*data\.download=true"):
        voc(tmp_path / "nowhere")


def test_lists_that_voc2012_does_not_have_are_refused_before_the_download(tmp_path):
    with pytest.raises(
        InputError, match=r"data\.splits\.test=test: VOC2012 has no such list, only train, val, trainval"
    ):
        voc(tmp_path / "nowhere", download=True)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["background", "bycicle"]}, "'bycicle' is not a VOC class; did you mean bicycle?"),
        ({"classes": ["background", "zzz"]}, "'zzz' is not a VOC class; give some of background, aeroplane"),
        ({"classes": ["cat", "dog"], "other": "background"}, "data.classes has no background"),
        ({"classes": ["cat", "cat"]}, "'cat' stands twice"),
        ({"classes": "cat"}, r"data\.classes=cat: give a list"),
        ({"other": "cat"}, "data.other=cat"),
    ],
)
def test_wrong_classes_are_named(devkit, changes, message):
    with pytest.raises(InputError, match=message):
        voc(devkit, **changes)


def test_a_missing_list_offers_the_others(devkit):
    (devkit / "ImageSets/Segmentation/test.txt").unlink()
    with pytest.raises(InputError, match=r"test\.txt: no such list.*train, val \(data\.splits\.test="):
        voc(devkit).names("test")
    source = voc(devkit, splits={"test": "val"})
    np.testing.assert_array_equal(source.names("test"), source.names("val"))
    source.check()  # the same list twice is meant, not a leak
    np.testing.assert_array_equal(source.sizes("test"), [[20, 30]] * 2)


def test_empty_lists_and_unknown_splits_are_refused(devkit):
    (devkit / "ImageSets/Segmentation/val.txt").write_text("\n\n")
    with pytest.raises(InputError, match=r"val\.txt: is empty"):
        voc(devkit).names("val")
    with pytest.raises(InputError, match="split=validation: give one of train, val, test"):
        voc(devkit).names("validation")


def test_check_lists_every_fault(devkit):
    images, labels, lists = devkit / "JPEGImages", devkit / "SegmentationClass", devkit / "ImageSets/Segmentation"
    (images / "2007_000000.jpg").unlink()
    (labels / "2007_000000.png").write_bytes(b"")
    (images / "2007_000001.jpg").write_bytes((images / "2007_000001.jpg").read_bytes()[:-200])
    write_labels(labels / "2007_000002.png", np.full((20, 30), 77))
    write_labels(labels / "2007_000003.png", np.zeros((30, 20)))
    (lists / "test.txt").write_text("2007_000005\n2007_000004\n2007_000005\n")
    with pytest.raises(InputError) as caught:
        voc(devkit).check()
    lines = str(caught.value).splitlines()
    for start, text in [
        (images / "2007_000000.jpg", "no such file"),
        (labels / "2007_000000.png", "is empty (zero bytes)"),
        (images / "2007_000001.jpg", "truncated"),
        (labels / "2007_000002.png", "77 (600 pixels)"),
        (labels / "2007_000003.png", "is 20x30 and its image 30x20"),
        (devkit, "2007_000005 stands twice in the split test"),
        (devkit, "2007_000004 is in both val and test"),
    ]:
        assert sum(line.startswith(f"{start}: ") and text in line for line in lines) == 1, text
    assert len(lines) == 7


def test_check_lists_as_many_faults_as_there_are(devkit):
    names = [f"absent{i:03}" for i in range(60)]
    (devkit / "ImageSets/Segmentation/train.txt").write_text("\n".join(names))
    with pytest.raises(InputError) as caught:
        voc(devkit).check(["train"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 121 and "absent000.jpg" in lines[0] and "absent059.png" in lines[-2]
    assert lines[-1] == f"{devkit}: 120 faults in all"


def test_a_checked_data_set_is_not_read_again_until_it_changes(devkit, monkeypatch):
    voc(devkit).check()
    with monkeypatch.context() as patched:
        patched.setattr(VocFolder, "read", lambda *_: pytest.fail("is read again"))
        voc(devkit).check()
        np.testing.assert_array_equal(voc(devkit).sizes("val"), [[20, 30]] * 2)
    path = devkit / "JPEGImages" / "2007_000004.jpg"
    stamp, content = path.stat(), path.read_bytes()
    path.write_bytes(bytes(len(content)))  # the same size, and the same time of writing, as of another archive
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(InputError, match="2007_000004.jpg: is not an image"):
        voc(devkit).check()


def test_a_fault_is_not_remembered_as_a_success(devkit):
    path = devkit / "JPEGImages" / "2007_000004.jpg"
    content = path.read_bytes()
    path.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(InputError, match="zero bytes"):
            voc(devkit).check()
    path.write_bytes(content)
    voc(devkit).check()


def test_the_fingerprint_follows_files_and_parameters(devkit):
    first = voc(devkit).fingerprint()
    assert first == voc(devkit).fingerprint() and int(first, 16) > 0
    assert first != voc(devkit, other="background").fingerprint()
    assert first != voc(devkit, splits={"test": "val"}).fingerprint()
    assert first != voc(devkit, classes=["cat", "background"]).fingerprint()
    write_labels(devkit / "SegmentationClass" / "2007_000005.png", np.zeros((20, 30)))
    assert first != voc(devkit).fingerprint()


def test_the_content_digest_is_that_of_a_copy_and_follows_the_bytes(devkit, tmp_path):
    first = voc(devkit).content_digest()
    copy = shutil.copytree(devkit, tmp_path / "elsewhere")
    for path in copy.rglob("*.*"):
        os.utime(path, (1, 1))
    assert voc(copy).fingerprint() != voc(devkit).fingerprint()
    assert voc(copy).content_digest() == first != voc(devkit, other="background").content_digest()
    path = copy / "JPEGImages" / "2007_000004.jpg"
    path.write_bytes(path.read_bytes() + b"0")
    assert voc(copy).content_digest() != first
    path.unlink()
    with pytest.raises(InputError, match="2007_000004"):
        voc(copy).content_digest()


def test_a_damaged_or_unwritable_cache_costs_only_time(devkit, cache, caplog, monkeypatch):
    voc(devkit).check()
    for entry in cache.rglob("*.npz"):
        entry.write_bytes(entry.read_bytes()[:50])
    voc(devkit).check()
    assert not list(cache.rglob(".*")), "a temporary file was left behind"
    (cache / "file").touch()
    monkeypatch.setenv("SEGLAB_CACHE_DIR", str(cache / "file"))
    voc(devkit).check()
    assert "SEGLAB_CACHE_DIR" in caplog.text


def test_a_source_can_be_sent_to_a_spawned_worker(devkit):
    source = voc(devkit)
    source.check()
    copy = pickle.loads(pickle.dumps(source))
    for mine, theirs in zip(source.read("train", 2), copy.read("train", 2), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(copy.sizes("val"), source.sizes("val"))


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the VOC photographs are not at {SHARED}")
def test_real_photographs():
    source = VocFolder(SHARED, VOC9, ignore_index=9)
    source.check()
    counts = [len(source.names(split)) for split in ("train", "val", "test")]
    assert counts == [750, 100, 150]
    assert (source.sizes("test").min(1) == 288).all()
    for i in range(5):
        image, mask = source.read("test", i)
        assert image.shape == (*source.sizes("test")[i], 3)
        with Image.open(SHARED / "SegmentationClass" / f"{source.names('test')[i]}.png") as picture:
            raw = np.asarray(picture)
        for index, name in enumerate(VOC9):
            np.testing.assert_array_equal(mask == index, raw == VOC_CLASSES.index(name))
        assert (mask[raw == 255] == 9).all()
