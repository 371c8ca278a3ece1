"""How W&B's client is set up: by the config, by variables and by the files that it writes itself."""

import socket

import pytest
from omegaconf import OmegaConf

from seglab.cli.wandb_client import check_wandb, client_settings, offline_reason


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("logger.wandb.mode=offlin", "mode=offlin does not exist: give auto, online, offline or disabled"),
        ("+logger.wandb.id=mine", "logger.wandb.id has no effect"),
        ("+logger.wandb.settings={console:off}", "logger.wandb.settings has no effect"),
        ("+logger.wandb.dir=elsewhere", "logger.wandb.dir has no effect"),
        ("logger.wandb.dir=elsewhere", "the config has no key logger.wandb.dir"),
    ],
)
def test_keys_without_effect(refused, word, said):
    answer = refused("train", word)
    assert said in answer and answer.count("\n") == 1


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("WANDB_MODE", "offlin", "'dryrun' or 'run'; give another value, or unset it"),
        ("WANDB_BASE_URL", "http://localhost:notaport", "invalid port number; give a whole address"),
        ("WANDB_BASE_URL", "api.wandb.ai", "give a whole address, such as https://HOST, or unset it"),
    ],
)
def test_variables_that_the_client_does_not_take(refused, monkeypatch, variable, value, said):
    monkeypatch.setenv(variable, value)
    answer = refused("train")
    assert f"{variable}={value}: " in answer and said in answer and answer.count("\n") == 1


def test_the_folder_that_older_runs_have_in_their_config_is_no_mistake():
    check_wandb(OmegaConf.create({"run_dir": "r", "logger": {"wandb": {"mode": "auto", "dir": "${run_dir}"}}}))


def test_server_key_and_mode_are_those_of_wandb_login_and_wandb_offline(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
        (tmp_path / "settings").write_text(f"[default]\nbase_url = http://{host}\nmode = offline\n")
        monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.delenv("WANDB_API_KEY", raising=False)
        assert offline_reason(client_settings()).startswith(f"no API key for {host}")
        (tmp_path / "netrc").write_text(f"machine {host}\n  login user\n  password {'0' * 40}\n")
        assert offline_reason(client_settings()) is None and client_settings().mode == "offline"
    assert offline_reason(client_settings()).startswith(f"{host} does not answer")
