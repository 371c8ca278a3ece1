"""Mistakes in a composed config that would show only after an epoch, found before anything starts."""

import difflib
import math
from collections.abc import Sized
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from seglab.cli.command_line import typed
from seglab.cli.hardware import check_accelerator, check_devices, num_processes
from seglab.cli.run_folder import load_config, read_last_checkpoint, read_summary
from seglab.cli.wandb_client import check_wandb
from seglab.errors import InputError
from seglab.lab.result_config import config_of_result, differing_keys, flat
from seglab.lab.runs import read_run
from seglab.numeric import is_number, is_whole

_FREE_TO_RESUME = (  # keys that a run may go on with other values of
    *("max_images.", "trainer.max_epochs.", "callbacks.early_stopping."),
    *(f"trainer.{key}." for key in ("accelerator", "devices", "num_nodes", "strategy", "precision", "deterministic")),
    *(f"trainer.{key}." for key in ("check_val_every_n_epoch", "log_every_n_steps", "num_sanity_val_steps")),
)
LOGGED = ("lr", "images_seen", "train/loss", "train/miou", "train/images_per_second", "val/loss", "val/miou")


def check_config(cfg: DictConfig) -> None:
    """Refuses a training, validation or test that is switched off.

    With it goes what `check_callbacks`, `check_clipping`, `check_encoder`, `check_resumed` and `check_wandb` refuse.

    Raises:
        InputError: The first of these.
    """
    check_callbacks(cfg)
    if cfg.max_images is not None:
        if not (isinstance(cfg.max_images, int) and cfg.max_images > 0):
            raise InputError(
                f"max_images={cfg.max_images}: give a number of images over 0, or null for trainer.max_epochs"
            )
        limit = cfg.trainer.limit_train_batches
        if limit is not None and (limit != 1.0 or isinstance(limit, int)):
            raise InputError(
                f"max_images counts whole epochs, trainer.limit_train_batches={limit} cuts them: leave one of them out"
            )
    if cfg.trainer.limit_train_batches == 0:
        raise InputError("trainer.limit_train_batches=0 leaves nothing to train on: give 1 or more")
    if cfg.trainer.limit_val_batches == 0:
        raise InputError(
            "trainer.limit_val_batches=0 leaves no validation to choose the best checkpoint by: give 1 or more"
        )
    if cfg.trainer.limit_test_batches == 0:
        raise InputError("trainer.limit_test_batches=0 leaves nothing to test the best checkpoint on: give 1 or more")
    if cfg.trainer.get("overfit_batches"):
        raise InputError("trainer.overfit_batches is not taken: give trainer.limit_train_batches=2, or so")
    for key in ("max_epochs", "check_val_every_n_epoch", "accumulate_grad_batches"):
        value = cfg.trainer[key]
        if not (is_whole(value) and value >= 1):
            raise InputError(f"trainer.{key}={value}: give a whole number of at least 1")
    check_devices(cfg)
    check_clipping(cfg)
    check_encoder(cfg)
    if cfg.resume is not None:
        check_resumed(cfg)
    if "wandb" in cfg.logger:
        check_wandb(cfg)


def check_place(cfg: DictConfig) -> None:
    """Refuses a machine without the GPU that is asked for, and a folder of another run.

    Raises:
        InputError: One of these.
    """
    check_accelerator(cfg.trainer.accelerator)
    if cfg.resume is None and (Path(cfg.run_dir) / "checkpoints").exists():
        go_on = f"go on with it by {typed('resume', cfg.run_dir)}"
        raise InputError(f"{cfg.run_dir} already holds a run: give another hydra.run.dir, or {go_on}")


def check_callbacks(cfg: DictConfig) -> None:
    """Refuses a callback that a run cannot do without, a monitor that nobody logs, and one watched the wrong way.

    Raises:
        InputError: The first of these.
    """
    for name in ("best", "table", "throughput"):
        if cfg.callbacks.get(name) is None:
            raise InputError(f"callbacks.{name}=null: a run's record is made of it; leave the key out")
    logged = [*LOGGED, *(f"val/iou/{name}" for name in cfg.data.class_names)]
    watching = {f"callbacks.{name}": node for name, node in cfg.callbacks.items() if node} | {
        "scheduler": cfg.scheduler
    }
    for key, node in watching.items():
        if "monitor" not in node:
            continue
        monitor = node.monitor
        if monitor is None:
            raise InputError(f"{key}.monitor=null: give one of {', '.join(logged)}")
        if monitor not in logged:
            near = difflib.get_close_matches(monitor, logged, n=1, cutoff=0)
            raise InputError(
                f"{key}.monitor={monitor} is never logged: did you mean {near[0]}? Logged are {', '.join(logged)}"
            )
        if key == "callbacks.best" and not monitor.startswith("val/"):
            raise InputError(f"{key}.monitor={monitor}: the best epoch is one of validation; give val/miou or val/loss")
        mode = "min" if monitor.endswith("/loss") else "max" if "iou" in monitor else None
        if mode and node.get("mode", mode) != mode:
            raise InputError(
                f"{key}.monitor={monitor} with mode={node.mode} takes the worst for the best: add {key}.mode={mode}"
            )


def check_shares(cfg: DictConfig, **loaders: Sized) -> None:
    """Refuses a share of a loader's batches that makes less than one.

    Args:
        cfg: The config, with `trainer.limit_<name>_batches`.
        loaders: The loaders by name, train, val or test, of one process.

    Raises:
        InputError: Naming the first such key.
    """
    for name, loader in loaders.items():
        key, count = f"limit_{name}_batches", math.ceil(len(loader) / num_processes(cfg))
        share = cfg.trainer.get(key)
        if isinstance(share, float) and int(share * count) == 0:
            raise InputError(
                f"trainer.{key}={share} of {count} batches is less than one: give a whole number of batches, or at "
                f"least {1 / count:.2g}"
            )


def check_resumed(cfg: DictConfig) -> None:
    """Refuses to go on with a run by another config than its own, but for its length, machine and what watches it.

    A checkpoint brings the optimizer's own values, and a run is compared by its config: another learning rate, loss or
    dataset in the middle would count for the whole. An average of weights may be added to a run without one.

    Raises:
        InputError: Naming the keys that differ, or what the checkpoints are of; or no checkpoint can be read, or the
            dataset has changed; or as `check_position` and `check_records`.
    """
    _, checkpoint = read_last_checkpoint(Path(cfg.resume))
    before = load_config(Path(cfg.resume))
    if network_of(before) != network_of(cfg):
        remedy = "leave out the keys of model="
        if cfg.model.get("object_classifier") and not before.model.get("object_classifier"):
            remedy = "add model/object_classifier=none, since they have none"  # its experiment may have got one since
        raise InputError(f"resume={cfg.resume}: its checkpoints are of another network; {remedy}")
    if before.get("averaging") and (cfg.get("averaging") or {}).get("_target_") != before.averaging["_target_"]:
        raise InputError(f"resume={cfg.resume}: its checkpoints hold an average of weights; leave out averaging=")
    # what follows from another key, such as a schedule's length, does not count beside it: references stay as they are
    configs = map(OmegaConf.to_container, (before, cfg))
    own, given = (flat(config_of_result(config) | {"seed": config["seed"]}) for config in configs)
    differing = differing_keys(own, given)
    free = (*_FREE_TO_RESUME, *(() if before.get("averaging") else ("averaging.",)))
    if keys := [key for key in differing if not f"{key}.".startswith(free)]:
        said = ", ".join(f"{key}={given.get(key)} (was {own.get(key)})" for key in keys[:5])
        said += " ..." if len(keys) > 5 else ""
        raise InputError(f"resume={cfg.resume}: {said} cannot change within a run: leave it out, or start a new run")
    check_position(cfg, checkpoint)
    check_records(Path(cfg.resume), checkpoint)
    data = instantiate(cfg.data.source, _convert_="all").content_digest()
    if read_summary(Path(cfg.resume)).get("data_fingerprint", data) != data:
        raise InputError(f"resume={cfg.resume}: the dataset has changed since the run began: start a new run")


def check_position(cfg: DictConfig, checkpoint: dict[str, Any]) -> None:
    """Refuses to go on to an earlier end, and inside an epoch with another number of processes, which share its images.

    Raises:
        InputError: One of these.
    """
    epoch = checkpoint["epoch"] + 1  # the one that has ended, or was cut
    if cfg.max_images is None and cfg.trainer.max_epochs < epoch:
        raise InputError(
            f"resume={cfg.resume}: epoch {epoch} has begun already: give trainer.max_epochs={epoch} or more"
        )
    if cfg.max_images is not None and epoch > 1:
        seen = {row["epoch"] + 2: row["images_seen"] for row in read_run(Path(cfg.resume)).history}
        if seen.get(epoch, 0) >= cfg.max_images:
            least = int(seen[epoch]) + 1
            raise InputError(f"resume={cfg.resume}: epoch {epoch} has begun already: give max_images={least} or more")
    inside = not checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]
    processes = checkpoint.get("num_processes")
    if inside and processes and processes != num_processes(cfg):
        raise InputError(
            f"resume={cfg.resume}: it was cut inside an epoch whose images {processes} processes share: go on with as "
            "many to its end (trainer.max_epochs), and then with others"
        )


def check_records(run: Path, checkpoint: dict[str, Any]) -> None:
    """Refuses to go on without the best checkpoint so far, which is what is tested, or the table of the epochs so far.

    Raises:
        InputError: Naming the missing file.
    """
    has_best = any(state.get("best_model_path") for state in checkpoint["callbacks"].values())
    needed = {run / "checkpoints" / "best.ckpt": has_best, run / "metrics.csv": checkpoint["epoch"] > 0}
    for path, is_needed in needed.items():
        if is_needed and not path.is_file():
            raise InputError(f"resume={run}: {path} is missing: restore it, or start a new run")


def check_clipping(cfg: DictConfig) -> None:
    """Refuses gradients that are clipped to nothing.

    Raises:
        InputError: Naming the key.
    """
    clip = cfg.trainer.gradient_clip_val
    if clip is not None and not (is_number(clip) and clip > 0):
        raise InputError(f"trainer.gradient_clip_val={clip}: give the largest norm of a gradient, above 0, or null")


def check_encoder(cfg: DictConfig) -> None:
    """Refuses a backbone that timm does not know, weights that are not there, and to freeze or tune what has none.

    Raises:
        InputError: The first of these.
    """
    encoder = cfg.model.encoder
    if "fine_tuning" in cfg.model and "_target_" not in cfg.model.fine_tuning:
        raise InputError(
            f"model.fine_tuning: model={cfg.model.name} has no backbone to tune; leave it out, or take a network with "
            "one, such as model=unet_mobilenetv2"
        )
    if encoder.get("_target_") == "seglab.models.TimmEncoder":
        from seglab.models.timm_encoder import HUB, refuse_unknown_name

        refuse_unknown_name(encoder.name)
        if cfg.resume is None and encoder.weights not in (None, HUB) and not Path(encoder.weights).is_file():
            raise InputError(
                f"model.encoder.weights={encoder.weights} does not exist: give null, {HUB} or the path of a file"
            )
        keys = ("encoder.frozen_stages", "encoder.freeze_norm", "fine_tuning.frozen_epochs")
        frozen = [key for key in keys if OmegaConf.select(cfg.model, key)]
        if cfg.resume is None and encoder.weights is None and frozen:
            raise InputError(
                f"model.{frozen[0]}={OmegaConf.select(cfg.model, frozen[0])} would freeze random weights: give "
                f"model.encoder.weights={HUB} or a file, or leave it out"
            )


def network_of(cfg: DictConfig) -> dict[str, Any]:
    """Returns what a config says of the network, without the keys that are null: a later version may add such."""
    return config_of_result({"model": OmegaConf.to_container(cfg.model)})["model"]
