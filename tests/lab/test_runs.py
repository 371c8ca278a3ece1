"""Run folders as plain values, and their groups, against a run that was trained and runs that were written."""

import json
import shutil

import numpy as np
import pytest

from seglab.errors import InputError
from seglab.lab.groups import group_runs
from seglab.lab.result_config import config_hash, flat
from seglab.lab.runs import find_runs, is_run, read_run


@pytest.fixture
def groups_of(make_run, tmp_path):
    """Writes runs of these keywords and groups them."""

    def group(*runs):
        for number, keywords in enumerate(runs):
            make_run(tmp_path / f"{number:02d}", **keywords)
        return group_runs(find_runs([tmp_path])[0])

    return group


def test_a_key_that_repeats_another_of_its_name_is_no_column(make_run, tmp_path):
    for width in (0.5, 1.0):
        changes = {"model.width": width, "model.encoder.width": width}
        make_run(tmp_path / f"w{width}", changes=changes)
    groups = group_runs(find_runs([tmp_path])[0])
    assert [group.values for group in groups] == [{"model.width": 0.5}, {"model.width": 1.0}]


def test_a_trained_run_is_read(trained):
    run = read_run(trained)
    evaluation = run.evaluation()
    assert run.name == trained.name and run.seed == 0 and run.choices["model"] == "unet4"
    assert "model.width=0.02" in run.overrides and run.config["model"]["width"] == 0.02
    assert [row["epoch"] for row in run.history] == [0, 1] and 0 <= run.history[1]["val/miou"] <= 1
    assert evaluation.confusion.shape == (4, 9, 9) and len(evaluation.names) == 4
    assert evaluation.class_names == run.config["data"]["class_names"]
    assert config_hash(run.config) == run.summary["config_hash"]


def test_a_written_run_has_the_shape_of_a_trained_one(trained, make_run, tmp_path):
    """The tests of comparisons and reports stand on written runs."""
    written, real = read_run(make_run(tmp_path / "run", choices={"model": "unet4"})), read_run(trained)
    assert written.summary.keys() == real.summary.keys()
    assert flat(written.config).keys() == flat(real.config).keys()
    assert written.history[0].keys() == real.history[0].keys() | {f"val/iou/{name}" for name in "disc star".split()}
    assert written.evaluation().metrics.keys() == real.evaluation().metrics.keys()
    assert written.evaluation().confusion.dtype == real.evaluation().confusion.dtype
    inside = {path.relative_to(trained).as_posix() for path in trained.rglob("*")}
    assert {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*")} <= inside


def test_seeds_are_one_group(groups_of):
    (group,) = groups_of({"seed": 2}, {"seed": 0}, {"seed": 1, "changes": {"data.num_workers": 1}})
    assert [run.seed for run in group.runs] == [0, 1, 2]
    assert (group.label, group.values) == ("01", {})


def test_a_run_and_its_evaluation_of_the_split_count_once(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    (group,) = group_runs(find_runs([run, run / "evaluation" / "test"])[0])
    assert [one.folder for one in group.runs] == [run]


def test_columns_are_the_keys_that_differ(groups_of):
    changes = [{"optimizer.lr": lr, "model.dropout": 0.1} for lr in (0.01, 0.1)]
    groups = groups_of(*({"changes": each, "seed": seed} for each in changes for seed in (0, 1)))
    assert [group.label for group in groups] == ["lr=0.01", "lr=0.1"]
    assert [group.values for group in groups] == [{"optimizer.lr": 0.01}, {"optimizer.lr": 0.1}]


def test_a_choice_that_differs_stands_for_its_keys(groups_of):
    small, large = {"choices": {"model": "unet4"}}, {"choices": {"model": "unet6"}, "changes": {"model.dropout": 0.3}}
    assert [group.values for group in groups_of(small, large)] == [{"model": "unet4"}, {"model": "unet6"}]
    groups = groups_of(small, large, {"choices": {"model": "unet6"}})
    assert [list(group.values.values()) for group in groups] == [["unet4", 0.0], ["unet6", 0.3], ["unet6", 0.0]]
    assert list(groups[0].values) == ["model", "model.dropout"]


def test_experiments_name_their_groups_where_they_can(groups_of):
    phases = [{"choices": {"experiment": name, "logger": "csv", "data": "shapes"}} for name in ("phase1", "phase2")]
    assert [group.label for group in groups_of(*phases)] == ["phase1", "phase2"]
    groups = groups_of(*phases, phases[0] | {"changes": {"optimizer.lr": 0.5}})
    assert [group.label for group in groups] == [
        "experiment=phase1, lr=0.001",
        "experiment=phase2",
        "experiment=phase1, lr=0.5",
    ]


def test_long_labels_keep_what_tells_them_apart(groups_of):
    pretrained, scratch = ({"choices": {"experiment": name}} for name in ("pretrained", "scratch"))
    arm = {"choices": {"experiment": "pretrained", "without": "scale"}}
    groups = groups_of(pretrained, scratch, arm, scratch | {"changes": {"optimizer.lr": 0.5, "data.resize": None}})
    assert [group.label for group in groups] == [
        "experiment=pretrained, without=null",
        "experiment=scratch, resize=144",
        "experiment=pretrained, without=scale",
        "experiment=scratch, resize=null",
    ]
    assert all(len(group.values) > 8 for group in groups)  # of which none is lost


def test_the_arms_of_an_ablation_are_called_by_what_they_lack(groups_of):
    arms = [{"choices": {"experiment": "pretrained", "without": part}} for part in ("nothing", "mix", "scale")]
    groups = groups_of(*arms)
    assert [group.label for group in groups] == ["without nothing", "without mix", "without scale"]
    assert [group.values for group in groups] == [
        {"mix": "copy_paste", "without": "nothing", "data.scale": [0.6, 1.5]},
        {"mix": "none", "without": "mix", "data.scale": [0.6, 1.5]},
        {"mix": "copy_paste", "without": "scale", "data.scale": None},
    ]


def test_labels_stay_apart_where_keys_end_alike(groups_of):
    groups = groups_of(
        *(
            {"changes": {"model.encoder.width": one, "model.decoder.width": two}}
            for one, two in [(1, 2), (2, 2), (1, 1)]
        )
    )
    assert len({group.label for group in groups}) == 3
    assert groups[0].label == "model.encoder.width=1, model.decoder.width=2"


def test_finished_and_other_runs_are_found_once(make_run, tmp_path):
    make_run(tmp_path / "sweep" / "a")
    make_run(tmp_path / "sweep" / "b", status="failed", seed=1)
    (tmp_path / "sweep" / "no-run").mkdir()
    finished, others = find_runs([tmp_path / "sweep", tmp_path / "sweep" / "a"])
    assert [run.name for run in finished] == ["a"] and [run.name for run in others] == ["b"]


def test_runs_of_a_sweep_come_in_the_order_of_its_jobs(make_run, tmp_path):
    for name in "abcd":
        make_run(tmp_path / name)
    plan = tmp_path / "sweep.json"
    plan.write_text(json.dumps([{"folder": name} for name in ("d", "b", "not started")]))
    assert [run.name for run in find_runs([tmp_path])[0]] == ["d", "b", "a", "c"]
    plan.write_text("[{")
    with pytest.raises(InputError, match=r"sweep\.json is damaged"):
        find_runs([tmp_path])


def test_what_is_no_run_is_refused(make_run, tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="holds no run"):
        find_runs([tmp_path])
    with pytest.raises(InputError, match="is not a run folder"):
        read_run(tmp_path)
    folder = make_run(tmp_path / "run")
    assert is_run(folder)
    for content in ("{", "[]", "{}"):
        (folder / "summary.json").write_text(content)
        with pytest.raises(InputError, match="is damaged"):
            find_runs([folder])
    make_run(folder)
    for content in ("[]", "{}"):
        (folder / ".hydra" / "resolved.json").write_text(content)
        with pytest.raises(InputError, match=r"is damaged \(seed is missing\)"):
            find_runs([folder])


def test_a_damaged_table_is_said(make_run, tmp_path):
    folder = make_run(tmp_path / "run")
    for content in ("epoch,val/miou\n0,0.3\n1,1e-", "epoch\n0,1,2"):
        (folder / "metrics.csv").write_text(content)
        with pytest.raises(InputError, match=r"metrics\.csv is damaged"):
            assert not read_run(folder).history


def run_names(path):
    with np.load(path) as arrays:
        return arrays["names"]


def test_an_evaluation_that_is_missing_or_damaged_says_how_to_write_it(make_run, tmp_path):
    run = read_run(make_run(tmp_path / "run"))
    with pytest.raises(InputError, match=r"python evaluate\.py run=.*run split=val writes it"):
        run.evaluation("val")
    path = run.folder / "evaluation" / "test" / "confusion.npz"
    shutil.copy(path, tmp_path / "whole")
    for content in (b"", b"PK nothing", path.read_bytes()[:300]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"is damaged .*split=test writes it anew"):
            run.evaluation()
    names = run_names(tmp_path / "whole")
    for arrays in ({}, {"names": names}, {"names": names[1:], "confusion": np.zeros((6, 9, 9))}):
        np.savez(path, **{"confusion": np.zeros((6, 2, 2))} | arrays)
        with pytest.raises(InputError, match="is damaged"):
            run.evaluation()
    shutil.copy(tmp_path / "whole", path)
    for content in ("{", "{}", "[]", '{"split": "test", "protocol": "full", "iou": null}'):
        (path.parent / "metrics.json").write_text(content)
        with pytest.raises(InputError, match="is damaged .*writes it anew"):
            run.evaluation()


BEST = {"monitor": "val/miou", "mode": "max", "dirpath": "elsewhere"}


def test_the_hash_is_that_of_what_the_result_follows_from(make_run, tmp_path):
    config = read_run(make_run(tmp_path / "run")).config
    same = config | {
        "seed": 5,
        "run_dir": "elsewhere",
        "logger": {},
        "callbacks": {"strips": {"num_images": 2}, "best": BEST, "early_stopping": None},
        "data": config["data"] | {"root": "x", "new": None},
    }
    assert config_hash(same) == config_hash(config)
    others = [{"early_stopping": {"patience": 3}}, {"best": BEST | {"monitor": "val/loss", "mode": "min"}}]
    hashes = [config_hash(same | {"callbacks": same["callbacks"] | other}) for other in others]
    assert len({config_hash(config), *hashes}) == 3
    assert config_hash(config | {"max_images": 5}) != config_hash(config)


def test_flat():
    assert flat({"a": {"b": {"c": 1}, "d": [1, {"e": 2}]}, "f": {}}) == {"a.b.c": 1, "a.d": [1, {"e": 2}], "f": {}}


def test_what_changes_no_result_changes_no_hash():
    config = {"data": {"name": "voc", "download": False, "source": {"url": "a"}}, "trainer": {"max_epochs": 3}}
    other = {"data": {"name": "voc", "download": True, "source": {}}, "new": {"off": None}}
    assert config_hash(config) == config_hash(other | {"trainer": {"max_epochs": 3, "num_sanity_val_steps": 0}})
    assert config_hash(config) != config_hash(other | {"trainer": {"max_epochs": 4}})


def test_groups_of_the_same_choices_have_labels_of_their_own(make_run, tmp_path):
    timm = {"model": "unet_timm"}
    make_run(tmp_path / "a", choices={"model": "unet6"})
    make_run(tmp_path / "b", choices=timm, changes={"model.encoder.name": "resnet18"})
    make_run(tmp_path / "c", choices=timm, changes={"model.encoder.name": "resnet34"})
    labels = [group.label for group in group_runs(find_runs([tmp_path])[0])]
    assert len(set(labels)) == 3 and "resnet18" in labels[1] and "resnet34" in labels[2], labels
