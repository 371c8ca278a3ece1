"""`seglab compare` in the terminal and in files."""

import csv
import io
import json
import re
import shutil

import pytest
from run_folders import random_confusion

from seglab.cli.compare import main


@pytest.fixture(scope="module")
def sweep(make_run, tmp_path_factory):
    """Two learning rates with three and two seeds, twenty points apart, a third much like the first; one run failed."""
    folder = tmp_path_factory.mktemp("sweep") / "lr"
    rates = {0.001: (0.6, 3), 0.01: (0.8, 2), 0.1: (0.601, 2)}
    for rate, (accuracy, seeds) in rates.items():
        for seed in range(seeds):
            confusion = random_confusion(40, seed=seed + int(1e6 * rate), accuracy=accuracy)
            changes = {"optimizer.lr": rate, "model.dropout": 0.5 if rate == 0.1 else 0.0}
            make_run(folder / f"{rate}-{seed}", seed=seed, confusion=confusion, changes=changes)
    make_run(folder / "cut", seed=9, status="failed")
    return folder


@pytest.fixture
def compare(call):
    def run(*words):
        return call("compare", *words, "--resamples", "200")

    return run


def test_the_table_says_what_is_better(compare, sweep):
    status, out, err = compare(sweep)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("miou in %, test: 40 images, 9 classes, protocol full; 95 % intervals by 200 resamples;")
    assert lines[0].endswith("differences to dropout=0.0, lr=0.001, in points")
    assert lines[1].split()[:4] == ["label", "model.dropout", "optimizer.lr", "seeds"]
    best, *others = lines[3:6]
    assert best.startswith("dropout=0.0, lr=0.01") and re.search(r" \+23\.\d\d .* better +0\.00\d", best)
    assert (
        sum("baseline" in line for line in others) == 1 and sum("no difference shown" in line for line in others) == 1
    )
    assert any(line.startswith("dropout=0.5, lr=0.1: ") and "as large a difference" in line for line in lines[6:])
    assert f"note: {sweep / 'cut'} is left out: failed." in lines


@pytest.mark.parametrize("width", [80, 110, 200])
def test_the_table_fits_the_terminal(sweep, monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.argv", ["seglab compare", str(sweep), "--resamples", "200"])
    main()
    _, *lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if not line.startswith(("note: ", "dropout=0.5, lr=0.1: "))]
    assert max(map(len, table)) <= width
    assert not any("…" in line for line in table)  # nothing is cut
    assert ("optimizer.lr" in table[0]) == (width == 200)
    assert any("No room for the columns model.dropout, optimizer.lr" in line for line in lines) == (width < 200)
    words = " ".join(table).split()
    assert words.count("better") == 1 and words.count("baseline") == 1


@pytest.mark.parametrize("width", [40, 60])
def test_a_narrow_terminal_has_labels_and_verdicts(sweep, monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.argv", ["seglab compare", str(sweep), "--resamples", "200"])
    main()
    out = capsys.readouterr().out
    table = [line for line in out.splitlines()[1:] if not line.startswith(("note: ", "dropout=0.5, lr=0.1: "))]
    needed = re.search(r"note: The table needs a terminal of (\d+) columns", out)
    assert max(map(len, table)) <= (int(needed[1]) if needed else width) and bool(needed) == (width == 40)
    words = " ".join(table).split()
    assert words.count("dropout=0.") == 3 and words.count("better") == 1 and words.count("baseline") == 1
    assert "No room for the columns model.dropout, optimizer.lr, seeds' std, range: " in out


def test_json_has_everything_as_shares(compare, sweep, tmp_path):
    status, out, _ = compare(sweep, "--json", tmp_path / "found.json", "--metric", "pixel_accuracy")
    found = json.loads((tmp_path / "found.json").read_text())
    assert status == 0 and "pixel_accuracy in %" in out
    assert (found["metric"], found["num_images"], found["resamples"]) == ("pixel_accuracy", 40, 200)
    assert found["baseline"] == "dropout=0.0, lr=0.001" and len(found["notes"]) == 2
    best = found["rows"][0]
    assert best["values"] == {"optimizer.lr": 0.01, "model.dropout": 0.0}
    assert best["interval"][0] < best["score"] < best["interval"][1] and best["score"] == pytest.approx(0.8, abs=0.01)
    assert best["difference"]["verdict"] == "better" and best["difference"]["estimate"] == pytest.approx(0.2, abs=0.01)
    assert [run["folder"] for run in best["runs"]] == [str(sweep / f"0.01-{seed}") for seed in (0, 1)]
    assert sum(row["difference"] is None for row in found["rows"]) == 1


def test_csv_has_a_line_for_each_configuration(compare, sweep):
    status, out, _ = compare(sweep, "--csv", "-")
    lines = list(csv.DictReader(io.StringIO(out)))
    assert status == 0 and len(lines) == 3
    assert (lines[0]["label"], lines[0]["optimizer.lr"], lines[0]["seeds"]) == ("dropout=0.0, lr=0.01", "0.01", "2")
    assert float(lines[0]["low"]) < float(lines[0]["score"]) < float(lines[0]["high"])
    assert float(lines[0]["seed_min"]) < float(lines[0]["score"]) < float(lines[0]["seed_max"])
    assert float(lines[0]["difference_low"]) > 0 and lines[0]["verdict"] == "better"
    baseline = next(line for line in lines if line["optimizer.lr"] == "0.001")
    assert baseline["difference"] == baseline["verdict"] == "" and float(baseline["seed_std"]) > 0


def test_markdown_is_a_table_with_what_must_be_known_below(compare, sweep):
    status, out, _ = compare(sweep, "--markdown", "-", "--baseline", sweep / "0.01-1")
    lines = out.splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    assert status == 0 and len(rows) == 5 and {len(row) for row in rows} == {12}
    assert rows[1] == ["---"] * 12 and rows[2][-2:] == ["baseline", "-"]
    assert [row[-2] for row in rows[3:]] == ["worse", "worse"] and rows[3][-4].startswith("-")
    assert f"- {sweep / 'cut'} is left out: failed." in lines


def test_a_lock_that_cannot_be_opened_leaves_what_was_noted(compare, sweep, tmp_path):
    run = shutil.copytree(sweep / "cut", tmp_path / "cut")
    (run / ".lock").mkdir()  # not a file that one may write, as another user's
    status, out, err = compare(sweep / "0.01-0", run)
    assert (status, err) == (0, "") and f"note: {run} is left out: failed." in out.splitlines()


def test_a_baseline_from_elsewhere_is_compared_too(compare, sweep):
    status, out, _ = compare(sweep / "0.001-0", "--baseline", sweep / "0.01-0", "--json", "-")
    found = json.loads(out)
    assert status == 0 and found["baseline"] == "lr=0.01"
    assert [row["difference"] and row["difference"]["verdict"] for row in found["rows"]] == [None, "worse"]


def test_pooled_seeds_shorten_the_intervals_and_are_said(compare, sweep):
    found = {}
    for words in ([], ["--pool-seeds"]):
        status, out, err = compare(sweep, *words, "--json", "-")
        assert (status, err) == (0, "")
        found[bool(words)] = json.loads(out)
    ends = {
        pooled: [row["difference"]["interval"] for row in each["rows"] if row["difference"]]
        for pooled, each in found.items()
    }
    (low, high), (pooled_low, pooled_high) = ends[False][0], ends[True][0]
    assert low < pooled_low < pooled_high < high
    stds = [row["seed_std"] for row in found[True]["rows"]]
    shared = found[True]["shared"]
    assert found[False]["shared"] is None and shared["df"] == 4 and shared["groups"] == 3
    assert min(stds) < shared["total"] ** 0.5 < max(stds)
    assert "taken to spread alike" in " ".join(found[True]["notes"])


def test_a_single_seed_has_the_spread_of_the_others(compare, sweep):
    words = [sweep / "0.001-0", sweep / "0.001-1", sweep / "0.01-0"]
    status, out, _ = compare(*words, "--json", "-")
    (row,) = [row for row in json.loads(out)["rows"] if row["difference"]]
    assert status == 0 and not row["difference"]["seeds_known"]
    status, out, _ = compare(*words, "--pool-seeds", "--json", "-")
    (pooled,) = [row for row in json.loads(out)["rows"] if row["difference"]]
    assert status == 0 and pooled["difference"]["seeds_known"] and "One seed" not in out
    assert pooled["difference"]["interval"][0] < row["difference"]["interval"][0]


def test_boundaries_are_compared_where_they_were_kept(compare, trained, tmp_path):
    again = shutil.copytree(trained, tmp_path / "again")
    metrics = json.loads((trained / "evaluation" / "test" / "metrics.json").read_text())
    for metric in ("boundary_miou", "boundary_iou/background"):
        status, out, _ = compare(trained, again, "--metric", metric, "--json", "-")
        wanted = metrics["boundary_iou"]["background"] if "/" in metric else metrics["boundary_miou"]
        assert status == 0 and json.loads(out)["rows"][0]["score"] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["{}/0.001-0", "{}/0.01-0", "--metric", "boundary_miou"],
            "evaluate again, as it was, what does not keep boundaries yet: {}/0.001-0/evaluation/test, {}/0.01-0/eval",
        ),
        (["nowhere"], "nowhere does not exist: give a run folder"),
        (["n" * 400], f"{'n' * 400} does not exist: give a run folder"),
        (["{}", "--baseline", "n" * 400], f"--baseline {'n' * 400} is none of the runs"),
        (["{}/cut"], "{}/cut: no run has finished, so there is nothing to compare"),
        (["{}", "--metric", "iou/cresent"], "--metric iou/cresent is unknown: did you mean iou/crescent "),
        (
            ["{}", "--baseline", "lr=0.001"],
            "--baseline lr=0.001 is none of the runs: did you mean dropout=0.0, lr=0.001?",
        ),
        (["{}", "--split", "val"], "{}/0.001-0/evaluation/val/metrics.json is missing: python evaluate.py"),
        (
            ["{}/0.001-0", "{}/0.01-0", "--pool-seeds"],
            "--pool-seeds: no configuration has two seeds, so how far they lie apart is not known",
        ),
        (["{}", "--json", "{}"], "--json {}: is a folder, or lies in none"),
        (["{}", "--csv", "/nowhere/a.csv"], "--csv /nowhere/a.csv: is a folder, or lies in none"),
        (["{}", "--csv", "a", "--json", "./a"], "--json and --csv name one file, a: give each its own"),
        (["{}", "--csv", "-", "--json", "-"], "only one of --json, --csv and --markdown can be -"),
        (["{}", "--resamples", "few"], "argument --resamples: few is not a whole number from 100 to 1000000"),
        (["{}", "--markdwon", "a.md"], "unrecognized arguments: --markdwon a.md; `seglab compare --help` says more"),
        ([], "the following arguments are required: RUN|SWEEP; `seglab compare --help` says more"),
    ],
)
def test_a_mistake_is_one_line(call, sweep, words, message):
    status, out, err = call("compare", *(word.format(sweep) for word in words))
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message.replace('{}', str(sweep))}") and err.count("\n") == 1


def test_runs_that_cannot_be_compared_are_named(call, sweep, make_run, tmp_path):
    make_run(tmp_path / "other", seed=1, confusion=random_confusion(30))
    status, out, err = call("compare", sweep / "0.001-0", tmp_path / "other")
    assert (status, out) == (2, "")
    assert err.startswith(f"error: the other run cannot be compared with {sweep / '0.001-0'} on test:\n")
    assert f"{tmp_path / 'other'}: other images: lacks 10 of 40" in err


def test_help_has_an_example(call):
    status, out, _ = call("compare", "--help")
    assert status == 0 and "seglab compare runs/sweeps/dropout" in out
    assert all(f"--{option}" in out for option in ("baseline", "metric", "json", "csv", "markdown", "resamples"))
