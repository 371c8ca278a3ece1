"""The same runs scored in two ways, such as with and without test-time augmentation, beside each other."""

import json

import pytest
from run_folders import random_confusion


@pytest.fixture(scope="module")
def runs(make_run, tmp_path_factory):
    """Three seeds far apart, each a little better by test-flip than by test."""
    folder = tmp_path_factory.mktemp("compare") / "sweep"
    for seed, accuracy in enumerate((0.5, 0.65, 0.8)):
        for split, gain in (("test-flip", 0.03), ("test", 0.0)):
            confusion = random_confusion(40, seed=seed, accuracy=accuracy + gain)
            make_run(folder / f"seed={seed}", seed=seed, split=split, confusion=confusion)
    return sorted(folder.iterdir())


def flipped(runs):
    return [run / "evaluation" / "test-flip" for run in runs]


def test_what_seeds_do_to_both_ways_cancels(call, runs):
    status, out, err = call("compare", runs[0].parent, *flipped(runs), "--json", "-")
    assert (status, err) == (0, "")
    found = json.loads(out)
    better, base = found["rows"]
    assert found["baseline"] == base["label"] == "evaluation=test" and better["label"] == "evaluation=test-flip"
    assert better["values"] == {"evaluation": "test-flip"} and base["seed_std"] > 0.1
    difference = better["difference"]
    assert difference["estimate"] == pytest.approx(better["score"] - base["score"])
    assert difference["verdict"] == "better" and difference["seeds_known"]
    low, high = difference["interval"]
    assert 0.01 < low < high < 0.06


def test_seeds_scored_in_two_ways_are_pooled_once(call, runs):
    status, out, err = call("compare", *runs, *flipped(runs), "--pool-seeds", "--json", "-")
    assert (status, err) == (0, "")
    found = json.loads(out)
    base = next(row for row in found["rows"] if row["difference"] is None)
    assert (found["shared"]["df"], found["shared"]["groups"]) == (2, 1)
    assert found["shared"]["total"] == pytest.approx(base["seed_std"] ** 2)
    (better,) = [row["difference"] for row in found["rows"] if row["difference"]]
    low, high = better["interval"]
    assert 0.01 < low < high < 0.06  # seed by seed, as without


@pytest.mark.parametrize("spelled", ["symlink", "relative"])
def test_a_run_is_the_same_however_it_is_typed(call, runs, monkeypatch, tmp_path, spelled):
    (tmp_path / "linked").symlink_to(runs[0].parent)
    monkeypatch.chdir(runs[0].parent)
    typed = [tmp_path / "linked" / run.name if spelled == "symlink" else run.name for run in runs]
    found = []
    for own in (runs, typed):
        status, out, err = call("compare", *own, *flipped(runs), "--pool-seeds", "--json", "-")
        assert (status, err) == (0, "")
        found.append(json.loads(out))
    for before, after in zip(*(each["rows"] for each in found), strict=True):
        assert before["difference"] == after["difference"]
    assert found[0]["shared"] == found[1]["shared"] and found[1]["shared"]["groups"] == 1


@pytest.mark.parametrize(
    ("folder", "words"), [("evaluation", ["test", "test-flip"]), ("evaluation/test", [".", "../test-flip"])]
)
def test_an_evaluation_may_be_typed_in_its_folder(call, runs, monkeypatch, folder, words):
    monkeypatch.chdir(runs[0] / folder)
    status, out, err = call("compare", *words, "--json", "-")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert [row["label"] for row in found["rows"]] == ["evaluation=test-flip", "evaluation=test"]
    assert {run["folder"] for row in found["rows"] for run in row["runs"]} == {str(runs[0])}


def test_a_run_of_one_seed_and_a_baseline_by_its_evaluation(call, runs):
    flip = flipped(runs)[1]
    status, out, err = call("compare", runs[1], flip, "--baseline", flip, "--json", "-")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["baseline"] == "evaluation=test-flip"
    worse = found["rows"][1]["difference"]
    assert (worse["verdict"], worse["seeds_known"]) == ("worse", False)


def test_the_split_still_names_the_evaluation_of_all(call, runs):
    status, out, _ = call("compare", *runs, "--split", "test-flip", "--json", "-")
    [row] = json.loads(out)["rows"]
    assert status == 0 and "evaluation" not in row["values"] and len(row["runs"]) == 3


def test_evaluations_of_other_images_are_refused(call, make_run, tmp_path):
    run = make_run(tmp_path / "run", split="val", confusion=random_confusion(30))
    make_run(run, confusion=random_confusion(40))
    status, out, err = call("compare", run, run / "evaluation" / "val")
    assert (status, out) == (2, "") and "other images: lacks 10 of 40" in err


def test_a_page_shows_both(call, runs, tmp_path):
    out = tmp_path / "page.html"
    status, _, err = call("report", runs[0], flipped(runs)[0], "-o", out)
    assert status == 0, err
    page = out.read_text()
    assert "evaluation=test-flip" in page and "evaluation=test<" in page


def test_what_was_scored_in_one_way_alone_is_left_out_of_the_difference_and_named(call, runs):
    status, out, err = call("compare", *runs, *flipped(runs)[:2], "--json", "-")
    assert (status, err) == (0, "")
    found = json.loads(out)
    better = next(row for row in found["rows"] if row["difference"])
    base = next(row for row in found["rows"] if not row["difference"])
    gains = [one["score"] - other["score"] for one, other in zip(better["runs"], base["runs"], strict=False)]
    assert len(gains) == 2 and better["difference"]["estimate"] == pytest.approx(sum(gains) / 2)
    assert any("its difference to evaluation=test is that of the 2 of 3 runs" in note for note in found["notes"])


def test_the_heading_names_the_evaluations(call, runs):
    status, out, _ = call("compare", *flipped(runs))
    assert status == 0 and out.startswith("miou in %, test-flip: 40 images")
    status, out, _ = call("compare", runs[0], flipped(runs)[0])
    assert status == 0 and out.startswith("miou in %, test-flip, test: 40 images")


def test_a_missing_evaluation_is_told_by_what_writes_it(call, runs):
    status, _, err = call("compare", *runs, "--split", "val")
    assert status == 2 and f"python evaluate.py run={runs[0]} split=val writes it" in err
    status, _, err = call("compare", *runs, "--split", "test-flop")
    assert (
        status == 2 and "evaluate.py writes it with the options that it is named by; the run has test, test-fl" in err
    )
