"""The parts of the report's page: packs, curves, scales and words."""

import base64
import json
import re
import zlib

import numpy as np
import pytest

from seglab.lab.comparison import compare
from seglab.lab.groups import group_runs
from seglab.lab.report.gallery import LABEL_SIDE, Gallery, Pack, image_errors, shrunk
from seglab.lab.report.series import class_colors, curves, page_data, per_mille
from seglab.lab.report.tables import class_iou, duration, percent, points, run_cards, scale
from seglab.lab.runs import read_run


def test_a_pack_gives_the_masks_back():
    masks = [np.random.default_rng(i).integers(0, 256, (i + 1, 5), dtype=np.uint8) for i in range(3)]
    pack = Pack()
    for mask in masks:
        pack.add(mask)
    raw = zlib.decompress(base64.b64decode(pack.text()))
    assert raw == b"".join(mask.tobytes() for mask in masks)


@pytest.mark.parametrize("size", [(500, 375), (1, 900), (LABEL_SIDE, 7), (3, 3)])
def test_shrinking_takes_pixels_as_they_are(size):
    mask = np.arange(np.prod(size)).reshape(size)
    small = shrunk(mask)
    assert max(small.shape) == min(LABEL_SIDE, max(size))
    rows, columns = small // size[1], small % size[1]  # where each pixel came from
    for axis, places in ((0, rows[:, 0]), (1, columns[0])):
        centers = (np.arange(small.shape[axis]) + 0.5) * size[axis] / small.shape[axis]
        assert np.abs(places + 0.5 - centers).max() <= 0.5
    if max(size) <= LABEL_SIDE:
        assert (small == mask).all()


def test_image_errors_are_those_of_each_image_alone():
    confusion = np.array([[[8, 2], [0, 10]], [[5, 5], [0, 0]], [[0, 0], [0, 0]]])
    wrong, miou = image_errors(confusion, ["a", "b"])
    assert wrong == [pytest.approx(0.1), pytest.approx(0.5), None]
    assert miou == [pytest.approx((8 / 10 + 10 / 12) / 2, abs=1e-4), pytest.approx(0.25), None]


def test_curves_count_epochs_from_one_and_hold_no_nan(make_run, tmp_path):
    run = make_run(tmp_path / "run", epochs=3)
    lines = (run / "metrics.csv").read_text().splitlines()
    header = lines[0].split(",")
    cells = lines[2].split(",")
    cells[header.index("train/loss")], cells[header.index("val/miou")] = "nan", ""
    (run / "metrics.csv").write_text("\n".join([*lines[:2], ",".join(cells), *lines[3:]]) + "\n")
    drawn = curves(read_run(run))
    assert drawn["epoch"] == [1, 2, 3] and drawn["images"] == [12, 24, 36]
    assert drawn["train/loss"][1] is None and drawn["val/miou"][1] is None
    assert drawn["val/loss"] == pytest.approx([2 - 1.5 * (1 - 0.8**n) for n in (1, 2, 3)], rel=1e-5)
    (run / "metrics.csv").unlink()
    assert curves(read_run(run))["val/miou"] == []


def test_confusion_is_in_thousandths_of_the_label():
    assert per_mille(np.array([[1, 2], [0, 0]])) == [[333, 667], None]


@pytest.mark.parametrize("values", [[0.482, 0.49], [-0.013, 0.002], [1e-5], [0.0], [-0.4, -0.2], [0.999, 1.0]])
def test_a_scale_holds_zero_and_all_values_with_few_round_ticks(values):
    made = scale(values)
    assert made.low <= min(0, *values) + 1e-12 and made.high >= max(0, *values) - 1e-12
    assert 2 <= len(made.ticks) <= 9
    assert min(abs(tick) for tick in made.ticks) < 1e-12
    step = made.ticks[1] - made.ticks[0]
    assert float(f"{step:.0e}") == pytest.approx(step)
    assert (made.at(made.low), made.at(made.high)) == ("0.00%", "100.00%")


def test_words_for_figures():
    assert (percent(0.48349), percent(None), percent(0.48349, 2)) == ("48.3", "–", "48.35")
    assert (points(0.012), points(-0.0123)) == ("+1.20", "−1.23")
    assert [duration(s) for s in (9.04, 61, 3 * 3600 + 59)] == ["9.0 s", "1 min 01 s", "3 h 00 min"]


def test_figures_that_are_no_numbers_are_left_out(make_run, tmp_path):
    run = make_run(tmp_path / "run", summary={"seconds": float("nan"), "gflops": float("inf")})
    path = run / "evaluation" / "test" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["iou"]["star"] = float("nan")
    path.write_text(json.dumps(metrics))
    comparison = compare(group_runs([read_run(run)]), resamples=100)
    assert class_iou(comparison.rows, "test")[0][list(metrics["iou"]).index("star")] is None
    assert not {"time", "GFLOPs of one crop"} & run_cards(comparison)[0].facts.keys()
    cost = page_data(comparison, [0], Gallery(sizes=[(1, 1)], predictions=[""]))["runs"][0]["cost"]
    assert cost["seconds"] is cost["gflops"] is None and cost["parameters"] == 12417


@pytest.mark.parametrize("count", [1, 9, 21, 150])
def test_every_class_has_a_colour_of_its_own(count):
    colors = class_colors(["background", *(f"class {i}" for i in range(1, count))])
    assert len(set(colors)) == count
    assert all(re.fullmatch("#[0-9a-f]{6}", color) for color in colors)
