"""Loggers beside metrics.csv, and the care that Weights & Biases needs: no prompt, no lost run, an honest exit code."""

import hashlib
import logging
import netrc
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from hydra.utils import instantiate
from omegaconf import DictConfig

from seglab.cli.build import flat
from seglab.cli.run_folder import shown

log = logging.getLogger(__name__)


def wandb_offline_reason(timeout: float = 3.0) -> str | None:
    """Returns why W&B cannot be reached, or none if it can: no key here, or no answer within `timeout` seconds."""
    url = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    host, port = url.hostname, url.port or (443 if url.scheme == "https" else 80)
    if not os.environ.get("WANDB_API_KEY") and not _netrc_has(host):
        return "no API key (`wandb login` stores one)"
    if getproxies().get(url.scheme):
        return None  # the proxy answers for it
    try:
        socket.create_connection((host, port), timeout).close()
    except OSError as error:
        return f"{host} does not answer ({error})"
    return None


def _netrc_has(host: str | None) -> bool:
    given = os.environ.get("NETRC")
    for path in [Path(given)] if given else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if netrc.netrc(path).authenticators(host or "") is not None:
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def build_loggers(cfg: DictConfig) -> list[Any]:
    """Builds the configured loggers; W&B goes offline, with one warning, where it cannot be reached."""
    loggers = [
        _build_wandb(cfg, node) if name == "wandb" else instantiate(node, _convert_="all")
        for name, node in cfg.logger.items()
    ]
    for logger in loggers:
        logger.log_hyperparams(flat(cfg))
    return loggers


def _build_wandb(cfg: DictConfig, node: DictConfig) -> Any:
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    run_dir = Path(cfg.run_dir)
    mode = os.environ.get("WANDB_MODE") or node.mode
    if mode == "auto":
        reason = wandb_offline_reason()
        mode = "offline" if reason else "online"
        if reason:
            log.warning("W&B is offline: %s. %s", reason, upload_hint(run_dir))
    try:
        run = _init_wandb(cfg, node, mode)
    except Exception as error:
        if mode != "online":
            raise
        log.warning("W&B refused (%s): the run is kept offline. %s", error.__cause__ or error, upload_hint(run_dir))
        wandb.teardown()  # its service has kept the key
        run = _init_wandb(cfg, node, "offline")
    run.define_metric("epoch")
    run.define_metric("*", step_metric="epoch")
    return WandbLogger(experiment=run)


def _init_wandb(cfg: DictConfig, node: DictConfig, mode: str) -> Any:
    import wandb

    run_dir = Path(cfg.run_dir)
    settings = wandb.Settings(silent=mode != "online", console="off", init_timeout=60)
    # The same id for the same folder: a resumed run goes on in its own W&B run.
    identity = hashlib.sha256(str(run_dir.resolve()).encode()).hexdigest()[:8]
    options = {"name": node.name or run_dir.name, "mode": mode, "settings": settings, "id": identity}
    if cfg.resume and mode == "online":
        options["resume"] = "allow"
    return instantiate(node, _convert_="all", **options)


def upload_hint(run_dir: Path) -> str:
    """Returns the words that say how to upload an offline run."""
    return f"To upload this run: wandb sync {shown(run_dir / 'wandb' / 'offline-run-*')}"


@contextmanager
def closed_wandb() -> Iterator[None]:
    """Ends an open W&B run with exit code 0, or 1 where the block fails, so that the next job opens its own."""
    exit_code = 1
    try:
        yield
        exit_code = 0
    finally:
        if (wandb := sys.modules.get("wandb")) is not None and wandb.run is not None:
            wandb.finish(exit_code=exit_code)
