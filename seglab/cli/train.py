"""`python train.py`: compose, build, fit, test, report."""

import logging
import math
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from seglab.cli.command_line import quoted
from seglab.cli.conf_groups import CONF
from seglab.cli.ending import Interrupted, ended_by_signals, note_sigterm, recorded_ending, test_best, told_endings
from seglab.cli.hardware import is_first_process, num_processes
from seglab.cli.imports import import_torchmetrics
from seglab.cli.job import lock
from seglab.cli.memory import keep_freed_memory
from seglab.cli.mistakes import refuse_words, told_in_a_line
from seglab.cli.resolvers import register_resolvers
from seglab.cli.run_folder import (
    last_checkpoint,
    latest,
    make_folder,
    resume_overrides,
    save_config,
    shown,
    unchanged_if_refused,
    write_summary,
)
from seglab.cli.stamp import git_diff, stamp
from seglab.cli.sweep import SweepCallback, run_planned_job
from seglab.errors import InputError

if TYPE_CHECKING:
    from seglab.data import SegmentationDataModule

log = logging.getLogger(__name__)


def main() -> None:
    """Runs the command line; a user's mistake ends in one line and status 2."""
    register_resolvers()
    with told_in_a_line("train"):
        refuse_words(sys.argv[1:], "train")
        # argparse takes no option between other words
        sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))
        # Hydra makes the folder, and a run that is resumed or repeated has another place
        sys.argv[1:] = [re.sub(r"^\+*run_dir=", "hydra.run.dir=", word) for word in sys.argv[1:]]
        runs = [word.partition("=")[2] for word in sys.argv[1:] if word.lstrip("+").startswith("resume=")]
        if runs and runs[-1] not in ("", "null"):
            sys.argv[1:] = resume_overrides(Path(runs[-1].strip("'\"")), sys.argv[1:])
        status = 0
        try:
            compose_and_run()
        except Exception as error:
            if type(error).__name__ != "TerminatedWorkerError":  # joblib's
                raise
            print("error: a worker of the launcher was killed: the same command goes on", file=sys.stderr)
            status = 1
        finally:
            if SweepCallback.sweep is not None:
                status = SweepCallback.sweep.finish() or status
                SweepCallback.sweep = None
        if status:
            raise SystemExit(status)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def compose_and_run(cfg: DictConfig) -> None:
    """Runs one training; a job of a multirun gets a process of its own."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        if cfg.search is None:
            return run_planned_job(cfg)
        from seglab.cli.search import run_worker

        return run_worker(cfg)
    with told_in_a_line("train"):
        return train(cfg)


def train(cfg: DictConfig) -> None:
    """Trains, tests the best checkpoint, and writes the run folder.

    Raises:
        InputError: The config has a mistake, or another process trains in the folder.
    """
    from seglab.cli.checks import check_config, check_place
    from seglab.cli.word_checks import check_words

    run, overrides = Path(cfg.run_dir), list(HydraConfig.get().overrides.task)
    if not is_first_process():
        return fit_and_test(cfg, run)
    if "root" in cfg.data and not OmegaConf.is_missing(cfg.data, "root"):
        cfg.data.root = str(Path(cfg.data.root).resolve())
    check_words(cfg, overrides)
    check_config(cfg)
    check_place(cfg)
    make_folder(run, "run_dir")
    with lock(run, attempts=10) as free:  # who only asks whether it is held, holds it for a moment
        if not free:
            raise InputError(f"{run} is being trained by another process: wait for it, or give another hydra.run.dir")
        with unchanged_if_refused(run), ended_by_signals():
            overrides = words_of_run(cfg, overrides)
            save_config(cfg, overrides, run)
            if diff := git_diff():
                (run / "git.diff").write_text(diff + "\n", encoding="utf-8")
            write_summary(run, {"status": "running", "error": None} | stamp(cfg, overrides))
            with recorded_ending(run) as note_seconds:
                fit_and_test(cfg, run, note_seconds)


def words_of_run(cfg: DictConfig, overrides: Sequence[str]) -> list[str]:
    """Returns the words that make a run anew, however often it was cut and resumed, with its data from any folder."""
    words = latest(overrides)
    words.pop("resume", None)
    if "data.root" in words:
        words["data.root"] = f"data.root={quoted(cfg.data.root)}"
    return list(words.values())


def fit_and_test(cfg: DictConfig, run: Path, note_seconds: Callable[[], None] | None = None) -> None:
    """Fits, tests and reports.

    Args:
        cfg: The composed config.
        run: The run's folder.
        note_seconds: Called at the end of each epoch.

    Raises:
        InputError: A mistake that shows with the dataset or the network alone.
        Interrupted: The fit or the test was cut.
    """
    import_torchmetrics()
    import pytorch_lightning as pl

    from seglab.cli.build import build_callbacks, build_task, build_trainer
    from seglab.cli.build_loss import class_weights
    from seglab.cli.loggers import build_loggers, closed_wandb

    quiet()
    keep_freed_memory()
    datamodule = checked_data(cfg, run)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if cfg.data.normalize:
        mean, std = datamodule.statistics.mean, datamodule.statistics.std
    task = build_task(cfg, mean, std, class_weights(cfg, datamodule))
    checkpoint = last_checkpoint(Path(cfg.resume)) if cfg.resume else None
    if checkpoint and checkpoint.name != "last.ckpt":
        log.warning("last.ckpt is missing or damaged: going on from %s", shown(checkpoint))
    if task.model.object_classifier is not None and checkpoint is None:
        from seglab.task.fit_objects import fit_objects

        fit_objects(task.model.object_classifier, datamodule.train_dataset.reader, cfg.seed)
    with closed_wandb(run):
        loggers = build_loggers(cfg) if is_first_process() else []
        trainer = build_trainer(cfg, task.model, build_callbacks(cfg), loggers)
        trainer._signal_connector._sigterm_notifier_fn = partial(note_sigterm, trainer)
        if cfg.trainer.precision not in ("auto", trainer.precision):
            log.info("trainer.precision=%s is %s here", cfg.trainer.precision, trainer.precision)
        if note_seconds is not None:
            log.info("run %s", shown(run))
            trainer.callbacks.append(pl.callbacks.LambdaCallback(on_train_epoch_end=lambda *_: note_seconds()))
        with told_endings(cfg, trainer):
            trainer.fit(task, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
            if trainer.received_sigterm:  # when nothing was left to train
                raise Interrupted(143)
            summary = test_best(cfg, run, trainer, task, datamodule)
    if summary:
        scores = f"best val mIoU {summary['best_val_miou']:.4f} (epoch {summary['best_epoch']})"
        log.info("run %s  %s  test mIoU %.4f", shown(run), scores, summary["test_miou"])


def checked_data(cfg: DictConfig, run: Path) -> "SegmentationDataModule":
    """Returns the datamodule with every file checked, and sets the number of epochs where images are counted.

    Raises:
        InputError: A file is at fault, or nothing of a split would be seen.
    """
    from seglab.cli.build import build_datamodule
    from seglab.cli.checks import check_shares

    datamodule = build_datamodule(cfg)
    datamodule.setup("fit")
    evaluated = {split: datamodule.eval_dataloader(split) for split in ("val", "test")}
    check_shares(cfg, train=datamodule.train_dataloader(), **evaluated)
    if cfg.max_images is not None:
        cfg.trainer.max_epochs = math.ceil(cfg.max_images / datamodule.images_per_epoch(num_processes(cfg)))
    if is_first_process():
        fingerprint = datamodule.source.content_digest()
        write_summary(run, {"data_fingerprint": fingerprint, "max_epochs": cfg.trainer.max_epochs})
        warn_of_splits(datamodule)
        warn_of_patience(cfg)
    return datamodule


def warn_of_patience(cfg: DictConfig) -> None:
    """Says where early stopping waits for more validations than the run has."""
    epochs, every = cfg.trainer.max_epochs, cfg.trainer.check_val_every_n_epoch
    stopping = cfg.callbacks.get("early_stopping")
    if stopping and stopping.patience >= epochs // every:
        log.warning(
            "callbacks.early_stopping.patience=%d stops nothing: in %d epochs there are %d validations",
            stopping.patience, epochs, epochs // every,
        )  # fmt: skip


def warn_of_splits(datamodule: "SegmentationDataModule") -> None:
    """Says where test is val, and which classes so few images of them have that the split's mIoU hangs on these."""
    from seglab.lab.runs import MANY_IMAGES_OF_A_CLASS

    val, test = (datamodule.source.names(split).tolist() for split in ("val", "test"))
    if val == test:
        log.warning("the test split is the val split: its score is that of the best epoch on it, which flatters")
    for split in ("val", "test") if val != test else ("val",):
        counts = datamodule.images_with(split)
        if rare := [f"{name} ({count})" for name, count in counts.items() if count < MANY_IMAGES_OF_A_CLASS]:
            log.warning("%s: few images have %s, and mIoU counts all classes alike", split, ", ".join(rare))


def quiet() -> None:
    """Keeps Lightning's advertisements and notes on its own insides out of the log."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # frozen stages
    warnings.filterwarnings("ignore", message=".*could not find the monitored key.*")  # an epoch without validation
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # what we log is the same in all processes
