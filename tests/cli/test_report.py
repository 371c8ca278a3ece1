"""`seglab report` from the command line: what it writes, where the dataset has moved, and what it refuses."""

import json
import re
import shutil

import pytest

POCKET = ["model=unet4", "model.width=0.02", "logger=csv", "trainer.max_epochs=1"]


def script(page, name):
    return re.search(rf'<script type="[\w/]+" id="{name}">(.*?)</script>', page.read_text(), re.DOTALL)[1]


@pytest.fixture(scope="module")
def sweep(trained, tmp_path_factory):
    """The finished run, twice with another seed, and one that still runs."""
    folder = tmp_path_factory.mktemp("sweeps") / "mine"
    for name in ("a", "b", "cut"):
        shutil.copytree(trained, folder / name)
    for name, seed in (("a", 0), ("b", 1)):
        for file in (folder / name / "summary.json", folder / name / ".hydra" / "resolved.json"):
            file.write_text(json.dumps(json.loads(file.read_text()) | {"seed": seed}))
    summary = folder / "cut" / "summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"status": "running"}))
    return folder


def test_a_sweep_becomes_one_page(call, sweep, tmp_path):
    page = tmp_path / "pages" / "r.html"
    status, out, err = call("report", sweep, "-o", page)
    assert (status, err) == (0, "")
    assert out == f"{page} ({page.stat().st_size / 1e6:.1f} MB) compares 2 runs: open it in a browser\n"
    text = page.read_text()
    assert "<title>mine</title>" in text and "<strong>cut</strong> cut" in text
    data = json.loads(script(page, "data"))
    assert [run["seed"] for run in data["runs"]] == [0, 1] and len(data["images"]) == 4
    assert all(json.loads(script(page, "photos"))) and script(page, "pack-labels")


def test_pooled_seeds_are_said_on_the_page(call, sweep, trained, tmp_path):
    page = tmp_path / "r.html"
    status, _, err = call("report", sweep, "--pool-seeds", "-o", page)
    assert status == 0, err
    assert "The seeds of all configurations are taken to spread alike" in page.read_text()
    status, _, err = call("report", trained, "--pool-seeds", "-o", page)
    assert status == 2 and "no configuration has two seeds" in err


def test_without_pictures_the_gallery_is_a_sentence(call, trained, tmp_path, monkeypatch):
    monkeypatch.setattr("seglab.cli.report.LARGE", 0)
    monkeypatch.setattr("seglab.cli.report.pair_reader", lambda *_: None)
    run, page = shutil.copytree(trained, tmp_path / "run"), tmp_path / "r.html"
    status, _, err = call("report", run, "--images", 2, "-o", page)
    assert status == 0 and "warning: the page is large: --images 1 would halve it" in err
    assert "it shows the predictions alone" in page.read_text() and 'id="images"' in page.read_text()
    shutil.rmtree(run / "evaluation" / "test" / "predictions")
    (tmp_path / "unwhole" / ".hydra").mkdir(parents=True)
    status, _, err = call("report", tmp_path, "--images", 2, "-o", page)
    assert (status, err) == (0, "")
    text = page.read_text()
    assert "There are no pictures" in text and "predictions alone" not in text and 'id="images"' not in text
    assert f"{tmp_path / 'unwhole'} is left out: summary.json is missing." in text


def test_options(call, trained, tmp_path):
    page = tmp_path / "r.html"
    words = ["--title", "A <title>", "--metric", "pixel_accuracy", "--images", 2, "--baseline", trained, "-o", page]
    status, _, err = call("report", trained, *words)
    assert (status, err) == (0, "")
    data = json.loads(script(page, "data"))
    assert "<h1>A &lt;title&gt;</h1>" in page.read_text()
    assert data["metric"] == "pixel accuracy" and len(data["images"]) == 2
    score = json.loads((trained / "evaluation" / "test" / "metrics.json").read_text())["pixel_accuracy"]
    assert data["runs"][0]["score"] == pytest.approx(score)


def test_a_metric_is_named_in_words(call, trained, tmp_path):
    for metric, words in [("boundary_miou", "Boundary mIoU"), ("iou/disc", "IoU of disc"), ("miou", "mIoU")]:
        status, _, err = call("report", trained, "--metric", metric, "-o", tmp_path / "r.html")
        assert status == 0, err
        assert f'<p class="about">{words} on test' in (tmp_path / "r.html").read_text()


def test_a_dataset_that_has_moved(call, folder, tmp_path):
    run, page = tmp_path / "run", tmp_path / "r.html"
    data = ["data=folder", f"data.root={folder}", "data.classes=[sky,tree,road]", "data.crop_size=32"]
    data += ["data.splits={train: 0.5, val: 0.25, test: 0.25}", "data.batch_size=3"]
    status, _, err = call("train", *POCKET, *data, f"hydra.run.dir={run}")
    assert status == 0, err
    folder.rename(tmp_path / "moved")

    status, out, err = call("report", run, "-o", page)
    assert status == 0 and err.count("\n") == 1
    assert err.startswith("warning: the gallery has no photographs and labels") and "--data-root PATH" in err
    assert script(page, "pack-labels") == "" and script(page, "pack-0")

    status, _, err = call("report", run, "-o", page, "--data-root", tmp_path / "moved")
    assert (status, err) == (0, "")
    assert all(json.loads(script(page, "photos"))) and script(page, "pack-labels")

    name = json.loads(script(page, "data"))["images"][1]["name"]
    (tmp_path / "moved" / "images" / f"{name}.jpg").write_bytes(b"no photograph")
    status, _, err = call("report", run, "-o", page, "--data-root", tmp_path / "moved")
    assert status == 0 and err.startswith("warning: 1 image is shown without photograph and label: ") and name in err
    assert [bool(photo) for photo in json.loads(script(page, "photos"))] == [True, False, True, True]

    status, _, err = call("report", run, "-o", page, "--data-root", tmp_path / "nowhere")
    assert status == 2 and err.startswith("error: --data-root: ") and "nowhere" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{run}", "--metric", "iou/cat"], "iou/cat"),
        (["{run}", "--baseline", "nobody"], "--baseline nobody is none of the runs"),
        (["{run}", "--split", "val"], "python evaluate.py run="),
        (["{run}", "--images", "0"], "argument --images: 0 is not a whole number above 0; `seglab report --help`"),
        (["{run}", "--data-root", "."], "was trained on data=shapes, which has no folder"),
        (["{run}", "-o", "{tmp}"], "is a folder: give the file to write"),
        (["{run}", "-o", "{tmp}/mine.html"], "is no report of seglab"),
        (["{tmp}"], "holds no run"),
        ([], "the following arguments are required: RUN|SWEEP"),
    ],
)
def test_a_mistake_is_one_line(call, trained, tmp_path, words, message):
    (tmp_path / "mine.html").write_text("mine")
    words = [word.format(run=trained, tmp=tmp_path) for word in words]
    if "-o" not in words:
        words += ["-o", str(tmp_path / "r.html")]
    status, out, err = call("report", *words)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.html"]
    assert (tmp_path / "mine.html").read_text() == "mine"


def test_only_unfinished_runs_make_no_page(call, sweep, tmp_path):
    status, out, err = call("report", sweep / "cut", "-o", tmp_path / "r.html")
    assert (status, out) == (2, "")
    assert err == f"error: {sweep / 'cut'}: no run has finished, so there is nothing to compare\n"
    assert not (tmp_path / "r.html").exists()


def test_help_names_the_options(call):
    status, out, _ = call("report", "--help")
    assert status == 0
    for option in ("--baseline", "--metric", "--split", "--title", "--images", "--data-root", "report.html"):
        assert option in out
