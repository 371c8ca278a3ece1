"""Searches: the words of a space, and workers that share a study which a kill does not spoil."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from seglab.cli import job
from seglab.cli.run_folder import write_summary
from seglab.cli.search import JOURNAL, _claimed, _run_trial, trial_command
from seglab.cli.search_space import check_space, parse_space, suggest
from seglab.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
POCKET = ["model=unet4", "model.width=0.02", "data=shapes", "data.crop_size=32", "logger=csv", "trainer.max_epochs=3"]
SCENES = ["data.source.train=8", "data.source.val=4", "data.source.test=4", "trainer.accelerator=cpu"]
SPACE = {
    "optimizer.lr": "tag(log,interval(1e-4,1e-2))",
    "model.dropout": "interval(0,0.5)",
    "model.depth": "int(interval(1,4))",
    "data.batch_size": "range(10,60,10)",
    "augment": "choice(flip,albu)",
}


def test_a_space_is_written_in_hydras_words():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = {key: set() for key in SPACE}
    for _ in range(60):
        trial = study.ask()
        for key, override in parse_space(SPACE).items():
            name, _, value = suggest(trial, key, override).partition("=")
            assert name == key
            seen[key].add(value)
    assert seen["augment"] == {"flip", "albu"}
    assert seen["data.batch_size"] == {"10", "20", "30", "40", "50"}
    assert seen["model.depth"] == {"1", "2", "3", "4"}
    rates = sorted(map(float, seen["optimizer.lr"]))
    assert 1e-4 <= rates[0] and rates[-1] <= 1e-2 and 5e-4 < rates[30] < 2e-3  # the middle of a logarithmic scale
    dropouts = sorted(map(float, seen["model.dropout"]))
    assert 0 <= dropouts[0] < 0.05 and 0.45 < dropouts[-1] <= 0.5


def test_a_value_that_is_no_space_is_refused():
    with pytest.raises(InputError, match=r"search.space.optimizer.lr=0.1: give choice"):
        parse_space({"optimizer.lr": "0.1"})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"augment": "choice(flip,albu,strong)"}, "augment=.*: the search has drawn it from another space already"),
        ({"optimizer.lr": "interval(1,0)"}, r"optimizer.lr=interval\(1,0\): nothing can be drawn from it"),
        ({"augment": "glob(*)"}, r"augment=glob\(\*\): give choice"),
        ({"data.batch_size": "range(50,10,-10)", "model.dropout": "interval(0.1,0.2)"}, None),
    ],
)
def test_a_space_that_does_not_go_with_the_study_is_refused(changed, message):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    for key, override in parse_space(SPACE).items():
        suggest(trial, key, override)
    if message is None:
        return check_space(SPACE | changed, study)
    with pytest.raises(InputError, match=message):
        check_space(SPACE | changed, study)


def test_a_trial_goes_on_only_with_its_own_run(tmp_path):
    base, run = ["model=unet4"], tmp_path / "trial-0000"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").touch()
    write_summary(run, {"overrides": ["model=unet4", "optimizer.lr=0.1", "sweep.name=x"]})
    assert trial_command(base, ["optimizer.lr=0.1"], run) == [f"resume={run}"]
    assert trial_command(base, ["optimizer.lr=0.2"], run)[:2] == ["model=unet4", "optimizer.lr=0.2"]
    assert not run.exists() and (tmp_path / "aside" / "trial-0000-1" / "summary.json").exists()


def test_a_trial_that_was_killed_goes_on_once(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "run_job", lambda *arguments: "killed")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    for is_second, state in ((False, "RUNNING"), (True, "FAIL")):
        _run_trial(study, trial, [], tmp_path, None, {}, is_second)
        assert study.trials[0].state.name == state


def test_workers_and_sittings_with_one_seed_draw_trials_of_their_own(tmp_path):
    sampler = {"_target_": "optuna.samplers.RandomSampler", "seed": 1}
    cfg = OmegaConf.create({"search": {"trials": 4, "sampler": sampler}})
    drawn = {}
    for sitting in ("first", "again"):
        folder = tmp_path / sitting
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        for _ in range(4):  # a worker each
            with _claimed(study, folder, cfg) as trial:
                drawn.setdefault(sitting, []).append(trial.suggest_float("lr", 0, 1))
                study.tell(trial, 0.5)
    assert len(set(drawn["first"])) == 4 and drawn["first"] == drawn["again"]


def study_of(sweep):
    storage = JournalStorage(JournalFileBackend(str(sweep / JOURNAL)))
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


@pytest.mark.skipif(sys.platform != "linux", reason="jobs that die with their sweep are Linux's")
def test_workers_share_a_study_and_a_killed_search_goes_on(command, environment, tmp_path):
    sweep = tmp_path / "study"
    words = ["sweep=search_unet6", *POCKET, *SCENES, "search.trials=2", f"hydra.sweep.dir={sweep}"]
    words += ["search.pruner.n_startup_trials=1", "search.pruner.n_warmup_steps=1"]
    words += ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    line = [sys.executable, "train.py", *words]
    first = subprocess.Popen(line, cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"}, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list(sweep.glob("trial-*/checkpoints/last.ckpt"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    running = sum(trial.state.name == "RUNNING" for trial in study_of(sweep).trials)
    assert running >= 1  # the kill left a trial in the air

    done = command("train.py", *words, "search.trials=3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{running} running" in done.stderr
    other = command("train.py", *words, "trainer.max_epochs=2")
    assert other.returncode == 2 and "study holds a search with other words: give another sweep.name" in other.stderr
    trials = study_of(sweep).trials
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}
    best = study_of(sweep).best_trial
    assert f"{best.value:.4f}" in done.stderr.split("best val mIoU")[1].splitlines()[2]  # the first row of the table
    assert sorted(path.name for path in sweep.glob("trial-*")) == [f"trial-{number:04d}" for number in range(3)]
