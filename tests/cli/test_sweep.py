"""Sweeps that finish: real jobs that raise, die, hang, fill the disk or are cut, and the same command again."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from seglab.cli.job import run_job
from seglab.cli.run_folder import write_summary
from seglab.cli.sweep_job import slot
from seglab.cli.sweep_progress import SweepProgress, position

ROOT = Path(__file__).resolve().parents[2]
POCKET = ["model=unet4", "model.width=0.02", "data.crop_size=32", "data.batch_size=4", "logger=csv"]
SCENES = ["data.source.train=8", "data.source.val=4", "data.source.test=4", "trainer.accelerator=cpu"]
TWO_AT_A_TIME = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def status(run):
    path = run / "summary.json"
    return json.loads(path.read_text()).get("status") if path.exists() else None


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def processes_of(sweep):
    """The ids of all living processes that were started for a sweep's folder."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words, state = line.read_bytes().decode(), (line.parent / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if str(sweep) in words and "train.py" in words and state != "Z" and int(line.parent.name) != os.getpid():
            found.append(int(line.parent.name))
    return found


@pytest.fixture
def start(environment):
    """Starts a command in a process group of its own, as a shell does."""
    started = []

    def start(*words):
        process = subprocess.Popen(
            [sys.executable, "train.py", *map(str, words)],
            cwd=ROOT,
            env=environment | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full and /proc")
def test_a_job_that_raises_dies_hangs_or_finds_the_disk_full_leaves_the_others_alone(command, start, tmp_path):
    sweep = tmp_path / "faults"
    words = ["-m", *POCKET, *SCENES, *TWO_AT_A_TIME, "trainer.max_epochs=1", f"hydra.sweep.dir={sweep}"]
    hangs, full, killed, raises, good = (sweep / f"seed={seed}" for seed in range(5))
    for run in (full, hangs, raises):
        run.mkdir(parents=True)
    (full / "summary.json.tmp").symlink_to("/dev/full")  # nothing can be written there: "No space left on device"
    os.mkfifo(hangs / "metrics.csv")  # opening it waits for ever
    (raises / "images").write_text("not a folder")

    def kill():
        wait_for(lambda: status(killed) == "running")
        [process] = [pid for pid in processes_of(killed)]
        os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    first = start(*words, "seed=0,1,2,3,4", "sweep.timeout=60")  # many times what a job takes on a busy machine
    killer.start()
    said = first.communicate(timeout=300)[0]
    killer.join()
    assert first.returncode == 1, said
    assert said.count("start (new)") == 5
    assert status(good) == "finished" and status(killed) == "killed" and status(raises) == "failed"
    assert status(hangs) == "timed out"
    for run, why in {full: "No space left", killed: "SIGKILL", hangs: "sweep.timeout", raises: "File exists"}.items():
        assert f"{run}: " in said and why in said.split(f"{run}: ")[-1].split(f"{sweep}/")[0], (run, why, said)
    assert "4 of 5 jobs did not finish" in said
    assert processes_of(sweep) == []

    again = command("train.py", *words, "seed=3,4")
    assert again.returncode == 0, again.stdout + again.stderr
    table = {
        line.split("│")[1].strip(): line.split("│")[2].strip() for line in again.stderr.splitlines() if "│" in line
    }
    assert all(table[run.name].startswith("finished: test mIoU") for run in (raises, good))
    before = again.stderr.split("what became")[0]
    assert "start again (failed)" in before and "skip (finished)" in before
    assert (sweep / "aside" / "seed=3-1" / "output.log").exists()  # what had failed is kept


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_sweep_that_is_killed_and_then_cut_by_ctrl_c_ends_as_if_nothing_had_happened(start, tmp_path):
    epochs = 12
    fixed = [*POCKET, *SCENES, f"trainer.max_epochs={epochs}"]
    sweep = tmp_path / "cut"
    words = ["-m", *fixed, *TWO_AT_A_TIME, "seed=0,1", f"hydra.sweep.dir={sweep}"]
    runs = [sweep / "seed=0", sweep / "seed=1"]

    first = start(*words)
    wait_for(lambda: all((run / "checkpoints" / "last.ckpt").exists() for run in runs))
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    wait_for(lambda: processes_of(sweep) == [], seconds=20)
    assert {status(run) for run in runs} <= {"running", "finished"}

    def rows(run):
        with (run / "metrics.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    done = [len(rows(run)) for run in runs]
    second = start(*words)
    wait_for(lambda: second.poll() is not None or any(len(rows(r)) > n for r, n in zip(runs, done, strict=True)))
    second.send_signal(signal.SIGINT)
    said = second.communicate(timeout=120)[0]
    assert second.returncode == 130 and "resume (was cut)" in said, said
    assert "the same command goes on with them" in said
    wait_for(lambda: processes_of(sweep) == [], seconds=20)

    for line in (words, [*fixed, "seed=0", f"hydra.run.dir={tmp_path / 'uncut'}"]):
        third = start(*line)
        said = third.communicate(timeout=300)[0]
        assert third.returncode == 0, said
    same = [key for key in rows(runs[0])[0] if key != "train/images_per_second"]
    assert [[row[key] for key in same] for row in rows(runs[0])] == [
        [row[key] for key in same] for row in rows(tmp_path / "uncut")
    ]
    matrices = [
        np.load(run / "evaluation" / "test" / "confusion.npz")["confusion"] for run in (runs[0], tmp_path / "uncut")
    ]
    assert np.array_equal(*matrices)

    fourth = start(*words)
    assert fourth.communicate(timeout=120)[0].count("skip (finished") == 2 and fourth.returncode == 0


def test_a_job_that_was_cut_and_cannot_go_on_has_failed(tmp_path):
    run = tmp_path / "cut me"
    run.mkdir()
    write_summary(run, {"status": "interrupted"})
    assert run_job([f"resume={run}"], run, None, {}) == "failed"  # there is no config to go on by
    assert json.loads((run / "summary.json").read_text())["error"] == "exit status 2"
    command, said = (run / "output.log").read_text().splitlines()
    assert shlex.split(command)[-1] == f"resume={run}" and said.startswith("error: ")


def test_a_finished_run_has_finished_and_a_run_of_another_process_is_its_own(held, tmp_path):
    words = [f"resume={tmp_path}"]  # ends with status 2
    write_summary(tmp_path, {"status": "finished"})
    assert run_job(words, tmp_path, None, {}) == "finished"
    write_summary(tmp_path, {"status": "running"})
    with held(tmp_path):
        assert run_job(words, tmp_path, None, {}) == "running" and status(tmp_path) == "running"


def test_a_sweep_counts_jobs_that_end_between_two_looks(tmp_path):
    runs = [tmp_path / name for name in ("cut", "failed", "new")]
    for run in runs:
        run.mkdir()
    write_summary(runs[0], {"status": "killed"})
    progress = SweepProgress(runs)
    write_summary(runs[1], {"status": "failed"})
    assert [progress.has_ended(run) for run in runs] == [False, True, False]


def test_a_bar_goes_on_through_epochs_that_are_not_validated(tmp_path):
    assert position(tmp_path) == {}
    write_summary(tmp_path, {"max_epochs": 30})
    rows = ["epoch,train/loss,val/miou", "0,2.0,", "1,1.5,0.25", "2,1.25,"]
    for count, shown in ((2, tmp_path.name), (4, f"{tmp_path.name}  val mIoU 0.2500")):
        (tmp_path / "metrics.csv").write_text("\n".join(rows[:count]) + "\n")
        assert position(tmp_path) == {"total": 30, "completed": count - 1, "description": shown}


@pytest.mark.parametrize(("gpus", "expected"), [("", None), ("4,5", {"4", "5"})])
def test_jobs_side_by_side_share_out_gpus_and_threads(monkeypatch, held, tmp_path, gpus, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    hydra = OmegaConf.create({"hydra": {"launcher": {"n_jobs": 2}}})
    monkeypatch.setattr(HydraConfig, "get", lambda: hydra.hydra)
    with slot(tmp_path) as first:
        assert first["OMP_NUM_THREADS"] == "4"
    with held(tmp_path / ".places" / "0"), slot(tmp_path) as second:  # the first place is another process's now
        taken = {first.get("CUDA_VISIBLE_DEVICES"), second.get("CUDA_VISIBLE_DEVICES")}
    assert taken == (expected or {None})


def test_a_cluster_launcher_runs_the_same_jobs(wandb_sweep):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra seglab[cluster]")
    sweep, done = wandb_sweep
    assert len(list(sweep.glob("**/*_submitted.pkl"))) == 3
    assert [status(sweep / f"lr={rate}") for rate in ("0.001", "1e+30", "0.01")] == ["finished", "failed", "finished"]
    assert done.stderr.count("finished: test mIoU") == 2 and done.returncode == 1


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("hydra/launcher=nowhere", "hydra/launcher=nowhere is not known here: look at its spelling"),
        ("hydra.launcher.n_jobs=0", "hydra.launcher.n_jobs=0: give a number of jobs"),
    ],
)
def test_a_launcher_that_is_not_there_or_does_nothing_is_refused(command, tmp_path, word, said):
    launcher = [] if "launcher=" in word else ["hydra/launcher=joblib"]
    done = command("train.py", "-m", "seed=0,1", *launcher, word, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert done.returncode == 2 and done.stderr.startswith(f"error: {said}"), done.stderr


def test_a_worker_whose_sweep_is_dead_starts_no_job(tmp_path):
    lines = ["import multiprocessing, sys", "from seglab.cli import job", "job._PARENT = -1"]
    run_a_job = "job.run_job(['resume=nothing'], job.Path(sys.argv[1]), None, {})"
    as_worker = "multiprocessing.current_process().name = 'LokyProcess-1'"
    for more, started in (([as_worker], False), ([], True)):  # a sweep itself may outlive the shell that started it
        run = tmp_path / str(started)
        subprocess.run([sys.executable, "-c", "\n".join([*lines, *more, run_a_job]), run], cwd=ROOT, timeout=120)
        assert run.exists() == started
