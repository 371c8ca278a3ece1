"""What is left out of a comparison, and long lists of it, in words."""

import json
import shutil

import pytest

from seglab.errors import InputError
from seglab.lab.comparable import first_few, read_alike
from seglab.lab.notes import notes_on_left_out
from seglab.lab.runs import PLAN, find_runs, missing_runs
from seglab.lab.tables import shown_p_value


def test_long_lists_name_a_few():
    assert first_few("abc") == ["a", "b", "c"] and first_few("abcde") == ["a", "b", "c", "and 2 more"]
    reasons = dict.fromkeys("abcde", "failed") | {"f": "cut"}
    assert notes_on_left_out(reasons) == ["a, b, c, and 2 more are left out: failed.", "f is left out: cut."]


def test_of_many_runs_that_cannot_be_compared_a_few_are_named(make_run, tmp_path):
    first = make_run(tmp_path / "00")
    for number in range(1, 12):
        run = shutil.copytree(first, tmp_path / f"{number:02d}")
        path = run / "evaluation" / "test" / "metrics.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"protocol": "center_crop"}))
    with pytest.raises(InputError, match="11 of the other 11 runs cannot") as refused:
        read_alike(find_runs([tmp_path])[0], "test", "miou")
    _, *lines = str(refused.value).split("\n  ")
    assert len(lines) == 9 and lines[-1] == "and 3 more"


def test_what_should_be_a_run_and_is_none_is_named(make_run, tmp_path):
    for name in ("whole", "no summary", "no config", "no folder"):
        make_run(tmp_path / name)
    (tmp_path / "no summary" / "summary.json").unlink()
    (tmp_path / "no config" / ".hydra" / "resolved.json").unlink()
    shutil.rmtree(tmp_path / "no folder")
    (tmp_path / "aside").mkdir()
    (tmp_path / PLAN).write_text(json.dumps([{"folder": name} for name in ("whole", "no folder", "no summary")]))
    assert missing_runs([tmp_path, tmp_path / "whole"]) == {
        tmp_path / "no config": ".hydra/resolved.json is missing",
        tmp_path / "no summary": "summary.json is missing",
        tmp_path / "no folder": "not started",
    }


def test_a_p_value_below_the_level_does_not_look_like_it():
    shown = [shown_p_value(value) for value in (0.0004, 0.032, 0.0494, 0.0499, 0.05, 0.7)]
    assert shown == ["<0.001", "0.032", "0.049", "<0.05", "0.050", "0.700"]
