"""`seglab stats` against sums over the files themselves, and against what training uses."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from seglab.cli import stats
from seglab.cli.build import build_datamodule
from seglab.cli.build_loss import class_weights
from seglab.cli.data_command import compose_data


@pytest.fixture
def seglab_stats(monkeypatch, tmp_path, capfd):
    """Runs the command in this process; returns its stdout, stderr and status."""
    monkeypatch.setenv("SEGLAB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["seglab stats", *map(str, words)])
        status = 0
        try:
            stats.main()
        except SystemExit as end:
            status = end.code
        return *capfd.readouterr(), status

    return run


@pytest.fixture
def keys(folder):
    """The keys of a dataset of nine training images, with a class that none of them has."""
    for split, numbers in {"train": range(9), "val": [9], "test": [10, 11]}.items():
        (folder / f"{split}.txt").write_text("\n".join(f"p{i:02d}" for i in numbers))
    return ["data=folder", f"data.root={folder}", "data.classes=[sky,tree,road,'the [red] sea']", "data.crop_size=32"]


def pixels_and_labels(root, windows=((slice(None), slice(None)),)):
    pixels, labels = [], []
    for i in range(9):
        image = np.asarray(Image.open(root / "images" / f"p{i:02d}.jpg"))
        mask = np.asarray(Image.open(root / "masks" / f"p{i:02d}.png"))
        pixels += [image[part].reshape(-1, 3) for part in windows]
        labels += [mask[part].ravel() for part in windows]
    return np.concatenate(pixels) / 255, np.bincount(np.concatenate(labels), minlength=4)


def images_with_classes(root):
    labels = [set(np.unique(np.asarray(Image.open(path)))) for path in sorted((root / "masks").iterdir())]
    splits = {"train": labels[:9], "val": labels[9:10], "test": labels[10:12]}
    names = ["sky", "tree", "road", "the [red] sea"]
    return {
        name: {split: sum(number in each for each in has) for split, has in splits.items()}
        for number, name in enumerate(names)
    }


def test_json_has_the_figures_of_the_files(seglab_stats, keys, folder):
    out, err, status = seglab_stats(*keys, "--json")
    assert status == 0, err
    figures = json.loads(out)
    pixels, areas = pixels_and_labels(folder)
    assert status == 0
    np.testing.assert_allclose(figures["mean"], pixels.mean(0), rtol=1e-9)
    np.testing.assert_allclose(figures["std"], pixels.std(0), rtol=1e-9)
    assert list(figures["classes"]) == ["sky", "tree", "road", "the [red] sea"]
    images = images_with_classes(folder)
    for (name, row), area in zip(figures["classes"].items(), areas, strict=True):
        weight = areas.sum() / area if area else 0
        assert row.pop("images") == images[name]
        assert row == pytest.approx({"area": area, "share": area / areas.sum(), "weight": weight})
    stand = {key: figures[key] for key in ("dataset", "root", "split", "images", "samples", "resize", "crop")}
    assert list(stand.values()) == ["folder", str(folder), "train", 9, 9, None, "random"]


def test_five_windows_are_measured_and_are_what_training_takes(seglab_stats, keys, folder):
    words = [*keys, "data.crop=five"]
    out, _, _ = seglab_stats("--json", *words)
    figures = json.loads(out)
    corners = [(slice(top, top + 32), slice(left, left + 32)) for top in (0, 8) for left in (0, 16)]
    pixels, areas = pixels_and_labels(folder, [*corners, (slice(4, 36), slice(8, 40))])
    np.testing.assert_allclose(figures["mean"], pixels.mean(0), rtol=1e-9)
    assert [row["area"] for row in figures["classes"].values()] == areas.tolist()
    assert figures["samples"] == 45

    cfg = compose_data([*words, "loss=weighted_cross_entropy"])
    assert class_weights(cfg, build_datamodule(cfg)) == [row["weight"] for row in figures["classes"].values()]


def test_tables_name_everything(seglab_stats, keys, folder, caplog):
    out, _, status = seglab_stats(*keys, "data.resize=20")
    figures = json.loads(seglab_stats(*keys, "data.resize=20", "--json")[0])
    assert status == 0
    assert f"folder in {folder}, split train: 9 images (shorter side 20); data.crop=random: whole images" in out
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if "│" in line]
    for key in ("mean", "std"):
        assert [key, *(f"{value:.5f}" for value in figures[key])] in rows
    for name, row in figures["classes"].items():
        images = [str(count) for count in row["images"].values()]
        assert [name, str(row["area"]), f"{row['share']:.3%}", f"{row['weight']:.4g}", *images] in rows
    assert "no training pixel is labelled the [red] sea" in caplog.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=vok9"], "data=vok9 is not known: did you mean voc9"),
        (["data=voc9"], "data.root must be given: add data.root=VALUE"),
        (["voc9"], "voc9 is no key of the config: write KEY=VALUE"),
        (["data=shapes", "--jsn"], "unrecognized arguments: --jsn"),
        (["data=shapes", "data.crop=four"], "data.crop=four: choose one of random, center, five"),
        (["data=shapes", "data.rezise=32"], "the config has no key data.rezise: did you mean data.resize"),
        (["data=voc9", "data.root=/nowhere"], "data.root=/nowhere: has no ImageSets/Segmentation"),
    ],
)
def test_a_mistake_is_one_line(seglab_stats, words, message):
    out, err, status = seglab_stats(*words)
    assert (out, status) == ("", 2)
    assert err.startswith(f"error: {message}") and err.count("\n") == 1


def test_help_has_an_example_and_the_keys(seglab_stats):
    out, _, status = seglab_stats("--help")
    assert status == 0
    assert "seglab stats data=voc9 data.root=PATH" in out and "data.resize=PIXELS" in out and "--json" in out


def test_made_scenes_have_no_root(seglab_stats):
    keys = ["data.source.train=6", "data.source.val=1", "data.source.test=1", "data.crop_size=32"]
    figures = json.loads(seglab_stats("data=shapes", *keys, "--json")[0])
    assert (figures["dataset"], figures["root"], figures["images"]) == ("shapes", None, 6)
    assert 0 < figures["labelled_area"] <= 6 * 32 * 32
