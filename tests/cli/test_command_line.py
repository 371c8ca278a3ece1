"""Words that seglab tells a user to type are read back as they were meant, by a shell and by Hydra."""

import shlex
from argparse import Namespace

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from seglab.cli.checks import check_place
from seglab.cli.command_line import typed
from seglab.cli.ending import Interrupted, recorded_ending
from seglab.cli.evaluate import quoted_runs
from seglab.cli.temperature import fitting_command
from seglab.errors import InputError

FOLDERS = ["runs/plain", "runs/cut me", "runs/seed=0", "it's", 'a "b"', "$HOME/*", "a,b", "[a]", "a\\", "null", "12"]


def read(command):
    """The keys and values of a command line."""
    words = map(quoted_runs, shlex.split(command))
    parsed = OverridesParser.create().parse_overrides([word for word in words if "=" in word])
    return {each.key_or_group: each.value() for each in parsed}


@pytest.mark.parametrize("value", [*FOLDERS, FOLDERS, True, 0.5, [1, 0.5], ["best", "last"]], ids=str)
def test_a_value_is_read_back(value):
    key = "run" if value in [*FOLDERS, FOLDERS] else "key"
    read_back = read(typed(key, value))[key]
    assert read_back == value and type(read_back) is type(value)


def test_a_plain_folder_stays_as_it_is():
    assert typed("resume", "runs/2026-01-31/12-00-00-abcdef") == "resume=runs/2026-01-31/12-00-00-abcdef"


def test_folders_with_spaces_in_commands(tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "cut me"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(Interrupted), recorded_ending(run):
        raise Interrupted(143)
    assert read(caplog.messages[-1].partition("train.py ")[2]) == {"resume": "cut me"}
    with pytest.raises(InputError) as refused:
        check_place(OmegaConf.create({"run_dir": str(run), "resume": None, "trainer": {"accelerator": "cpu"}}))
    assert read(str(refused.value).partition("go on with it by ")[2]) == {"resume": str(run)}
    options = Namespace(checkpoint=["last"], flip=True, scales=[0.5], window=None, overlap=None)
    command = fitting_command([run, tmp_path / "b=c"], options, "center_crop")
    given = {"run": [str(run), str(tmp_path / "b=c")], "checkpoint": "last", "flip": True, "scales": [0.5]}
    assert read(command) == given | {"protocol": "center_crop", "split": "val", "temperature": "fit"}
