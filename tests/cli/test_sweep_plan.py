"""What a sweep plans before it starts: its jobs, their folders, and what each needs."""

import json
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import OmegaConf

from seglab.cli.resolvers import register_resolvers
from seglab.cli.run_folder import resolved, write_summary
from seglab.cli.stamp import git_commit
from seglab.cli.sweep_plan import Job, action_now, job_names, job_overrides, plan, write_plan
from seglab.errors import InputError
from seglab.lab.result_config import config_hash

ROOT = Path(__file__).resolve().parents[2]
POCKET = ["model=unet4", "model.width=0.02", "data.crop_size=32", "data.batch_size=4", "logger=csv"]
SCENES = ["data.source.train=8", "data.source.val=4", "data.source.test=4", "trainer.accelerator=cpu"]


def test_jobs_are_hydras_own():
    words = ["data=voc9", "+extra=1", "seed=range(0,3)", "optimizer.lr=1e-3,1e-2", "data.classes=[a,b]", "~sweep.name"]
    hydra = {"sweeper": {"params": {"model": "unet4,unet6"}}, "overrides": {"task": words}}
    parsed = OverridesParser.create().parse_overrides(["model=unet4,unet6", *words])
    jobs = list(job_overrides(OmegaConf.create({"hydra": hydra})))
    assert jobs == BasicSweeper.split_arguments(parsed, None)[0] and len(jobs) == 12


def test_a_jobs_folder_is_named_by_what_the_sweep_changes():
    models, rates = ("unet4", "unet6"), (0.001, 0.1)
    jobs = [["data=voc9", f"model={model}", f"optimizer.lr={lr}", "seed=0"] for model in models for lr in rates]
    assert job_names(jobs) == ["unet4-lr=0.001", "unet4-lr=0.1", "unet6-lr=0.001", "unet6-lr=0.1"]
    lists = [["data.classes=[a,b]", "seed=0"], ["data.classes=[a/c]", "seed=0"]]
    assert job_names(lists) == ["classes=_a_b_", "classes=_a_c_"]
    assert job_names([["seed=0"]]) == ["run"]


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Plans a sweep over two rates in which the first run stands as given."""
    monkeypatch.setenv("SEGLAB_CACHE_DIR", str(tmp_path / "cache"))
    register_resolvers()

    def make(**values):
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            jobs = [[*POCKET, *SCENES, f"optimizer.lr={lr}"] for lr in (0.1, 0.2)]
            cfg = compose("train", jobs[0])
            cfg.run_dir = ""
            (tmp_path / "sweep" / "older-name").mkdir(parents=True, exist_ok=True)
            fingerprint = instantiate(cfg.data.source, _convert_="all").content_digest()
            known = {"config_hash": config_hash(resolved(cfg)), "seed": 0, "git_commit": git_commit()}
            write_summary(tmp_path / "sweep" / "older-name", known | {"data_fingerprint": fingerprint} | values)
            return plan(tmp_path / "sweep", jobs)

    return make


@pytest.mark.parametrize(
    ("values", "action", "note"),
    [
        ({"status": "finished"}, "skip", ""),
        ({"status": "finished", "git_commit": "another"}, "skip", "finished, with another version of the code"),
        ({"status": "finished", "data_fingerprint": "0"}, "start again", "finished, but the data has changed since"),
        ({"status": "failed"}, "start again", ""),
        ({"status": "running"}, "start", "was cut before its first epoch ended"),
        ({"status": "killed"}, "start", "was cut before its first epoch ended"),
        ({"status": "killed", "data_fingerprint": "0"}, "start again", "was cut, and the data has changed since"),
        ({"status": "timed out"}, "start", "was cut before its first epoch ended"),
    ],
)
def test_what_a_job_needs_follows_from_what_its_folder_holds(planned, values, action, note):
    first, second = planned(**values)
    assert (first.folder, first.action, first.note) == ("older-name", action, note)
    assert (second.folder, second.action) == ("lr=0.2", "start")


def test_a_run_of_another_config_keeps_its_folder(planned, tmp_path):
    write = {"status": "finished", "config_hash": "another", "seed": 0}
    (tmp_path / "sweep" / "lr=0.2").mkdir(parents=True)
    write_summary(tmp_path / "sweep" / "lr=0.2", write)
    assert planned(status="finished")[1].folder.startswith("lr=0.2-")


@pytest.fixture
def composing(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGLAB_CACHE_DIR", str(tmp_path / "cache"))
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def test_jobs_never_share_a_folder(composing, tmp_path):
    smoothings = [f"loss.label_smoothing=0.{'1' * 80}{last}" for last in (1, 2)]  # names are cut before they differ
    jobs = [[*POCKET, *SCENES, word, f"seed={seed}"] for word in smoothings for seed in range(3)]
    assert len(set(job_names(jobs))) == 1
    assert len({job.folder for job in plan(tmp_path / "sweep", jobs)}) == 6


def test_runs_of_one_config_on_two_datasets_keep_their_folders(composing, tmp_path):
    jobs = [[*POCKET, *SCENES, f"data.num_workers={number}"] for number in (1, 2)]  # a key that changes no result
    first = plan(tmp_path / "sweep", jobs)
    assert [job.folder for job in first] == ["num_workers=1", "num_workers=2"]
    cfg = compose("train", jobs[0])
    cfg.run_dir = ""
    fingerprint = instantiate(cfg.data.source, _convert_="all").content_digest()
    done = {"config_hash": config_hash(resolved(cfg)), "seed": 0, "git_commit": git_commit(), "status": "finished"}
    for job in first:
        (tmp_path / "sweep" / job.folder).mkdir(parents=True)
        write_summary(tmp_path / "sweep" / job.folder, done | {"data_fingerprint": fingerprint})
    again = plan(tmp_path / "sweep", jobs)
    assert [(job.folder, job.action) for job in again] == [("num_workers=1", "skip"), ("num_workers=2", "skip")]
    shutil.rmtree(tmp_path / "sweep" / "num_workers=1")
    again = plan(tmp_path / "sweep", jobs)
    assert [(job.folder, job.action) for job in again] == [("num_workers=1", "start"), ("num_workers=2", "skip")]
    shutil.rmtree(tmp_path / "sweep" / "num_workers=2")
    for name, data in {"a": "0", "b": fingerprint}.items():
        (tmp_path / "sweep" / name).mkdir()
        write_summary(tmp_path / "sweep" / name, done | {"data_fingerprint": data})
    again = plan(tmp_path / "sweep", jobs)
    assert [(job.folder, job.action) for job in again] == [("b", "skip"), ("a", "start again")]


def test_the_plan_of_a_second_sweep_of_a_folder_leaves_the_first_ones_jobs(tmp_path):
    first = [Job(["without=mix", f"seed={seed}"], f"mix-seed={seed}", "start") for seed in (0, 1)]
    second = [Job(["without=pretraining", f"seed={seed}"], f"seed={seed}", "start") for seed in (0, 1)]
    again = [Job(job.overrides, job.folder, "skip") for job in reversed(first)]
    for jobs in (first, second, again):
        write_plan(tmp_path, jobs)
    written = [Job(**job) for job in json.loads((tmp_path / "sweep.json").read_text())]
    assert written == [*reversed(again), *second]
    (tmp_path / "sweep.json").write_text("[{")
    write_plan(tmp_path, first)
    assert [Job(**job) for job in json.loads((tmp_path / "sweep.json").read_text())] == first


def test_two_sweeps_of_a_folder_plan_other_folders_for_other_configs(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGLAB_CACHE_DIR", str(tmp_path / "cache"))
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        first, second = (
            [[*POCKET, *SCENES, f"augment={name}", f"seed={seed}"] for seed in (0, 1)] for name in ("none", "albu")
        )
        for jobs in (first, second, first):
            write_plan(tmp_path, plan(tmp_path, jobs))
    written = {tuple(job["overrides"]): job["folder"] for job in json.loads((tmp_path / "sweep.json").read_text())}
    assert len(written) == 4 == len(set(written.values()))
    assert [written[tuple(words)] for words in first] == ["seed=0", "seed=1"]


def test_what_a_job_needs_is_asked_anew_when_its_turn_comes(composing, held, tmp_path):
    words, run = [*POCKET, *SCENES], tmp_path / "run"
    assert action_now(run, words) == "start"
    run.mkdir()
    data = instantiate(compose("train", words).data.source, _convert_="all").content_digest()
    for status, action in {"failed": "start again", "finished": "skip", "killed": "start"}.items():
        write_summary(run, {"status": status, "git_commit": None, "data_fingerprint": data})
        assert action_now(run, words) == action
    write_summary(run, {"status": "failed"})
    with held(run):
        assert action_now(run, words) == "leave"  # a failed run that another sitting trains again


def test_a_repeated_job_is_one():
    hydra = {"sweeper": {"params": {}}, "overrides": {"task": ["seed=0,1,0"]}}
    assert list(job_overrides(OmegaConf.create({"hydra": hydra}))) == [["seed=0"], ["seed=1"]]


def test_a_damaged_summary_is_named(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text("{")
    with pytest.raises(InputError, match=r"summary.json is damaged .*: restore it, or move"):
        plan(tmp_path, [])
