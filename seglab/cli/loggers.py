"""Loggers beside metrics.csv, and the care that Weights & Biases needs: no prompt, no lost run, an honest exit code."""

import hashlib
import logging
import os
import secrets
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from seglab.cli.run_folder import read_summary, resolved, shown, write_summary
from seglab.cli.wandb_client import client_settings, offline_reason
from seglab.cli.wandb_runs import mark_incomplete
from seglab.errors import InputError
from seglab.lab.result_config import flat

AXES = ("epoch", "images_seen", "trainer/global_step")  # what a chart may have as its x axis; no charts of their own
SUMMARY = (
    "best_epoch",
    "best_val_miou",
    "test_miou",
    "epochs",
    "images_per_second",
    "parameters",
    "gflops",
    "peak_memory_mib",
)

FINISH_TIMEOUT = 300  # seconds that an ended run waits for its upload; the client waits for ever by itself

log = logging.getLogger(__name__)


def build_loggers(cfg: DictConfig) -> list[Any]:
    """Builds the configured loggers; W&B goes offline, with one warning, where it cannot be reached."""
    loggers = [
        _build_wandb(cfg, node) if name == "wandb" else instantiate(node, _convert_="all")
        for name, node in cfg.logger.items()
    ]
    for logger in loggers:
        logger.log_hyperparams(described(cfg))
    return loggers


def described(cfg: DictConfig) -> dict[str, Any]:
    """Returns what a run is made of: its config as dotted keys, the choice of each config group as `choices/<group>`.

    With them goes the `config_hash`, which all seeds of a configuration share. A name with a slash can be a filter, a
    column or a group in W&B, where one with a dot is read as a path.
    """
    choices = {f"choices/{group}": choice for group, choice in _choices(cfg).items()}
    return flat(resolved(cfg)) | choices | {"config_hash": read_summary(Path(cfg.run_dir))["config_hash"]}


def _choices(cfg: DictConfig) -> dict[str, str]:
    """Returns the choice of each config group that has one."""
    return {group: choice for group, choice in read_summary(Path(cfg.run_dir))["choices"].items() if choice is not None}


def _tags(cfg: DictConfig, given: Any) -> list[str]:
    """Returns the user's tags and those of the config's choices, `model:unet6`; defaults and loggers say nothing.

    Raises:
        InputError: W&B does not take a tag of the user's.
    """
    given = [given] if isinstance(given, str) else [str(tag) for tag in given or []]
    for tag in given:
        if not 1 <= len(tag) <= 64:
            raise InputError(f"logger.wandb.tags: {tag!r} has {len(tag)} characters: W&B takes 1 to 64")
    chosen = {group: choice for group, choice in _choices(cfg).items() if choice != "default" and group != "logger"}
    return list(dict.fromkeys([*given, *(f"{group}:{choice}"[:64] for group, choice in chosen.items())]))


def _build_wandb(cfg: DictConfig, node: DictConfig) -> Any:
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    run_dir = Path(cfg.run_dir)
    node = OmegaConf.merge(node, {"tags": _tags(cfg, node.tags)})
    mode = os.environ.get("WANDB_MODE") or node.mode
    settings = client_settings()
    if mode == "auto":
        mode = settings.mode  # `wandb offline` sets it
        if mode == "online" and (reason := offline_reason(settings)):
            mode = "offline"
            log.warning("W&B is offline: %s. %s", reason, upload_hint(run_dir))
    try:
        run = _init_wandb(cfg, node, mode)
    except Exception as error:
        if mode != "online":
            raise
        log.warning("W&B refused (%s): the run is kept offline. %s", error.__cause__ or error, upload_hint(run_dir))
        wandb.teardown()  # its service has kept the key
        run = _init_wandb(cfg, node, "offline")
    for axis in AXES:
        run.define_metric(axis, hidden=True)
    run.define_metric("*", step_metric="epoch")
    return WandbLogger(experiment=run)


def _init_wandb(cfg: DictConfig, node: DictConfig, mode: str) -> Any:
    import wandb

    run_dir = Path(cfg.run_dir)
    limits = {"init_timeout": 60, "finish_timeout": FINISH_TIMEOUT, "finish_timeout_raises": True}
    settings = wandb.Settings(silent=mode != "online", console="off", **limits)
    # Kept with the run, which goes on in its own W&B run; W&B's agent has chosen one. Older runs have their folder's.
    older = hashlib.sha256(str(run_dir.resolve()).encode()).hexdigest()[:8] if cfg.resume else None
    identity = read_summary(run_dir).get("wandb_id") or older or os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
    write_summary(run_dir, {"wandb_id": identity})
    name = node.name or run_dir.name
    options = {"name": name, "mode": mode, "dir": cfg.run_dir, "settings": settings, "id": identity}
    if cfg.resume and mode == "online":
        options["resume"] = "allow"
    return instantiate(node, _convert_="all", **options)


def upload_hint(run_dir: Path) -> str:
    """Returns the words that say how to upload an offline run, once it has ended."""
    return f"To upload this run: seglab wandb sync {shlex.quote(shown(run_dir))}"


@contextmanager
def closed_wandb(run_dir: Path) -> Iterator[None]:
    """Ends an open W&B run with its results and exit code 0, or with 1 where the block fails.

    So the next job of the same process opens its own, and a run that crashed does not look finished. A run that W&B has
    not taken after FINISH_TIMEOUT seconds, as without a network, is marked for `seglab wandb sync`.

    Args:
        run_dir: The run's folder, which has the results.
    """
    exit_code = 1
    try:
        yield
        if (run := _open_run()) is not None and not run.disabled:
            run.summary.update(results(run_dir))
        exit_code = 0
    finally:
        if (run := _open_run()) is not None:
            try:
                run.finish(exit_code=exit_code)
            except TimeoutError:
                mark_incomplete(Path(run.settings.sync_dir))
                log.warning("W&B has not taken all within %d s. %s", FINISH_TIMEOUT, upload_hint(run_dir))


def _open_run() -> Any:
    wandb = sys.modules.get("wandb")
    return wandb.run if wandb else None


def results(run_dir: Path) -> dict[str, Any]:
    """Returns what the run reached and cost, its test mIoU with the 95 % interval over images.

    A test of one image, or without a scored pixel, has no interval.
    """
    from seglab.lab.comparison import compare
    from seglab.lab.groups import group_runs
    from seglab.lab.runs import read_run

    run = read_run(run_dir)
    reached = {key: run.summary[key] for key in SUMMARY}
    with suppress(InputError):
        reached["test_miou_low"], reached["test_miou_high"] = compare(group_runs([run])).rows[0].interval
    return reached
