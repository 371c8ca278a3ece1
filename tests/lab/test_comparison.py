"""Comparisons of run folders: groups, baselines, verdicts, what is refused and what is noted."""

import json

import numpy as np
import pytest

from seglab.errors import InputError
from seglab.lab.comparison import compare
from seglab.lab.groups import group_runs
from seglab.lab.runs import find_runs
from seglab.lab.significance import LEVEL


@pytest.fixture
def write(make_run, make_confusion, tmp_path):
    """Writes a run of an accuracy and a learning rate that is the same; returns its folder."""

    def run(name, accuracy, seed=0, num_images=40, confusion=None, changes=None, **keywords):
        if confusion is None:
            confusion = make_confusion(num_images, seed=seed + 100 * int(1000 * accuracy), accuracy=accuracy)
        changes = {"optimizer.lr": accuracy} | (changes or {})
        return make_run(tmp_path / name, seed=seed, confusion=confusion, changes=changes, **keywords)

    return run


def groups_in(folder):
    return group_runs(find_runs([folder])[0])


def compared(folder, **options):
    return compare(groups_in(folder), **{"resamples": 500} | options)


def test_the_better_the_worse_and_the_same(write, tmp_path):
    for number, (accuracy, jitter) in enumerate([(0.7, 0.0), (0.8, 0.0), (0.6, 0.0), (0.7, 0.001)]):
        for seed in range(3):
            write(f"{number}{seed}", accuracy + jitter, seed)
    found = compared(tmp_path)
    assert [row.group.label for row in found.rows] == ["lr=0.8", "lr=0.701", "lr=0.7", "lr=0.6"]
    assert found.baseline == "lr=0.7" and found.rows[2].difference is None
    verdicts = [row.difference.verdict for row in found.rows if row.difference]
    assert verdicts == ["better", "no difference shown", "worse"]
    for row in found.rows:
        assert [run.run.seed for run in row.runs] == [0, 1, 2]
        assert [run.score for run in row.runs] == pytest.approx([run.run.summary["test_miou"] for run in row.runs])
        assert row.score == pytest.approx(np.mean([run.score for run in row.runs]))
        assert row.seed_std == pytest.approx(np.std([run.score for run in row.runs], ddof=1))
        for scored in (row, *row.runs):
            assert 0 < scored.interval[0] < scored.score < scored.interval[1] < 1
        if row.difference:
            low, high = row.difference.interval
            assert row.difference.estimate == pytest.approx(row.score - found.rows[2].score)
            assert (low <= 0 <= high) == (row.difference.p_value >= LEVEL) and row.difference.seeds_known
    same = found.rows[1].difference
    assert "as large a difference" in same.remedy
    assert found.rows[0].difference.remedy == "" and found.rows[0].difference.seeds_needed is None
    assert found.notes[-1].startswith("Verdicts and p values are Holm's")


def test_another_baseline_by_label_or_folder(write, tmp_path):
    write("a", 0.7), write("b", 0.8), write("c", 0.8, seed=1)
    assert compared(tmp_path).baseline == "lr=0.7"
    for baseline in ("lr=0.8", str(tmp_path / "c"), str(tmp_path / "." / "b")):
        found = compared(tmp_path, baseline=baseline)
        assert found.baseline == "lr=0.8"
        assert [row.difference and row.difference.verdict for row in found.rows] == [None, "worse"]
    with pytest.raises(InputError, match=r"--baseline lr=0\.81 is none .* did you mean lr=0\.8"):
        compared(tmp_path, baseline="lr=0.81")


@pytest.mark.parametrize("metric", ["miou", "iou/star", "pixel_accuracy"])
def test_the_score_is_that_of_metrics_json(write, tmp_path, metric):
    metrics = json.loads((write("a", 0.7) / "evaluation/test/metrics.json").read_text())
    (row,) = compared(tmp_path, metric=metric).rows
    assert row.score == pytest.approx(metrics["iou"]["star"] if metric == "iou/star" else metrics[metric])
    assert row.difference is None and row.seed_std is None
    assert row.interval == row.runs[0].interval


def test_one_seed_says_so(write, tmp_path):
    write("a", 0.7), write("b", 0.71)
    found = compared(tmp_path)
    difference = next(row.difference for row in found.rows if row.difference)
    assert not difference.seeds_known and difference.seeds_needed is None
    assert found.notes == [
        "One seed of every configuration: intervals and verdicts hold for these very runs, over images; "
        "what another seed would give is not known."
    ]
    write("c", 0.7, seed=1)
    found = compared(tmp_path)
    assert found.notes[0].startswith("One seed of lr=0.71: how far its seeds lie apart is not known")
    difference = next(row.difference for row in found.rows if row.difference)
    assert not difference.seeds_known and difference.images_needed is None and "how many seeds" in difference.remedy


def test_the_same_scores_twice(write, make_confusion, tmp_path):
    for number in range(2):
        write(str(number), 0.7 + number / 10, confusion=make_confusion(40))
    difference = next(row.difference for row in compared(tmp_path).rows if row.difference)
    assert (difference.estimate, difference.p_value, difference.verdict) == (0, 1, "no difference shown")
    assert difference.remedy == "both score the same" and difference.interval == (0, 0)


def test_a_repeated_seed_is_left_out_and_named(write, tmp_path):
    write("a", 0.7), write("b", 0.7), write("c", 0.7, seed=1)
    found = compared(tmp_path)
    assert [score.run.name for score in found.rows[0].runs] == ["a", "c"]
    assert any(str(tmp_path / "b") in note and "seed of an earlier run" in note for note in found.notes)


def test_what_runs_were_made_with_is_noted(write, tmp_path):
    write("a", 0.7)
    write("b", 0.8, summary={"git_commit": "1" * 40, "data_fingerprint": "e" * 64, "precision": "32-true"})
    notes = " ".join(compared(tmp_path).notes)
    for what in ("versions of the code", "data", "precisions"):
        assert f"2 different {what}" in notes
    write("c", 0.8, seed=1)
    with pytest.raises(InputError, match=r"b and .*c have one config and other data"):
        compared(tmp_path)


def test_two_seeds_of_many_configurations_are_told_of_a_shared_spread(write, tmp_path):
    for number in range(4):
        for seed in range(2):
            write(f"{number}{seed}", 0.7 + 0.01 * number, seed)
    assert any("--pool-seeds knows it better" in note for note in compared(tmp_path).notes)
    assert not any("--pool-seeds" in note for note in compared(tmp_path, pool_seeds=True).notes)
    write("third", 0.7, seed=2)
    assert not any("--pool-seeds" in note for note in compared(tmp_path).notes)


def test_few_images_are_noted(write, tmp_path):
    write("a", 0.7, num_images=20)
    assert any("20 images are few" in note for note in compared(tmp_path).notes)


@pytest.mark.parametrize(("split", "said"), [("val", "best epoch was chosen"), ("train", "were trained on the images")])
def test_a_split_that_the_runs_have_used_is_noted(write, tmp_path, split, said):
    run = write("a", 0.7)
    assert not any(said in note for note in compared(tmp_path).notes)
    path = (run / "evaluation/test").rename(run / "evaluation" / split) / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"split": split}))
    assert any(said in note for note in compared(tmp_path, split=split).notes)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"inference": {"data": "other-0a1b2c"}}))
    assert not any(said in note for note in compared(tmp_path, split=split).notes)


def test_other_labels_classes_images_and_protocols_are_refused(write, make_confusion, tmp_path):
    whole = make_confusion(40)
    write("0", 0.7, confusion=whole)
    names = [f"test_{index:05d}" for index in range(40)]
    write("1", 0.71, confusion=whole, names=[*names[:38], "x", "y"])
    write("2", 0.72, confusion=whole[:30], names=names[:30])
    relabelled = whole.copy()
    relabelled[3, 0, 0] += 1
    write("3", 0.73, confusion=relabelled)
    write("4", 0.74, confusion=whole, protocol="center_crop")
    write("5", 0.75, confusion=whole[:, :3, :3], class_names=["a", "b", "c"])
    write("6", 0.76, confusion=whole, split="val")
    with pytest.raises(InputError) as refused:
        compared(tmp_path)
    heading, *faults = str(refused.value).split("\n  ")
    assert heading == f"6 of the other 6 runs cannot be compared with {tmp_path / '0'} on test:"
    expected = [
        f"{tmp_path / '1'}: other images: has 2 that the first has not (x, y) and lacks 2 of 40 "
        "(test_00038, test_00039)",
        f"{tmp_path / '2'}: other images: lacks 10 of 40 (test_00030, test_00031, test_00032, ...)",
        f"{tmp_path / '3'}: other labels in 1 of 40 images (test_00003): the label files, data.classes or the scored "
        "window differ",
        f"{tmp_path / '4'}: protocol center_crop, not full: evaluate.py with protocol=... scores a run by another",
        f"{tmp_path / '5'}: other classes: a, b, c; not background, disc, ring, square, triangle, star, cross, "
        "crescent, blob",
        f"{tmp_path / '6' / 'evaluation/test/metrics.json'} is missing: python evaluate.py run={tmp_path / '6'} "
        "split=test writes it",
    ]
    assert faults == expected


def test_a_metric_that_there_is_not_is_refused_with_the_nearest(write, tmp_path):
    write("a", 0.7)
    with pytest.raises(
        InputError, match=r"--metric iou/sqare is unknown: did you mean iou/square or iou/star\? the metrics are"
    ):
        compared(tmp_path, metric="iou/sqare")
    with pytest.raises(InputError, match="--metric mIoU is unknown: did you mean miou"):
        compared(tmp_path, metric="mIoU")


def test_one_image_is_refused(write, tmp_path):
    write("a", 0.7, num_images=1)
    with pytest.raises(InputError, match="split test has 1 image: a comparison needs at least 2"):
        compared(tmp_path)


def test_a_class_that_is_absent_or_rare(write, make_confusion, tmp_path):
    confusion = make_confusion(40)
    confusion[:, 8], confusion[:, :, 8] = 0, 0
    write("a", 0.7, confusion=confusion)
    with pytest.raises(InputError, match="iou/blob: .*a has no such pixel on test"):
        compared(tmp_path, metric="iou/blob")
    found = compared(tmp_path)
    assert 0 < found.rows[0].score < 1 and any("No image is labelled blob:" in note for note in found.notes)
    confusion[:3, 8, 8] = 10, 20, 30
    write("a", 0.7, confusion=confusion)
    assert any("Few images have blob (3):" in note for note in compared(tmp_path).notes)
    for metric in ("pixel_accuracy", "iou/star"):
        assert not any("blob" in note for note in compared(tmp_path, metric=metric).notes)
    found = compared(tmp_path, metric="iou/blob")
    assert found.rows[0].score == 1 and any("% of the resamples hold no pixel" in note for note in found.notes)


def test_the_seed_gives_the_same_figures_again(write, tmp_path):
    write("a", 0.7), write("b", 0.75)
    one, again, other = (compared(tmp_path, seed=seed) for seed in (0, 0, 1))
    assert [row.interval for row in one.rows] == [row.interval for row in again.rows]
    for row, near in zip(one.rows, other.rows, strict=True):
        assert row.interval != near.interval and row.interval == pytest.approx(near.interval, abs=0.01)


def test_a_class_of_one_image_cannot_be_compared_and_one_of_two_hardly(write, make_confusion, tmp_path):
    for name, accuracy, right in (("a", 0.7, 0.5), ("b", 0.75, 0.6)):
        confusion = make_confusion(40, seed=int(100 * accuracy), accuracy=accuracy)
        confusion[:, :, 0] += confusion[:, :, 8]
        confusion[:, 8] = confusion[:, :, 8] = 0
        confusion[3, 8, 8], confusion[3, 8, 0] = 1000 * right, 1000 * (1 - right)
        write(name, accuracy, confusion=confusion)
        confusion[5, 8, 8], confusion[5, 8, 0] = 650 + 50 * right, 350 - 50 * right
        write(f"{name}2", accuracy, confusion=confusion, seed=1)
    rare = f"iou/{find_runs([tmp_path])[0][0].evaluation().class_names[8]}"
    ones = group_runs(find_runs([tmp_path / "a", tmp_path / "b"])[0])
    with pytest.raises(InputError, match="one image of test has such pixels: a comparison needs at least 2"):
        compare(ones, rare, resamples=500)
    twos = group_runs(find_runs([tmp_path / "a2", tmp_path / "b2"])[0])
    difference = next(row.difference for row in compare(twos, rare, resamples=500).rows if row.difference)
    assert difference.verdict == "no difference shown" and difference.interval[0] < 0 < difference.interval[1]


def test_an_unfinished_baseline_is_told_so(write, tmp_path):
    write("a", 0.7)
    with pytest.raises(InputError, match="--baseline .*cut has not finished"):
        compared(tmp_path, baseline=str(write("cut", 0.8, status="interrupted")))
