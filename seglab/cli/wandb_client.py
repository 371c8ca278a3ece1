"""How W&B's client is set up on this machine: by its variables, its settings files, its keys and the config."""

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from omegaconf import DictConfig

from seglab.errors import InputError

MODES = ("auto", "online", "offline", "disabled")
_NOT_TO_GIVE = {  # keys that wandb.init takes, and that a run sets itself
    "dir": "W&B's files lie in the run's folder",
    "id": "a run keeps its own, as wandb_id in summary.json, or has that of WANDB_RUN_ID",
    "settings": "W&B reads them from its variables, WANDB_<SETTING>",
}


def check_wandb(cfg: DictConfig) -> None:
    """Refuses a mode that does not exist, keys of logger.wandb without effect, and what `client_settings` refuses.

    Raises:
        InputError: The first of these.
    """
    node = cfg.logger.wandb
    if node.mode not in MODES:
        raise InputError(f"logger.wandb.mode={node.mode} does not exist: give {', '.join(MODES[:-1])} or {MODES[-1]}")
    for key, reason in _NOT_TO_GIVE.items():
        if key in node and not (key == "dir" and node.dir == cfg.run_dir):  # older runs have it in their config
            raise InputError(f"logger.wandb.{key} has no effect: {reason}; leave it out")
    client_settings()


def client_settings() -> Any:
    """Returns what W&B's client is set to by its settings files and variables, without starting anything of it.

    Raises:
        InputError: A variable has a value that the client does not take.
    """
    import wandb
    from pydantic import ValidationError

    settings = wandb.Settings(silent=True)  # of the files that it reads
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    settings.settings_system = str(folder / "settings")
    settings.update_from_system_settings()
    try:
        settings.update_from_env_vars(os.environ)
    except ValidationError as error:
        fault = error.errors()[0]
        named = [key for key, value in os.environ.items() if key.startswith("WANDB_") and value == fault["input"]]
        key = named[0] if named else fault["loc"][0]
        remedy = "give a whole address, such as https://HOST" if fault["loc"] == ("base_url",) else "give another value"
        raise InputError(f"{key}={fault['input']}: {fault['msg']}; {remedy}, or unset it") from None
    except wandb.UsageError as error:
        raise InputError(f"W&B's variables: {error}") from None
    return settings


def offline_reason(settings: Any, timeout: float = 3.0) -> str | None:
    """Returns why W&B cannot be reached, or none if it can: no key here, or no answer within `timeout` seconds.

    Args:
        settings: of the client, which name the server.
        timeout: seconds to wait for its answer.
    """
    url = urlsplit(settings.base_url)
    if not _has_key(settings):
        return f"no API key for {url.netloc} (`wandb login` stores one)"
    if getproxies().get(url.scheme):
        return None  # the proxy answers for it
    try:
        socket.create_connection((url.hostname, url.port or (443 if url.scheme == "https" else 80)), timeout).close()
    except OSError as error:
        return f"{url.netloc} does not answer ({error})"
    return None


def _has_key(settings: Any) -> bool:
    from wandb.errors import AuthenticationError
    from wandb.sdk.lib.wbauth import read_netrc_auth

    if settings.api_key or settings.identity_token_file:
        return True
    try:
        return read_netrc_auth(host=settings.base_url) is not None
    except AuthenticationError:  # what stands there is no key
        return False
