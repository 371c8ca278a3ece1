import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from seglab.lab.runs import find_runs, read_run

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
def test_seeds_of_a_configuration_stand_together_in_a_report(wandb_sweep):
    pytest.importorskip("wandb_workspaces")
    from seglab.cli.wandb_report import build_report

    runs, _ = find_runs([wandb_sweep[0]])
    seeds = [dataclasses.replace(run, config=run.config | {"seed": 1}) for run in runs]
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
    assert done.returncode == 2 and "1 offline runs were not uploaded" in done.stderr
    status, _, said = call("wandb", "sync", run)
    assert status == 2 and "no API key" in said and "wandb login" in said


def written(call, path, *words):
    from wandb.sdk.launch.sweeps import utils  # two seconds, which not every process that tests needs

    status, said, error = call("wandb", "sweep", *words, "-o", path)
    assert status == 0, error
    assert f"wandb sweep {path}" in said
    return utils.load_sweep_config(path)


def test_a_sweep_of_lists_becomes_a_grid(call, tmp_path):
    words = [
        "weight_decay",
        "seed=0,1",
        "data=voc9",
        "data.root=photos",
        "data.normalize=true,false",
        "model.dropout=null,0.5",
    ]
    config = written(call, tmp_path / "new" / "sweep.yaml", *words)
    assert config["method"] == "grid" and config["program"] == "train.py" and config["project"] == "seglab"
    assert config["metric"] == {"name": "best_val_miou", "goal": "maximize"}
    assert {key: each["values"] for key, each in config["parameters"].items()} == {
        "optimizer.weight_decay": [1e-2, 1e-3, 1e-4, 1e-5, 1e-6],
        "seed": [0, 1],
        "data.normalize": [True, False],
        "model.dropout": ["null", 0.5],
    }
    assert config["command"][3:7] == ["sweep=weight_decay", "hydra.mode=RUN", "data=voc9", "data.root=photos"]


def test_a_search_becomes_a_bayesian_one(call, tmp_path):
    words = ["search_unet6", "data=voc9", "data.root=photos", "data.batch_size=8,16"]
    config = written(call, tmp_path / "sweep.yaml", *words)
    assert config["method"] == "bayes" and config["run_cap"] == 40
    assert config["parameters"]["optimizer.lr"] == {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}
    assert config["parameters"]["model.dropout"] == {"distribution": "uniform", "min": 0.0, "max": 0.5}
    assert config["parameters"]["augment"] == {"values": ["flip", "sharpen_flip", "albu"]}
    assert config["parameters"]["data.batch_size"] == {"values": [8, 16]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dropuot"], "did you mean dropout"),
        (["dropout", "model.droput=0,1"], "did you mean model.dropout"),
        (["dropout", "model.dropout=0.1"], "varies nothing"),
        (["dropout", "model=glob(*)"], "write the values out"),
        (["dropout", "data=voc9"], "data.root must be given"),
        (["dropout", "unet6"], "unet6 is no key of the config"),
        (["dropout", "data.batch_size=tag(log,int(interval(1,8)))"], "no whole numbers on a logarithmic scale"),
    ],
)
def test_a_mistake_in_a_sweep_is_a_line(call, words, said):
    status, out, error = call("wandb", "sweep", *words)
    assert status == 2 and said in error and error.count("\n") == 1 and not out


def test_what_an_agent_starts_trains_in_the_sweep_s_folder(environment, tmp_path, call):
    from wandb.sdk.launch.sweeps import utils
    from wandb.sdk.lib import config_util

    small = ["model=unet4", "model.width=0.02", "data.source.train=4", "data.source.val=2", "data.source.test=2"]
    small += ["data.crop=random", "data.crop_size=32", "trainer.max_epochs=1", f"hydra.sweep.dir={tmp_path}"]
    config = written(
        call, tmp_path / "sweep.yaml", "dropout", *small, "optimizer=sgd,adam", "data.normalize=false,true"
    )
    # What wandb agent does with the answer of the server: one value of each parameter.
    chosen = {key: {"value": each["values"][0]} for key, each in config["parameters"].items()}
    filled = utils.create_sweep_command_args({"args": chosen})
    filled |= {"env": ["/usr/bin/env"], "interpreter": [sys.executable], "program": [config["program"]]}
    line = []
    for word in utils.create_sweep_command(config["command"]):
        line += filled[word[2:-1]] if word.startswith("${") and word.endswith("}") else [word]
    parameters = tmp_path / "config.yaml"
    config_util.save_config_file_from_dict(str(parameters), chosen)
    agent = {"WANDB_SWEEP_ID": "sweep123", "WANDB_RUN_ID": "run12345", "WANDB_SWEEP_PARAM_PATH": str(parameters)}
    done = subprocess.run(line, cwd=ROOT, env=environment | agent, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    run = read_run(tmp_path / "run12345")
    assert run.summary["status"] == "finished" and wandb_id(run.folder) == "run12345"
    assert run.choices["optimizer"] == "sgd" and run.config["model"]["dropout"] == 0.2
    assert run.config["data"]["normalize"] is False and run.config["sweep"]["name"] == "dropout"


def test_a_sweep_is_printed_where_no_file_is_named(call):
    status, said, _ = call("wandb", "sweep", "optimizer")
    assert status == 0 and yaml.safe_load(said)["parameters"] == {"optimizer": {"values": ["adam", "sgd", "rmsprop"]}}


def test_the_commands_are_named(call):
    assert "report RUN|SWEEP" in call("wandb")[1]
    status, _, said = call("wandb", "repot")
    assert status == 2 and "the commands are report, sync, sweep" in said
