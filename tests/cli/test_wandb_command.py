import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seglab.lab.runs import find_runs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def on_line(environment):
    """Runs `seglab wandb` where a server stands in for W&B's; returns the finished process."""

    def run(server, *words):
        line = [sys.executable, "-m", "seglab", "wandb", *map(str, words)]
        variables = environment | server.environment
        return subprocess.run(line, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=100)

    return run


def wandb_id(run):
    [folder] = (run / "wandb").glob("offline-run-*")
    return folder.name.rpartition("-")[2]


def test_a_report_shows_the_finished_runs_of_a_sweep(on_line, wandb_server, wandb_sweep):
    pytest.importorskip("wandb_workspaces")
    folder, _ = wandb_sweep
    done = on_line(wandb_server, "report", folder, "--title", "Which learning rate?")
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.strip() == f"{wandb_server.environment['WANDB_BASE_URL']}/me/seglab/reports/Which-learning-rate?--v"
    )
    assert "2 of 2 runs are not uploaded" in done.stderr
    [saved] = wandb_server.reports
    assert (saved["entityName"], saved["projectName"]) == ("me", "seglab")
    assert saved["displayName"] == "Which learning rate?" and "4 images (test), full" in saved["description"]
    spec = json.loads(saved["spec"])
    grids = [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]
    for grid in grids:
        [runset] = grid["runSets"]
        text = json.dumps(runset["filters"])
        assert all(wandb_id(folder / f"lr={lr}") in text for lr in ("0.001", "0.01"))
        assert wandb_id(folder / "lr=1e+30") not in text
        assert runset["sort"]["keys"] == [{"key": {"section": "summary", "name": "test_miou"}, "ascending": False}]
        assert "config:optimizer.lr.value" in runset["runFeed"]["columnOrder"] and not runset["grouping"]
    panels = [panel for grid in grids for panel in grid["panelBankSectionConfig"]["panels"]]
    lines = [panel["config"] for panel in panels if panel["viewType"] == "Run History Line Plot"]
    assert {line["xAxis"] for line in lines if line["metrics"] == ["val/miou"]} == {"epoch", "images_seen"}
    assert any(panel["config"].get("mediaKeys") == ["predictions"] for panel in panels)
    assert any("test/iou/disc" in panel["config"].get("metrics", []) for panel in panels)
    assert any(panel["config"].get("panelDefId") == "wandb/confusion_matrix/v1" for panel in panels)
    assert "95 % interval" in saved["spec"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb_workspaces")
def test_seeds_of_a_configuration_stand_together_in_a_report(wandb_sweep, tmp_path):
    pytest.importorskip("wandb_workspaces")
    from seglab.cli.wandb_report import build_report

    runs, _ = find_runs([wandb_sweep[0]])
    for run in runs:
        shutil.copytree(run.folder, tmp_path / run.name)
    copies, _ = find_runs([tmp_path])
    seeds = [dataclasses.replace(run, config=run.config | {"seed": 1}) for run in copies]
    report = build_report([*runs, *seeds], "seglab", "me", "seeds")
    grids = [block for block in report.blocks if hasattr(block, "runsets")]
    assert {tuple(grid.runsets[0].groupby) for grid in grids} == {("config.optimizer.lr.value",)}
    assert grids[0].panels[0].groupby_rangefunc == "minmax"


def test_without_the_library_a_report_says_what_to_install(call, monkeypatch, wandb_sweep):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    status, _, said = call("wandb", "report", wandb_sweep[0])
    assert status == 2 and said.strip().endswith("pip install wandb-workspaces") and said.count("\n") == 1


def test_offline_a_report_names_the_upload(call, wandb_sweep):
    pytest.importorskip("wandb_workspaces")
    status, _, said = call("wandb", "report", wandb_sweep[0])
    assert status == 2 and "no API key" in said and f"seglab wandb sync {wandb_sweep[0]}" in said


def test_a_refused_key_is_a_line(on_line, refusing_server, wandb_sweep):
    pytest.importorskip("wandb_workspaces")
    done = on_line(refusing_server, "report", wandb_sweep[0])
    assert done.returncode == 2 and "invalid key" in done.stderr and "Traceback" not in done.stderr


def test_a_report_of_runs_without_wandb_is_refused(call, trained):
    status, _, said = call("wandb", "report", trained)
    assert status == 2 and f"{trained} was not logged to W&B" in said


def test_sync_uploads_the_parts_of_a_run_one_behind_the_other(on_line, wandb_server, wandb_sweep, tmp_path):
    run = shutil.copytree(wandb_sweep[0] / "lr=0.001", tmp_path / "run")
    [first] = (run / "wandb").glob("offline-run-*")
    identity = wandb_id(run)
    shutil.copytree(first, first.with_name(f"offline-run-20991231_000000-{identity}"))  # as if it had been resumed
    done = on_line(wandb_server, "sync", tmp_path)
    assert done.returncode == 0, done.stderr
    scores = [row["val/miou"] for row in wandb_server.history[identity] if "val/miou" in row]
    assert len(scores) == 4 and scores[:2] == scores[2:]
    again = on_line(wandb_server, "sync", run)
    assert again.returncode == 0 and "nothing to upload" in again.stdout


def test_sync_says_what_was_not_uploaded(on_line, refusing_server, call, wandb_sweep, tmp_path):
    run = shutil.copytree(wandb_sweep[0] / "lr=0.001", tmp_path / "run")
    done = on_line(refusing_server, "sync", run)
    assert done.returncode == 2 and "1 of 1 were not uploaded" in done.stderr
    status, _, said = call("wandb", "sync", run)
    assert status == 2 and "no API key" in said and "wandb login" in said


def test_sync_leaves_out_a_run_that_is_being_trained(call, held, wandb_sweep, tmp_path):
    run = shutil.copytree(wandb_sweep[0] / "lr=0.001", tmp_path / "run")
    with held(run):
        status, out, said = call("wandb", "sync", run)
    assert status == 0 and "nothing to upload" in out
    assert f"{run} is being trained" in said and said.count("\n") == 1


def test_sync_uploads_once_what_a_hard_kill_has_cut(on_line, wandb_server, wandb_sweep, tmp_path):
    run = shutil.copytree(wandb_sweep[0] / "lr=0.001", tmp_path / "run")
    [path] = run.glob("wandb/offline-run-*/*.wandb")
    os.truncate(path, path.stat().st_size - 3)
    done = on_line(wandb_server, "sync", run)
    assert done.returncode == 0, done.stderr
    assert [row["epoch"] for row in wandb_server.history[wandb_id(run)] if "val/miou" in row] == [0, 1]
    assert "nothing to upload" in on_line(wandb_server, "sync", run).stdout


# What a training does with W&B, between a line on stdout and one on stdin.
LOGGED = """
import sys
from pathlib import Path
from omegaconf import OmegaConf
from seglab.cli import loggers
from seglab.cli.resolvers import register_resolvers
register_resolvers()
run, loggers.FINISH_TIMEOUT = Path(sys.argv[1]), 3
cfg = OmegaConf.load(run / ".hydra" / "config.yaml")
cfg.run_dir = str(run)
with loggers.closed_wandb(run):
    print(loggers._init_wandb(cfg, cfg.logger.wandb, "online").settings.mode, flush=True)
    input()
"""


def test_a_run_whose_network_is_lost_is_left_for_sync(environment, on_line, start_server, wandb_sweep, tmp_path):
    run, lost, server = shutil.copytree(wandb_sweep[0] / "lr=0.001", tmp_path / "a run"), start_server(), start_server()
    shutil.rmtree(run / "wandb")
    options = {"env": environment | lost.environment, "cwd": ROOT, "text": True}
    with subprocess.Popen([sys.executable, "-c", LOGGED, run], stdin=-1, stdout=-1, stderr=-1, **options) as process:
        assert process.stdout.readline() == "online\n"
        lost.shutdown()
        lost.server_close()
        said = process.communicate("\n", timeout=100)[1]
    assert process.returncode == 0, said
    assert f"W&B has not taken all within 3 s. To upload this run: seglab wandb sync '{run}'" in said
    done = on_line(server, "sync", run)
    assert done.returncode == 0, done.stderr
    assert "nothing to upload" in on_line(server, "sync", run).stdout


def test_the_commands_are_named(call):
    assert "report RUN|SWEEP" in call("wandb")[1]
    status, _, said = call("wandb", "repot")
    assert status == 2 and "the commands are report, sync, sweep" in said
