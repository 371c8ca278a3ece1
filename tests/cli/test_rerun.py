import json
import shutil

import numpy as np
import pytest
from omegaconf import OmegaConf

from seglab.cli.rerun import verdict
from seglab.cli.train import words_of_run
from seglab.lab.runs import read_run


@pytest.fixture
def copied(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_a_run_is_repeated_to_the_bit(call, copied):
    status, said, err = call("rerun", copied)
    assert status == 0, said + err
    last = said.strip().splitlines()[-1]
    assert last.startswith(
        f"{copied}-rerun-1: the same to the bit: weights, every epoch's scores and the test's 4 images"
    )
    assert json.loads((copied.with_name("run-rerun-1") / "summary.json").read_text())["seed"] == 0


def test_the_words_of_a_run_hold_in_any_folder_and_after_a_resumption(call, copied, tmp_path, folder, monkeypatch):
    words = json.loads((copied / "summary.json").read_text())["overrides"]
    status, _, err = call("train", f"resume={copied}", "trainer.max_epochs=3")
    assert status == 0, err
    summary = json.loads((copied / "summary.json").read_text())
    assert summary["overrides"] == [*words[:-2], "trainer.max_epochs=3", words[-1]] != words, words
    status, said, err = call("rerun", copied)
    assert status == 0 and "the same to the bit" in said, said + err

    monkeypatch.chdir(folder.parent)
    cfg = OmegaConf.create({"data": {"root": str(folder)}})
    words = ["data=folder", "data.root=photos", "+new.key=1", "resume=run", "new.key=2"]
    assert words_of_run(cfg, words) == ["data=folder", f"data.root={folder}", "+new.key=2"]


def small(folder):
    words = ["data=folder", f"data.root={folder}", "data.classes=[a,b,c]", "data.crop_size=32", "logger=csv"]
    words += ["data.splits={train: 0.5, val: 0.25, test: 0.25}", "trainer.accelerator=cpu"]
    return [*words, "model=unet4", "model.width=0.02", "trainer.max_epochs=1", "callbacks.strips=null"]


def test_a_run_goes_on_in_its_own_folder_and_is_repeated_beside_it(call, refused, folder, tmp_path):
    run, moved = tmp_path / "run", tmp_path / "moved"
    status, _, err = call("train", *small(folder), f"run_dir={run}")
    assert status == 0 and (run / "checkpoints" / "last.ckpt").exists(), err
    overrides = run / ".hydra" / "overrides.yaml"  # as runs that knew the key in the config alone have it
    overrides.write_text(overrides.read_text() + f"- run_dir={run}\n")
    run.rename(moved)
    for key in ("run_dir", "hydra.run.dir"):
        said = refused("train", f"resume={moved}", "trainer.max_epochs=2", f"{key}={run}")
        assert f"hydra.run.dir={run}: a run goes on in its own folder, {moved}: leave it out" in said
    status, _, err = call("train", f"resume={moved}", "trainer.max_epochs=2")
    assert status == 0 and not run.exists(), err
    assert [row["epoch"] for row in read_run(moved).history] == [0, 1]
    status, said, err = call("rerun", moved)
    assert status == 0 and f"{moved}-rerun-1: the same to the bit" in said, said + err


def test_a_run_is_repeated_on_data_that_has_moved(call, folder, tmp_path):
    run = tmp_path / "run"
    status, _, err = call("train", *small(folder), f"hydra.run.dir={run}")
    assert status == 0, err
    moved = folder.rename(tmp_path / "moved photos")
    status, _, err = call("rerun", run)
    assert status == 2 and "the repetition ended with status 2" in err
    status, said, err = call("rerun", run, "--data-root", moved)
    assert status == 0 and "the same to the bit" in said, said + err


def change(run, **values):
    path = run / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_cannot_be_repeated_is_refused(call, copied):
    config = json.loads((copied / ".hydra" / "resolved.json").read_text())
    config["optimizer"]["lr"] = 0.7
    (copied / ".hydra" / "resolved.json").write_text(json.dumps(config))
    status, _, said = call("rerun", copied)
    assert status == 2 and "its words give another optimizer.lr; check out" in said
    change(copied, status="failed")
    status, _, said = call("rerun", copied)
    assert status == 2 and f"{copied} is failed, not finished" in said
    status, _, said = call("rerun", copied / "images")
    assert status == 2 and "is not a run folder" in said


def test_another_result_is_held_against_its_interval(trained, copied):
    path = copied / "evaluation" / "test" / "confusion.npz"
    with np.load(path) as arrays:
        names, confusion = arrays["names"], arrays["confusion"]

    def rewritten(matrices):
        np.savez_compressed(path, names=names, confusion=matrices)
        return verdict(read_run(trained), read_run(copied))

    nearly = confusion.copy()
    nearly[0, 0, 0] -= 1
    nearly[0, 0, 1] += 1
    same, said = rewritten(nearly)
    assert same and said.startswith("not the same to the bit, but within the interval: test mIoU")
    same, said = rewritten(np.stack([np.diag(matrix.sum(1)) for matrix in confusion]))  # all right
    assert not same and said.startswith("another result: test mIoU")
    change(copied, data_fingerprint="0")
    assert verdict(read_run(trained), read_run(copied)) == (
        False,
        "another result is to be expected: the data has changed since",
    )
