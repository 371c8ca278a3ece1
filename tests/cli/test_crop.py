"""`seglab crop`: its dataset is the one that data.crop=five makes while training, cut runs and strangers included."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from PIL import Image

from seglab.cli import crop
from seglab.cli.build import build_datamodule
from seglab.cli.command_line import quoted
from seglab.cli.data_command import compose_data

SHAPES = ["data=shapes", "data.source.val=2", "data.source.test=2", "data.crop_size=48"]


@pytest.fixture
def seglab_crop(monkeypatch, tmp_path_factory, capsys):
    """Runs the command in this process; returns its stdout, stderr and status."""
    monkeypatch.setenv("SEGLAB_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["seglab crop", *map(str, words)])
        status = 0
        try:
            crop.main()
        except SystemExit as end:
            status = end.code
        return *capsys.readouterr(), status

    return run


@pytest.fixture
def keys(folder):
    """The keys of a dataset with split folders, sub-folders, ignored pixels and an image smaller than a crop."""
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        for i in range(12):
            split = {10: "val", 11: "test"}.get(i, "train/day" if i % 2 else "train")
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
            (folder / kind / f"p{i:02d}.{suffix}").rename(folder / kind / split / f"p{i:02d}.{suffix}")
    Image.new("RGB", (20, 50), (9, 8, 7)).save(folder / "images/train/small.jpg")
    Image.new("L", (20, 50), 255).save(folder / "masks/train/small.png")
    classes = "data.classes=[sky,'the \"red\" sea, at night','null']"
    return ["data=folder", f"data.root={folder}", classes, "data.ignore=[255]", "data.crop_size=32"]


def training_command(out):
    """The keys of the command that the last line of the output offers."""
    words = shlex.split(out.splitlines()[-1])
    assert words[:2] == ["python", "train.py"]
    return words[2:]


def samples(cfg):
    """Training samples by name, those of an image numbered, and the evaluation samples of val and test by name."""
    datamodule = build_datamodule(cfg)
    train = datamodule.train_dataloader().dataset
    train.samples = replace(train.samples, augment=None)
    found = {}
    for index in range(len(train)):
        sample = train[0, index]
        number = f"_{index % 5}" if cfg.data.crop == "five" else ""
        found[sample["name"].removeprefix("train/") + number] = sample
    evaluation = [sample for split in ("val", "test") for sample in datamodule.eval_dataloader(split).dataset]
    return found, {sample["name"].rpartition("/")[2]: sample for sample in evaluation}


def assert_same(samples, others):
    assert samples.keys() == others.keys()
    for name, sample in samples.items():
        for key in ("image", "mask"):
            assert torch.equal(sample[key], others[name][key]), (name, key)


def content(out):
    """Bytes and time of change of each file of a crop."""
    files = (path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def bytes_of(out):
    return {name: data for name, (data, _) in content(out).items()}


def test_training_on_it_sees_the_pixels_of_the_five_windows(seglab_crop, keys, tmp_path):
    out = tmp_path / "my crops, 32"
    said, err, status = seglab_crop(*keys, "-o", out)
    assert status == 0, err
    assert "train 55 crops of 32x32, val 1 and test 1 whole images (114 files written, 0 kept)" in said
    cfg = compose_data(training_command(said))
    assert list(cfg.data.class_names) == ["sky", 'the "red" sea, at night', "null"]
    train, evaluation = samples(cfg)
    own_train, own_evaluation = samples(compose_data([*keys, "data.crop=five"]))
    assert_same(train, own_train)
    assert_same(evaluation, own_evaluation)
    assert len(train) == 55 and (train["small_0"]["mask"] == 3).all()
    mask = Image.open(out / "masks/train/day/p01_4.png")
    assert mask.mode == "P" and mask.getpalette()[3:6] == [128, 0, 0]


def test_resized_photographs_of_voc(seglab_crop, voc9_288, tmp_path):
    root = tmp_path / "voc"
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for kind, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        (root / kind).mkdir()
        for split, count in {"train": 4, "val": 1, "test": 1}.items():
            names = (voc9_288 / "ImageSets/Segmentation" / f"{split}.txt").read_text().split()[:count]
            (lists / f"{split}.txt").write_text("\n".join(names))
            for name in names:
                shutil.copy(voc9_288 / kind / f"{name}.{suffix}", root / kind)
    keys = ["data=voc9", f"data.root={root}", "data.resize=200", "data.crop_size=160"]
    said, err, status = seglab_crop(*keys, "-o", tmp_path / "crops")
    assert status == 0, err
    assert "val and test are resized as well (data.resize=200)" in said
    train, evaluation = samples(compose_data(training_command(said)))
    own_train, own_evaluation = samples(compose_data([*keys, "data.crop=five"]))
    assert_same(train, own_train)
    assert any((sample["mask"] == 9).any() for sample in train.values())
    for name, sample in evaluation.items():
        assert torch.equal(sample["image"], own_evaluation[name]["image"])
        assert sample["mask"].shape == sample["image"].shape[1:]


def test_a_killed_command_is_completed_by_the_same_one(seglab_crop, environment, tmp_path):
    words = [*SHAPES, "data.source.train=100", "-o"]
    out = tmp_path / "cut"
    line = [sys.executable, "-m", "seglab", "crop", *words, str(out)]
    process = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(list(out.glob("masks-unfinished/train/*.png"))) < 20 and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (out / "images").exists() and not (out / "masks").exists()
    before = {name.replace("-unfinished", ""): value for name, value in content(out).items() if ".partial" not in name}

    said, err, status = seglab_crop(*words, out)
    assert status == 0, err
    assert f"({1008 - len(before) + 1} files written, {len(before) - 1} kept)" in said
    after = content(out)
    assert {name: after[name] for name in before} == before
    assert seglab_crop(*words, tmp_path / "whole")[2] == 0
    assert bytes_of(out) == bytes_of(tmp_path / "whole")


def test_lost_damaged_and_half_written_files_are_made_again(seglab_crop, keys, tmp_path):
    out = tmp_path / "crops"
    seglab_crop(*keys, "-o", out)
    whole = content(out)
    (out / "images/train/p00_2.png").unlink()
    (out / "masks/train/p02_1.png").write_bytes(b"")
    truncated = out / "images/val/p10.png"
    truncated.write_bytes(truncated.read_bytes()[:-20])
    (out / "images/train/.p00_2.png.partial").write_bytes(b"half")
    said, err, status = seglab_crop(*keys, "-o", out)
    assert status == 0, err
    assert "(3 files written, 111 kept)" in said
    assert bytes_of(out) == {name: data for name, (data, _) in whole.items()}
    assert sum(content(out)[name] != whole[name] for name in whole) == 3


def test_other_content_is_refused_and_left_alone(seglab_crop, keys, folder, tmp_path):
    out = tmp_path / "crops"
    seglab_crop(*keys, "-o", out)
    before = content(out)

    def refused(words, message):
        said, err, status = seglab_crop(*words)
        assert (said, status) == ("", 2)
        assert message in err and err.count("\n") == 1
        assert content(out) == before

    refused([*keys, "data.crop_size=24", "-o", out], "other settings (crop_size 32 there and 24 here)")
    refused([*keys, "data.resize=36", "-o", out], "resize None there and 36 here")
    refused([*keys, "data.crop_size=500", "-o", tmp_path / "new"], "data.crop_size=500 is over twice the largest")
    refused([*keys, "-o", folder], "holds something else than crops (it has no crop.json)")
    refused([*keys, "-o", out / "crop.json"], "holds something else than crops")
    refused([*keys, "-o", folder / "images/crops"], "lies among the files of the dataset that is read")
    Image.new("RGB", (40, 40)).save(folder / "images/train/p00.jpg")
    Image.new("L", (40, 40)).save(folder / "masks/train/p00.png")
    refused([*keys, "-o", out], "holds crops of other data, or the data has changed since")
    record = json.loads((out / "crop.json").read_text())
    (out / "crop.json").write_text(json.dumps(record)[:-5])
    before = content(out)
    refused([*keys, "-o", out], "crop.json cannot be read as the record of a crop")


def test_a_stranger_among_the_crops_is_refused(seglab_crop, keys, tmp_path):
    out = tmp_path / "crops"
    seglab_crop(*keys, "-o", out)
    (out / "images/train/holiday.png").write_bytes(b"")
    _, err, status = seglab_crop(*keys, "-o", out)
    assert status == 2 and "images/train/holiday.png is no crop of this dataset" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=shapes"], "the following arguments are required: -o/--out"),
        ([*SHAPES, "data.crop=center", "-o", "x"], "data.crop=center: this command writes five crops"),
        (["data=voc9", "-o", "x"], "data.root must be given"),
        ([*SHAPES, "data.resize=0", "-o", "x"], "data.resize=0: give a whole number of at least 1"),
        ([*SHAPES, "data.source.train=1", "-o", "/dev/null/x"], "/dev/null/x: cannot be written (Not a directory)"),
    ],
)
def test_a_mistake_is_one_line(seglab_crop, words, message):
    said, err, status = seglab_crop(*words)
    assert (said, status) == ("", 2)
    assert err.startswith(f"error: {message}") and err.count("\n") == 1


def test_help_has_an_example_and_the_keys(seglab_crop):
    said, _, status = seglab_crop("--help")
    assert status == 0 and "-o voc9_crops" in said and "data.crop_size=PIXELS" in said and "five windows" in said


@pytest.mark.parametrize(
    "text", ["cat", "a b", "null", "TRUE", "12", 'say "hi"', "a, [b]", "/x/y z", "é=1", "a\\", "'"]
)
def test_quoted_texts_come_back_from_the_command_line(text):
    cfg = compose_data(["data=folder", "data.root=x", f"data.classes=[{quoted(text)},other]"])
    assert list(cfg.data.classes) == [text, "other"]
    assert compose_data(["data=folder", "data.classes=[a]", f"data.root={quoted(text)}"]).data.root == text
