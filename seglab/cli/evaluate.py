"""`python evaluate.py run=RUN`: scores a run again, from its folder alone."""

import sys
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, open_dict

from seglab.cli.memory import keep_freed_memory
from seglab.cli.mistakes import CONF, told_in_a_line
from seglab.cli.resolvers import register_resolvers
from seglab.cli.run_folder import checkpoint_path, load_checkpoint, load_config
from seglab.errors import InputError


def main() -> None:
    """Runs the command line; a user's mistake ends in one line and status 2."""
    register_resolvers()
    with told_in_a_line("evaluate"):
        compose_and_run()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
def compose_and_run(cfg: DictConfig) -> None:
    """Evaluates and prints the table of classes."""
    with told_in_a_line("evaluate"):
        print_scores(*evaluate(cfg))


def evaluate(cfg: DictConfig) -> tuple[dict[str, Any], Path]:
    """Scores a run on a split of its own or another dataset.

    Returns:
        What metrics.json holds, and the folder that was written.

    Raises:
        InputError: No run folder, checkpoint, split or dataset of the same classes.
    """
    run = Path(str(cfg.run))
    run_cfg = run_config(cfg, run)
    checkpoint = checkpoint_path(run, str(cfg.checkpoint))
    state = load_checkpoint(checkpoint)

    from seglab.cli.build import build_datamodule, build_task
    from seglab.cli.train import quiet
    from seglab.data.source import SPLITS
    from seglab.task import EvaluationWriter

    if cfg.split not in SPLITS:
        raise InputError(f"split={cfg.split} is unknown: give one of {', '.join(SPLITS)}")
    quiet()
    keep_freed_memory()
    datamodule = build_datamodule(run_cfg)
    datamodule.setup(cfg.split)
    # Weights of any value make room for those in the checkpoint.
    weights = None if run_cfg.loss.get("class_weights") is None else [1.0] * run_cfg.data.num_classes
    task = build_task(run_cfg, None, None, weights)
    try:
        task.load_state_dict(state["state_dict"])
    except (KeyError, RuntimeError) as error:
        raise InputError(f"{checkpoint} is not of this run's network: {str(error).splitlines()[0]}") from None
    folder = run / "evaluation" / evaluation_name(cfg)
    writer = EvaluationWriter(folder, cfg.split, run_cfg.protocol, overlays=cfg.overlays)
    trainer = build_evaluator(cfg, run_cfg, writer)
    trainer.test(task, datamodule.eval_dataloader(cfg.split), verbose=False)
    return writer.result, folder


def build_evaluator(cfg: DictConfig, run_cfg: DictConfig, writer: Any) -> Any:
    """Returns a trainer on one device that tests and logs nowhere."""
    import pytorch_lightning as pl
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from seglab.cli.build import resolve_precision

    options = dict(
        accelerator=cfg.trainer.accelerator,
        devices=1,
        precision=resolve_precision(run_cfg.trainer.precision, cfg.trainer.accelerator),
        limit_test_batches=cfg.trainer.limit_test_batches,
        callbacks=[writer, pl.callbacks.RichProgressBar()],
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
    given = {"data": dict(cfg.data), "trainer": {"precision": cfg.trainer.precision}}
    with open_dict(run_cfg):
        for group, values in given.items():
            for key, value in values.items():
                if value is not None:
                    run_cfg[group][key] = value
        run_cfg.protocol = cfg.protocol or run_cfg.protocol
    return run_cfg


def evaluation_name(cfg: DictConfig) -> str:
    """Returns the split's name, followed by whatever differs from the run's own evaluation."""
    parts = [cfg.split]
    if cfg.protocol and cfg.protocol != load_config(Path(str(cfg.run))).protocol:
        parts.append(cfg.protocol)
    if cfg.checkpoint != "best":
        parts.append(Path(str(cfg.checkpoint)).stem)
    if cfg.data.root:
        parts.append(Path(cfg.data.root).resolve().name)
    if cfg.trainer.limit_test_batches is not None:
        parts.append(f"first-{cfg.trainer.limit_test_batches}-batches")
    return "-".join(parts)


def print_scores(result: dict[str, Any], folder: Path) -> None:
    """Prints the IoU of each class, the mean, and where everything is."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "class", "IoU", title=f"{result['split']}: {result['num_images']} images, protocol {result['protocol']}"
    )
    table.columns[1].justify = "right"
    for name, iou in result["iou"].items():
        table.add_row(name, "-" if iou is None else f"{iou:.4f}")
    table.add_section()
    scored = f"{result['classes_scored']} of {len(result['iou'])} classes"
    table.add_row(f"mean ({scored})", f"{result['miou']:.4f}")
    table.add_row("pixel accuracy", f"{result['pixel_accuracy']:.4f}")
    Console(file=sys.stdout).print(table)
    print(folder)
