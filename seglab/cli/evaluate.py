"""`python evaluate.py run=RUN`: scores a run again, from its folder alone."""

import sys
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, open_dict

from seglab.cli.checks import check_shares
from seglab.cli.command_line import quoted
from seglab.cli.conf_groups import CONF
from seglab.cli.evaluation_folder import inference_settings, name_of_folder, settings_name, several
from seglab.cli.leakage import is_own_data, refuse_changed_data, refuse_training_images, warn_of_training_images
from seglab.cli.memory import keep_freed_memory
from seglab.cli.mistakes import refuse_words, told_in_a_line
from seglab.cli.network_options import OVERLAP, check_scales
from seglab.cli.resolvers import register_resolvers
from seglab.cli.run_folder import checkpoint_path, forbid_download, load_config, make_folder, read_summary
from seglab.cli.score_table import print_scores
from seglab.cli.temperature import FIT, resolve_temperature, temperature_path, write_temperature
from seglab.errors import InputError
from seglab.numeric import is_number, is_whole


def main() -> None:
    """Runs the command line; a user's mistake ends in one line and status 2."""
    register_resolvers()
    with told_in_a_line("evaluate"):
        refuse_words(sys.argv[1:])
        sys.argv[1:] = map(quoted_runs, sys.argv[1:])
        compose_and_run()


def quoted_runs(word: str) -> str:
    """Returns `run=RUN` or `run=[RUN,RUN]` as Hydra reads it: a job's folder has an = in its name."""
    value = word.removeprefix("run=")
    if value in (word, "[]") or "'" in word or '"' in word:
        return word
    if value.startswith("[") and value.endswith("]"):
        return f"run=[{','.join(quoted(run.strip()) for run in value[1:-1].split(','))}]"
    return f"run={quoted(value)}"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
def compose_and_run(cfg: DictConfig) -> None:
    """Evaluates and prints the table of classes."""
    with told_in_a_line("evaluate"):
        print_scores(*evaluate(cfg))


def evaluate(cfg: DictConfig) -> tuple[dict[str, Any], Path]:
    """Scores a run, or the mean of several, on a split of its own or another dataset.

    Returns:
        What metrics.json holds, and the folder that was written.

    Raises:
        InputError: No run folder, checkpoint, split or dataset of the same classes, an option out of range, the run's
            dataset has changed, or one of several runs was trained on images of the split.
    """
    check_options(cfg)
    runs = [Path(run) for run in several(cfg.run)]
    run_cfg = run_config(cfg, runs[0])

    from seglab.cli.build import build_datamodule
    from seglab.cli.train import quiet
    from seglab.task import EvaluationWriter, TemperatureFit

    quiet()
    keep_freed_memory()
    protocol = cfg.protocol if cfg.protocol != load_config(runs[0]).protocol else None
    settings, fits = inference_settings(runs, cfg), cfg.temperature == FIT
    task = build_scored_task(cfg, run_cfg, runs)
    if fits:
        task.temperature_fit = TemperatureFit(task.ignore_index)
    elif cfg.temperature is not None:
        task.temperature = resolve_temperature(cfg.temperature, runs, cfg, protocol)
    datamodule = build_datamodule(run_cfg)
    datamodule.setup(cfg.split)
    is_own = is_own_data(datamodule.source, runs[0])
    if cfg.data.root is None:
        refuse_changed_data(is_own, runs[0], run_cfg.data)
        refuse_training_images(runs, datamodule.source, cfg.split)
    elif fits and not is_own:
        raise InputError(f"temperature={FIT}: data.root is another dataset than the run's; leave it out")
    elif not is_own:
        warn_of_training_images(runs, datamodule.source, cfg.split)
    check_shares(cfg, test=datamodule.eval_dataloader(cfg.split))
    trainer = build_evaluator(cfg, run_cfg)
    if trainer.precision != read_summary(runs[0]).get("precision", trainer.precision):
        settings["precision"] = trainer.precision
    if cfg.data.root and not is_own:
        settings["data"] = name_of_folder(Path(cfg.data.root), cfg.data.splits)
    folder = runs[0] / "evaluation" / evaluation_name(cfg, protocol, settings)
    settings |= {"temperature": task.temperature} if task.temperature != 1 else {}
    writer = EvaluationWriter(folder, cfg.split, run_cfg.protocol, overlays=cfg.overlays, inference=settings)
    trainer.callbacks.append(writer)
    make_folder(folder.parent, "run")
    try:
        trainer.test(task, datamodule.eval_dataloader(cfg.split), verbose=False)
    except (SystemExit, KeyboardInterrupt):  # Lightning's own way to end on SIGTERM and Ctrl-C
        print(f"cut: {folder} is as it was before", file=sys.stderr)
        raise SystemExit(143 if trainer.received_sigterm else 130) from None
    if fits:
        write_temperature(task.temperature_fit, temperature_path(runs, cfg, protocol), writer.result)
    return writer.result, folder


def check_options(cfg: DictConfig) -> None:
    """Checks the values that are the command's own, and makes lists of single ones.

    Raises:
        InputError: Naming the key.
    """
    from seglab.data.source import SPLITS

    if cfg.split not in SPLITS:
        raise InputError(f"split={cfg.split} is unknown: give one of {', '.join(SPLITS)}")
    for key in ("run", "checkpoint"):
        if not several(cfg[key]):
            raise InputError(f"{key}=[] names nothing: give one or more")
    for key in ("flip", "overlays"):
        if not isinstance(cfg[key], bool):
            raise InputError(f"{key}={cfg[key]}: give true or false")
    cfg.scales = [cfg.scales] if is_number(cfg.scales) else cfg.scales
    check_scales(cfg.scales)
    if not (cfg.window is None or is_whole(cfg.window)):
        raise InputError(f"window={cfg.window}: give the side of a window in pixels, or null for whole images")
    if cfg.temperature == FIT and cfg.split != "val":
        raise InputError(f"temperature={FIT}: add split=val, whose images no score of the test split has seen")
    if cfg.temperature == FIT and cfg.trainer.limit_test_batches is not None:
        raise InputError(f"temperature={FIT} is that of the whole val split: leave out trainer.limit_test_batches")
    limit = cfg.trainer.limit_test_batches
    if limit is not None and not (is_number(limit) and limit > 0):
        raise InputError(f"trainer.limit_test_batches={limit}: give a number of batches, or a share of them up to 1.0")
    if not is_number(cfg.overlap):
        raise InputError(f"overlap={cfg.overlap}: give a share from 0 to below 1")
    if not cfg.window and cfg.overlap != OVERLAP:
        raise InputError(f"overlap={cfg.overlap} is that of windows: add window=PIXELS")


def build_scored_task(cfg: DictConfig, run_cfg: DictConfig, runs: list[Path]) -> Any:
    """Returns the task around what images go through, with the loss of the first run.

    Raises:
        InputError: As `load_inference`.
    """
    from seglab.cli.build_loss import build_loss
    from seglab.cli.network import load_inference, restore
    from seglab.task import SegmentationTask

    configs = [run_cfg, *map(load_config, runs[1:])]
    inference = load_inference(runs, configs, cfg)
    # Weights of any value make room for those in the checkpoint.
    weights = None if run_cfg.loss.get("class_weights") is None else [1.0] * run_cfg.data.num_classes
    loss = build_loss(run_cfg, weights)
    if loss.state_dict():
        restore(loss, "loss", checkpoint_path(runs[0], several(cfg.checkpoint)[0]))
    return SegmentationTask(inference, loss, list(run_cfg.data.class_names), run_cfg.data.ignore_index)


def build_evaluator(cfg: DictConfig, run_cfg: DictConfig) -> Any:
    """Returns a trainer on one device that tests and logs nowhere."""
    import pytorch_lightning as pl
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from seglab.cli.hardware import check_accelerator, resolve_precision

    check_accelerator(cfg.trainer.accelerator)
    options = dict(
        accelerator=cfg.trainer.accelerator,
        devices=1,
        precision=resolve_precision(run_cfg.trainer.precision, cfg.trainer.accelerator),
        limit_test_batches=cfg.trainer.limit_test_batches,
        callbacks=[pl.callbacks.RichProgressBar()],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    try:
        return pl.Trainer(**options)
    except (MisconfigurationException, ValueError) as error:
        raise InputError(f"trainer: {error}") from None


def run_config(cfg: DictConfig, run: Path) -> DictConfig:
    """Returns the run's config with the values that the command line gives in its place."""
    run_cfg = load_config(run)
    if cfg.data.root is not None and "root" not in run_cfg.data:
        raise InputError(
            f"data.root={cfg.data.root}: {run} was trained on data={run_cfg.data.name}, which has no folder"
        )
    if cfg.data.splits is not None and cfg.data.root is None:
        raise InputError("data.splits is of another dataset: add data.root=PATH; of its own the run knows the splits")
    forbid_download(run_cfg.data)
    given = {"data": cfg.data, "trainer": {"precision": cfg.trainer.precision}}
    with open_dict(run_cfg):
        for group, values in given.items():
            for key, value in values.items():
                if value is not None:
                    run_cfg[group][key] = value
        run_cfg.protocol = cfg.protocol or run_cfg.protocol
    return run_cfg


def evaluation_name(cfg: DictConfig, protocol: str | None, settings: dict[str, Any]) -> str:
    """Returns the split's name, followed by whatever differs from the run's own evaluation.

    Args:
        cfg: The command's config.
        protocol: Where it is another than the run's own.
        settings: As `inference_settings` returns them, and precision and data where they are others than the run's own.
    """
    parts = [cfg.split]
    if protocol:
        parts.append(protocol)
    parts += settings_name(settings)
    if cfg.trainer.limit_test_batches is not None:
        parts.append(f"first-{cfg.trainer.limit_test_batches}-batches")
    if cfg.temperature not in (None, FIT):
        parts.append(f"temperature-{cfg.temperature}")
    return "-".join(parts)
