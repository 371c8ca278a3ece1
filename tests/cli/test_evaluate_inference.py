"""Evaluations with test-time augmentation, windows and means of several networks go the way of `seglab predict`."""

import json
import shutil

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from seglab.cli.evaluate import build_scored_task, quoted_runs
from seglab.cli.evaluation_folder import settings_name


def changed_weights(state, seed=0):
    """The state of another network: each weight moved by a tenth of its size."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: value * (1 + 0.1 * torch.randn(value.shape, generator=generator)) if "weight" in key else value
        for key, value in state.items()
    }


@pytest.fixture(scope="module")
def runs(trained, tmp_path_factory):
    """Two runs of the same classes; the second has other weights, and a folder as a sweep's jobs have."""
    folder = tmp_path_factory.mktemp("runs")
    first, second = folder / "first", folder / "model=unet4,seed=1"
    shutil.copytree(trained, first)
    shutil.copytree(trained, second)
    checkpoint = second / "checkpoints" / "best.ckpt"
    saved = torch.load(checkpoint, weights_only=True)
    saved["state_dict"] = changed_weights(saved["state_dict"])
    torch.save(saved, checkpoint)
    return first, second


def test_the_plain_evaluation_writes_what_the_end_of_training_wrote(call, trained, runs):
    expected = (trained / "evaluation" / "test" / "metrics.json").read_bytes()
    for batch_size in (1, 3):
        status, _, err = call("evaluate", f"run={runs[0]}", f"data.batch_size={batch_size}", "overlays=false")
        assert status == 0, err
        assert (runs[0] / "evaluation" / "test" / "metrics.json").read_bytes() == expected


def test_an_augmented_mean_is_that_of_predict_and_leaves_the_run_s_own_alone(call, runs, photographs, tmp_path):
    own = (runs[0] / "evaluation" / "test" / "metrics.json").read_bytes()
    words = ["flip=true", "scales=[0.75,1]", "window=20", "overlap=0.25", "data.batch_size=3"]
    status, out, err = call("evaluate", f"run=[{runs[0]},'{runs[1]}']", *words)
    assert status == 0, err
    [folder] = (runs[0] / "evaluation").glob("test-mean-of-2-*")
    assert out.splitlines()[-1] == str(folder)
    assert folder.name.partition("-flip-")[2] == "scales-0.75-1-window-20-overlap-0.25"
    options = ["--flip", "--scales", "0.75,1", "--window", "20", "--overlap", "0.25", "--no-overlays"]
    assert call("predict", *runs, photographs, "-o", tmp_path / "out", *options)[0] == 0
    plain = runs[0] / "evaluation" / "test" / "predictions"
    for path in (tmp_path / "out" / "masks").iterdir():
        found = np.asarray(Image.open(folder / "predictions" / path.name))
        assert np.array_equal(found, np.asarray(Image.open(path)))
        assert not np.array_equal(found, np.asarray(Image.open(plain / path.name)))
    result = json.loads((folder / "metrics.json").read_text())
    members = [str(run.resolve()) for run in runs]
    expected = {"runs": members, "flip": True, "scales": [0.75, 1], "window": 20, "overlap": 0.25}
    assert result["inference"] == expected and result["split"] == "test"
    assert (runs[0] / "evaluation" / "test" / "metrics.json").read_bytes() == own


def test_a_mean_keeps_its_folder_s_name_where_its_runs_are_moved_together(tmp_path):
    def name(*runs):
        return "-".join(settings_name({"runs": [str(run) for run in runs]}))

    here, there = tmp_path / "here", tmp_path / "elsewhere" / "there"
    assert name(here / "a", here / "b") == name(there / "a", there / "b") == name(here / "b", here / "a")
    assert name(here / "a", here / "b") != name(here / "a", there / "b")


def test_checkpoints_of_one_run_have_a_mean(call, runs):
    status, out, err = call("evaluate", f"run={runs[1]}", "checkpoint=[best,last]", "overlays=false")
    assert status == 0, err
    assert out.splitlines()[-1] == str(runs[1] / "evaluation" / "test-best-last")


def test_checkpoints_elsewhere_have_folders_of_their_own():
    names = [[*settings_name({"checkpoint": [f"/{folder}/best.ckpt"]})] for folder in "ab"]
    assert names[0] != names[1] and all(name.startswith("best-") for [name] in names)


def test_the_loss_has_the_weights_of_training(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    config = OmegaConf.load(run / ".hydra" / "config.yaml")
    config.loss.class_weights = "inverse_area"
    checkpoint = run / "checkpoints" / "best.ckpt"
    saved, weights = torch.load(checkpoint, weights_only=True), torch.rand(9)
    torch.save(saved | {"state_dict": saved["state_dict"] | {"loss.class_weights": weights}}, checkpoint)
    options = OmegaConf.create({"checkpoint": "best", "flip": False, "scales": [1], "window": None, "overlap": 0.5})
    assert torch.equal(build_scored_task(options, config, [run]).loss.class_weights, weights)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run=[]"], "run=[] names nothing"),
        (["run={first}", "flip=yes"], "flip=yes: give true or false"),
        (["run={first}", "overlays=maybe"], "overlays=maybe: give true or false"),
        (["run={first}", "trainer.limit_test_batches=few"], "trainer.limit_test_batches=few: give a number of batches"),
        (["run={first}", "scales=[0.5,0]"], "scales=[0.5, 0]: give factors above 0 and up to 8"),
        (["run={first}", "scales=large"], "scales=large: give factors"),
        (["run={first}", "window=half"], "window=half: give the side of a window"),
        (["run={first}", "window=-1"], "window=-1: give the side of a window"),
        (["run={first}", "window=9", "overlap=1"], "overlap=1: give a share from 0 to below 1"),
        (["run={first}", "overlap=0.25"], "overlap=0.25 is that of windows: add window=PIXELS"),
        (
            ["run={other}"],
            "checkpoint=best: {other}/checkpoints/best.ckpt does not exist; give best, last or a path",
        ),
        (["run=[{first},nowhere]"], "nowhere is not a run folder"),
        (["run=[{first},{other}]"], "{other} and {first} have another data.class_names: their mean makes no sense"),
        (["run={first}", "checkpoint=[best,beast]"], "checkpoint=beast: "),
        (["run={first}", "split=all"], "split=all is unknown: give one of train, val, test"),
    ],
)
def test_a_mistake_is_one_line(call, runs, tmp_path, words, message):
    other = tmp_path / "other"
    shutil.copytree(runs[0] / ".hydra", other / ".hydra")
    config = OmegaConf.load(other / ".hydra" / "config.yaml")
    config.data.class_names = [f"class {k}" for k in range(9)]
    OmegaConf.save(config, other / ".hydra" / "config.yaml")
    status, out, err = call("evaluate", *(word.format(first=runs[0], other=other) for word in words))
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message.format(first=runs[0], other=other)}") and err.count("\n") == 1


def test_folders_with_an_equals_sign_need_no_quotes():
    assert quoted_runs("run=runs/a") == "run=runs/a"
    assert quoted_runs("run=runs/seed=0") == 'run="runs/seed=0"'
    assert quoted_runs("run=[runs/a, runs/seed=0]") == 'run=[runs/a,"runs/seed=0"]'
    assert [quoted_runs(word) for word in ("run=['a,b']", "split=val")] == ["run=['a,b']", "split=val"]


def test_a_mean_is_not_scored_on_what_one_of_its_runs_has_learned(call, folder, tmp_path):
    words = ["data=folder", f"data.root={folder}", "data.classes=[a,b,c]", "data.crop_size=32", "logger=csv"]
    words += ["model=unet4", "model.width=0.02", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
    words += ["data.splits={train: 0.5, val: 0.25, test: 0.25}"]
    runs = [tmp_path / f"split{seed}" for seed in (0, 1)]
    for seed, run in enumerate(runs):
        status, _, err = call("train", *words, f"data.split_seed={seed}", f"hydra.run.dir={run}")
        assert status == 0, err
    status, out, err = call("evaluate", f"run=[{runs[0]},{runs[1]}]")
    assert (status, out) == (2, "") and f"{runs[1]} was trained on " in err and "leave it out" in err
    status, _, err = call("evaluate", f"run=[{runs[0]},{runs[1]}]", f"data.root={folder}")  # by the user's own choice
    assert status == 0, err
    shutil.rmtree(folder)
    status, _, err = call("evaluate", f"run=[{runs[0]},{runs[1]}]")
    assert status == 2 and "no such folder" in err
