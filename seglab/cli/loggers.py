"""Loggers beside metrics.csv, and the care that Weights & Biases needs: no prompt, no lost run, an honest exit code."""

import logging
import netrc
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hydra.utils import instantiate
from omegaconf import DictConfig

from seglab.cli.build import flat

log = logging.getLogger(__name__)


def wandb_offline_reason(timeout: float = 3.0) -> str | None:
    """Returns why W&B cannot be reached, or none if it can: no key here, or no answer within `timeout` seconds."""
    url = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    host, port = url.hostname, url.port or (443 if url.scheme == "https" else 80)
    if not os.environ.get("WANDB_API_KEY") and not _netrc_has(host):
        return "no API key (`wandb login` stores one)"
    try:
        socket.create_connection((host, port), timeout).close()
    except OSError as error:
        return f"{host} does not answer ({error})"
    return None


def _netrc_has(host: str | None) -> bool:
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def build_loggers(cfg: DictConfig) -> list[Any]:
    """Builds the configured loggers; W&B goes offline, with one warning, where it cannot be reached."""
    loggers = []
    for name, node in cfg.logger.items():
        if name != "wandb":
            loggers.append(instantiate(node))
            continue
        loggers.append(_build_wandb(cfg, node))
    for logger in loggers:
        logger.log_hyperparams(flat(cfg))
    return loggers


def _build_wandb(cfg: DictConfig, node: DictConfig) -> Any:
    import wandb

    mode = os.environ.get("WANDB_MODE")
    offline = node.offline
    if mode in ("offline", "disabled"):
        offline = True
    elif offline == "auto":
        reason = wandb_offline_reason()
        offline = reason is not None
        if offline:
            log.warning(
                "W&B is offline: %s. To upload the run later: wandb sync %s/wandb/offline-run-*", reason, cfg.run_dir
            )
    settings = wandb.Settings(silent=bool(offline), console="off", init_timeout=60)
    name = node.name or Path(cfg.run_dir).name
    logger = instantiate(node, name=name, offline=bool(offline), settings=settings, job_type="train")
    logger.experiment.define_metric("*", step_metric="epoch")
    return logger


@contextmanager
def closed_wandb() -> Iterator[None]:
    """Ends an open W&B run with exit code 0, or 1 where the block fails, so that the next job opens its own."""
    exit_code = 1
    try:
        yield
        exit_code = 0
    finally:
        import sys

        if (wandb := sys.modules.get("wandb")) is not None and wandb.run is not None:
            wandb.finish(exit_code=exit_code)
