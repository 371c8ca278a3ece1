"""What W&B's client left in a run folder, and what W&B calls the run."""

from collections.abc import Sequence
from pathlib import Path

from seglab.errors import InputError
from seglab.lab.runs import Run


def wandb_folders(run: Run) -> list[Path]:
    """Returns the folders that W&B's client wrote for a run, `[offline-]run-<time>-<id>`, in order of time."""
    folders = [*(run.folder / "wandb").glob("run-*-*"), *(run.folder / "wandb").glob("offline-run-*-*")]
    return sorted(folders, key=lambda folder: folder.name.removeprefix("offline-"))


def wandb_id(run: Run) -> str:
    """Returns a run's id in W&B.

    Raises:
        InputError: It was trained without W&B.
    """
    if not (folders := wandb_folders(run)):
        raise InputError(f"{run.folder} was not logged to W&B: it has no folder wandb/run-* or wandb/offline-run-*")
    return folders[-1].name.removeprefix("offline-").split("-", 2)[2]


def is_uploaded(folder: Path) -> bool:
    """Returns whether W&B has all of what a folder of its client holds."""
    return not folder.name.startswith("offline-") or any(folder.glob("*.wandb.synced"))


def shared(runs: Sequence[Run], key: str) -> str | None:
    """Returns the value of logger.wandb.project, or of another key there, that all the runs have.

    Raises:
        InputError: They have several.
    """
    values = {run.config["logger"].get("wandb", {}).get(key): run for run in runs}
    if len(values) > 1:
        several = ", ".join(f"{value} ({run.folder})" for value, run in values.items())
        raise InputError(f"the runs differ in logger.wandb.{key}: {several}; give --{key}")
    return next(iter(values))
