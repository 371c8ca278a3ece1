import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from seglab.lab.runs import read_run

ROOT = Path(__file__).resolve().parents[2]


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
        (["dropout", "resume=runs/x"], "resume=runs/x: each run of the sweep starts anew"),
        (["dropout", "hydra.run.dir=x"], "hydra.run.dir=x: each run of the sweep starts anew"),
        (["dropout", "run_dir=x"], "run_dir=x: each run of the sweep starts anew"),
        (["dropout", "logger=csv"], "give logger=wandb"),
        (["dropout", "logger.wandb.mode=offline"], "logger.wandb.mode=offline: W&B deals out runs"),
        (["dropout", "-o", "/proc/nope/x.yaml"], "-o /proc/nope/x.yaml cannot be written"),
        (["dropout", "-o", ROOT], f"-o {ROOT} cannot be written (Is a directory)"),
        ([], "required: NAME; "),
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
    assert run.summary["status"] == "finished" and [*run.folder.glob("wandb/offline-run-*-run12345")]
    assert run.choices["optimizer"] == "sgd" and run.config["model"]["dropout"] == 0.2
    assert run.config["data"]["normalize"] is False and run.config["sweep"]["name"] == "dropout"


def test_a_sweep_is_printed_where_no_file_is_named(call):
    status, said, _ = call("wandb", "sweep", "optimizer")
    assert status == 0 and yaml.safe_load(said)["parameters"] == {"optimizer": {"values": ["adam", "sgd", "rmsprop"]}}
