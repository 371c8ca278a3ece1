"""What stands in a run's folder: where things are, and the summary that every other tool reads."""

import hashlib
import importlib.metadata
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seglab.cli.data_command import quoted
from seglab.errors import InputError

PACKAGES = (
    "torch",
    "pytorch-lightning",
    "torchmetrics",
    "albumentations",
    "hydra-core",
    "numpy",
    "opencv-python-headless",
)
NOT_OF_THE_RESULT = ("run_dir", "resume", "sweep_name", "logger", "callbacks", "seed")  # left out of the config's hash


def shown(path: Path) -> str:
    """Returns a path as a user would type it: relative where it lies below the working folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def load_config(run: Path) -> DictConfig:
    """Returns the config that a run was made of.

    Raises:
        InputError: The folder is not a run's.
    """
    path = run / ".hydra" / "config.yaml"
    if not path.is_file():
        raise InputError(
            f"{run} is not a run folder: {path} is missing; give the folder that the run's last line names"
        )
    return OmegaConf.load(path)


def checkpoint_path(run: Path, checkpoint: str) -> Path:
    """Returns the file of `best`, `last` or of a path.

    Raises:
        InputError: There is no such file.
    """
    path = run / "checkpoints" / f"{checkpoint}.ckpt" if checkpoint in ("best", "last") else Path(checkpoint)
    if not path.is_file():
        raise InputError(f"checkpoint={checkpoint}: {path} does not exist; give best, last or a path")
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Returns a checkpoint's content on the CPU, tensors and plain containers only.

    Raises:
        InputError: The file cannot be read as one.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path} cannot be read as a checkpoint ({reason}): it is damaged or no checkpoint of seglab"
        ) from None


def resume_overrides(run: Path, overrides: list[str]) -> list[str]:
    """Returns the command line that goes on with a run: its own overrides, then the new ones, in its own folder.

    Raises:
        InputError: The folder is not a run's, or has nothing to go on from.
    """
    load_config(run)
    checkpoint_path(run, "last") if not (run / "checkpoints" / "last-previous.ckpt").is_file() else None
    own = list(OmegaConf.load(run / ".hydra" / "overrides.yaml"))
    merged = {override.split("=", 1)[0].lstrip("+"): override for override in [*own, *overrides]}
    merged.pop("hydra.run.dir", None)
    merged["resume"] = f"resume={quoted(str(run))}"
    return [*merged.values(), f"hydra.run.dir={quoted(str(run))}", "hydra.mode=RUN"]


def save_config(cfg: DictConfig, overrides: list[str], run: Path) -> None:
    """Writes the composed config and its overrides to the run's folder."""
    folder = run / ".hydra"
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, folder / "config.yaml")
    OmegaConf.save(OmegaConf.create(overrides), folder / "overrides.yaml")


def config_hash(cfg: DictConfig) -> str:
    """Returns 12 hex digits of the resolved config without seed, folders, workers, callbacks and loggers.

    Keys that are null do not count, so that a run keeps its hash when a later version adds a key that is off.
    """
    resolved = _without_nulls(OmegaConf.to_container(cfg, resolve=True))
    content = {key: value for key, value in resolved.items() if key not in NOT_OF_THE_RESULT}
    for key in ("root", "num_workers", "cache_mb"):
        content["data"].pop(key, None)
        content["data"]["source"].pop(key, None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _without_nulls(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    return {key: _without_nulls(value) for key, value in node.items() if value is not None}


def git_commit() -> str | None:
    """Returns the commit of the checkout that seglab runs from, with `-dirty` if it was edited; none without git."""
    folder = Path(__file__).parent
    try:
        command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    """Returns the versions of the packages that a result depends on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def read_summary(run: Path) -> dict[str, Any]:
    """Returns the run's summary; nothing if it has none."""
    path = run / "summary.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write_summary(run: Path, values: dict[str, Any]) -> None:
    """Writes summary.json over an older one as a whole; keys not given are kept, those given as none removed."""
    path = run / "summary.json"
    summary = read_summary(run) | values
    summary = {key: value for key, value in summary.items() if value is not None or key == "git_commit"}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(summary, indent=2) + "\n")
    os.replace(temporary, path)
