"""What the report's page holds, read without a browser."""

import base64
import hashlib
import html
import io
import json
import re
import zlib

import numpy as np
import pytest
from PIL import Image

from seglab.errors import InputError
from seglab.lab.comparison import compare
from seglab.lab.groups import Group, group_runs
from seglab.lab.report import write_report
from seglab.lab.report.gallery import NOT_SCORED, PHOTO_SIDE, shrunk
from seglab.lab.report.tables import percent, points
from seglab.lab.runs import find_runs, read_run

CLASSES = ["background", 'a <b> & "c"', "road"]
EVIL = "</script><img src=x onerror=alert(1)>'\"&"
SIZES = [(40, 60), (330, 200), (24, 24)]


def mask_of(size, seed):
    blocks = np.random.default_rng(seed).integers(0, 2 if seed == 2 else 3, (6, 6), dtype=np.uint8)  # 2: without roads
    return np.asarray(Image.fromarray(blocks).resize(size[::-1], Image.Resampling.NEAREST))


LABELS = {f"photo <{i}>": mask_of(size, i) for i, size in enumerate(SIZES)}
for label in LABELS.values():
    label.flags.writeable = False


def label_of(name):
    label = LABELS[name].copy()
    label[:, :2] = 3  # the ignore index
    return label


def confusion_of(predictions):
    pairs = ((label_of(name), preds) for name, preds in predictions.items())
    counts = [np.bincount(3 * label[label < 3] + preds[label < 3], minlength=9).reshape(3, 3) for label, preds in pairs]
    return np.stack(counts).astype(np.int64)


def predictions_of(wrong, seed):
    rng = np.random.default_rng(seed)
    return {name: np.where(rng.random(label.shape) < wrong, (label + 1) % 3, label) for name, label in LABELS.items()}


@pytest.fixture(scope="module")
def sweep(make_run, tmp_path_factory):
    """Two configurations of two seeds, and a run that failed."""
    folder = tmp_path_factory.mktemp("sweep")
    for lr in (0.01, 0.1):
        for seed in (0, 1):
            predictions = predictions_of(2 * lr + 0.05 * seed, [seed, int(1000 * lr)])
            make_run(
                folder / f"lr{lr}-{seed}{EVIL.replace('/', '_') if (lr, seed) == (0.1, 1) else ''}",
                seed=seed,
                changes={"optimizer.lr": lr},
                class_names=CLASSES,
                names=list(LABELS),
                confusion=confusion_of(predictions),
                predictions=predictions,
                summary={"command": f"python train.py optimizer.lr={lr} 'note={EVIL}'"},
            )
    make_run(folder / "cut", status="failed", summary={"error": f"OSError: disk {EVIL}"})
    return folder


def read_pair(name):
    height, width = LABELS[name].shape
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows * 255 // height, columns * 255 // width, 0 * rows], -1).astype(np.uint8)
    return image, label_of(name)


@pytest.fixture(scope="module")
def page(sweep, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "new" / "report.html"
    finished, unfinished = find_runs([sweep])
    comparison = compare(group_runs(finished), resamples=200)
    faults = write_report(comparison, out, title=f"A title {EVIL}", unfinished=unfinished, read_pair=read_pair).faults
    assert faults == []
    return out.read_text()


def script(page, name):
    return re.search(rf'<script type="[\w/]+" id="{name}">(.*?)</script>', page, re.DOTALL)[1]


def unpacked(text, images):
    values, start = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8), 0
    for width, height in (image["size"] for image in images):
        yield values[start : start + width * height].reshape(height, width)
        start += width * height
    assert start == len(values)


def test_packs_are_labels_and_predictions_at_the_same_pixels(page, sweep):
    data = json.loads(script(page, "data"))
    assert [image["name"] for image in data["images"]] == sorted(LABELS)
    labels = list(unpacked(script(page, "pack-labels"), data["images"]))
    for image, label in zip(data["images"], labels, strict=True):
        whole = label_of(image["name"])
        assert (label == shrunk(np.where(whole == 3, NOT_SCORED, whole))).all()
        assert image["classes"] == sorted(set(np.unique(whole).tolist()) - {3})
    finished, _ = find_runs([sweep])
    by_score = compare(group_runs(finished), resamples=200).rows
    runs = [score.run for row in by_score for score in row.runs]
    for place, run in enumerate(runs):
        packed = unpacked(script(page, f"pack-{place}"), data["images"])
        for image, preds in zip(data["images"], packed, strict=True):
            path = run.folder / "evaluation" / "test" / "predictions" / f"{image['name']}.png"
            assert (preds == shrunk(np.asarray(Image.open(path)))).all()
        assert data["runs"][place]["wrong"] == pytest.approx(
            [
                np.mean((np.asarray(Image.open(path)) != LABELS[image["name"]])[label_of(image["name"]) < 3])
                for image in data["images"]
                for path in [run.folder / "evaluation" / "test" / "predictions" / f"{image['name']}.png"]
            ],
            abs=1e-4,
        )


def test_photographs_are_small_jpegs(page):
    photos = json.loads(script(page, "photos"))
    sizes = [Image.open(io.BytesIO(base64.b64decode(photo))).size for photo in photos]
    assert sizes == [(60, 40), (round(PHOTO_SIDE * 200 / 330), PHOTO_SIDE), (24, 24)]


def test_what_users_named_is_text_and_nothing_else(page):
    opened = re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert "<img" not in opened and "onerror" in opened
    assert html.escape(EVIL, quote=False).replace("'", "&#39;").replace('"', "&#34;") in opened
    assert "a &lt;b&gt; &amp; &#34;c&#34;" in opened
    assert page.count("</script>") == page.count("<script")
    assert json.loads(script(page, "data"))["classes"][1]["name"] == CLASSES[1]


def test_the_page_names_every_figure_of_the_comparison(page, sweep):
    finished, _ = find_runs([sweep])
    comparison = compare(group_runs(finished), resamples=200)
    board = page[page.index('<section id="leaderboard"') : page.index('<section id="differences"')]
    for row in comparison.rows:
        assert row.group.label in board and f">{100 * row.score:.2f}<" in board
        assert f"{percent(row.interval[0], 2)} to {percent(row.interval[1], 2)}" in board
        if row.difference:
            assert points(row.difference.estimate) in board and row.difference.verdict in board
    assert "optimizer.lr" in board
    assert [note for note in comparison.notes if html.escape(note) not in board] == []
    heat = page[page.index('<section id="classes"') : page.index('<section id="confusion"')]
    for row in comparison.rows:
        for name in CLASSES:
            mean = np.mean([score.run.evaluation().metrics["iou"][name] for score in row.runs])
            assert f">{percent(mean)}</td>" in heat
    assert re.findall(r"<td>(\d+)</td>", heat) == ["3", "3", "2"]  # images with each class


def test_unfinished_runs_are_listed_with_their_status(page):
    notice = page[page.index('<div class="notice">') : page.index('<section id="leaderboard"')]
    assert "1 run is not finished" in notice and "<strong>cut</strong> failed: OSError: disk" in notice


def test_config_marks_the_keys_that_differ(page):
    config = re.search(r"<pre tabindex.*?</pre>", page, re.DOTALL)[0]
    marked = re.findall(r"<mark>(.*?): ", config)
    assert marked == ["seed", "optimizer.lr"]
    assert "\ntrainer.max_epochs: 100\n" in config


def test_only_the_pages_own_scripts_may_run(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy and "unsafe-inline' script" not in policy and "http" not in policy
    run = [re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1], script(page, "plotly")]
    for text in run:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="(?!data:)', page)


def comparison_of(sweep):
    return compare(group_runs(find_runs([sweep])[0]), resamples=200)


def test_without_the_dataset_predictions_stay(sweep, tmp_path):
    assert write_report(comparison_of(sweep), tmp_path / "r.html", title="t").faults == []
    page = (tmp_path / "r.html").read_text()
    assert script(page, "pack-labels") == "" and json.loads(script(page, "photos")) == ["", "", ""]
    assert len(list(unpacked(script(page, "pack-0"), json.loads(script(page, "data"))["images"]))) == 3
    assert "The photographs and labels were not at hand" in page


def test_a_photograph_that_cannot_be_used_is_said(sweep, tmp_path):
    def damaged(name):
        if "0" in name:
            raise InputError(f"{name}.jpg is damaged")
        image, label = read_pair(name)
        return (image[:20], label[:20]) if "1" in name else (image, label)

    faults = write_report(comparison_of(sweep), tmp_path / "r.html", title="t", read_pair=damaged).faults
    assert faults == ["photo <0>.jpg is damaged", "photo <1>: the label is 200x20 and its prediction 200x330"]
    page = (tmp_path / "r.html").read_text()
    assert [bool(photo) for photo in json.loads(script(page, "photos"))] == [False, False, True]
    assert "2 of the photographs could not be used: photo &lt;0&gt;.jpg is damaged" in page


def test_fewer_images_are_spread_over_all(sweep, tmp_path):
    seen = []

    def track(items, total):
        seen.append(total)
        return items

    write_report(comparison_of(sweep), tmp_path / "r.html", title="t", images=2, track=track)
    page = (tmp_path / "r.html").read_text()
    data = json.loads(script(page, "data"))
    assert [image["name"] for image in data["images"]] == ["photo <0>", "photo <2>"] and seen == [2]
    assert len(data["runs"][0]["wrong"]) == 2 and "2 of the 3 images" in page


def test_a_run_without_predictions_is_shown_without(make_run, tmp_path):
    predictions = {f"test_{i:05d}": np.zeros((8, 8), np.uint8) for i in range(6)}
    folders = [make_run(tmp_path / "0", seed=0), make_run(tmp_path / "1", seed=1, predictions=predictions)]
    write_report(comparison_of(tmp_path), tmp_path / "r.html", title="t")
    page = (tmp_path / "r.html").read_text()
    assert [run["predictions"] for run in json.loads(script(page, "data"))["runs"]] == [False, True]
    assert script(page, "pack-0") == "" != script(page, "pack-1")
    (folders[1] / "evaluation" / "test" / "predictions" / "test_00003.png").write_bytes(b"no PNG")
    with pytest.raises(InputError, match=r"test_00003.png cannot be read .*evaluate.py run=.*1 writes"):
        write_report(comparison_of(tmp_path), tmp_path / "r.html", title="t")


def test_only_a_report_is_written_over(sweep, tmp_path):
    write_report(comparison_of(sweep), tmp_path / "r.html", title="first")
    write_report(comparison_of(sweep), tmp_path / "r.html", title="second")
    assert "<title>second</title>" in (tmp_path / "r.html").read_text()
    (tmp_path / "mine.html").write_text("<p>mine")
    for out, message in ((tmp_path / "mine.html", "is no report of seglab"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=message):
            write_report(comparison_of(sweep), out, title="t")
    assert (tmp_path / "mine.html").read_text() == "<p>mine"
    with pytest.raises(InputError, match="cannot be written"):
        write_report(comparison_of(sweep), tmp_path / "mine.html" / "r.html", title="t")


def test_runs_of_one_label_are_told_apart(make_run, tmp_path):
    runs = [read_run(make_run(tmp_path / name, seed=3)) for name in ("one", "two")]
    groups = [Group("same", [run], {}) for run in runs]
    write_report(compare(groups, resamples=200), tmp_path / "r.html", title="t")
    data = json.loads(script((tmp_path / "r.html").read_text(), "data"))
    assert {run["label"] for run in data["runs"]} == {"same (one)", "same (two)"}
