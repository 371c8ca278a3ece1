"""`model/object_classifier=fisher` from the command line: fitted once, before the training and beside it."""

import csv
import json
import shutil

import pytest
import torch
from conftest import POCKET, SMALL_SHAPES

FISHER = [
    "model/object_classifier=fisher",
    "model.object_classifier.cells=[4]",
    "model.object_classifier.words=[6,3]",
    "model.object_classifier.dims=[8,4]",
    "data.source.train=24",
    "trainer.max_epochs=2",
]


@pytest.fixture(scope="module")
def fisher_run(once):
    run, done = once("fisher", "hydra.run.dir", *POCKET, *SMALL_SHAPES, *FISHER)
    assert done.returncode == 0, done.stdout + done.stderr
    return run


def opinion(run, checkpoint="best"):
    state = torch.load(run / "checkpoints" / f"{checkpoint}.ckpt", weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if "object_classifier" in name}


def rows(run):
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_it_is_fitted_and_kept_in_the_checkpoint(fisher_run):
    assert "object classifier: fitted in" in (fisher_run / "train.log").read_text()
    kept = opinion(fisher_run)
    length = 2 * (6 * (8 + 2) + 3 * (4 + 2))  # with places
    assert kept["model.object_classifier.weight"].shape == (9, 2 * length)  # of object and surroundings
    assert kept["model.object_classifier.weight"].any() and kept["model.object_classifier.vectors.0.components"].any()


def test_the_network_trains_as_without_it(fisher_run, call, tmp_path):
    words = [*POCKET, *SMALL_SHAPES, *FISHER, "model/object_classifier=none", f"run_dir={tmp_path / 'plain'}"]
    words = [word for word in words if not word.startswith("model.object_classifier.")]
    status, out, err = call("train", *words)
    assert status == 0, out + err
    own, plain = rows(fisher_run), rows(tmp_path / "plain")
    assert [row["train/loss"] for row in own] == [row["train/loss"] for row in plain]
    assert [row["val/loss"] for row in own] != [row["val/loss"] for row in plain]


def test_a_run_that_goes_on_is_not_fitted_anew(fisher_run, call, tmp_path):
    run = shutil.copytree(fisher_run, tmp_path / "run")
    status, out, err = call("train", f"resume={run}", "trainer.max_epochs=3")
    assert status == 0, out + err
    assert "fitted" not in out + err and len(rows(run)) == 3
    before = opinion(fisher_run)
    assert before and all(torch.equal(value, before[name]) for name, value in opinion(run, "last").items())


def test_evaluation_and_export_have_it(fisher_run, call, tmp_path):
    run = shutil.copytree(fisher_run, tmp_path / "run")
    status, out, err = call("evaluate", f"run={run}")
    assert status == 0, out + err
    own = json.loads((fisher_run / "summary.json").read_text())["test_miou"]
    assert json.loads((run / "evaluation" / "test" / "metrics.json").read_text())["miou"] == pytest.approx(
        own, abs=1e-6
    )
    pytest.importorskip("onnxruntime", reason="seglab export needs the extra `export`")
    status, out, err = call("export", run, "-o", tmp_path / "model.onnx")
    assert status == 0, out + err
    parity = json.loads((tmp_path / "model.onnx.json").read_text())["parity"]
    assert parity["pixels_equal"] >= 0.9999


def test_a_run_that_is_older_than_it_goes_on_without(trained, call, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    status, out, err = call("train", f"resume={run}", "trainer.max_epochs=3", "model/object_classifier=fisher")
    assert status == 2 and "of another network; add model/object_classifier=none" in out + err
    status, out, err = call("train", f"resume={run}", "trainer.max_epochs=3", "model/object_classifier=none")
    assert status == 0, out + err
    assert len(rows(run)) == 3
