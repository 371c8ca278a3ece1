"""What a run was made with, so that it can be repeated: code, packages, machine, config and data."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from seglab.cli.run_folder import resolved
from seglab.lab.result_config import config_hash

PACKAGES = (
    "torch",
    "pytorch-lightning",
    "torchmetrics",
    "albumentations",
    "hydra-core",
    "timm",
    "numpy",
    "opencv-python-headless",
)
_HERE = Path(__file__).parent


def stamp(cfg: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """Returns what summary.json says of a run before it starts, with the words of its command line."""
    choices = HydraConfig.get().runtime.choices
    choices = {key: value for key, value in choices.items() if not key.startswith("hydra/")}
    return {
        "seed": cfg.seed,
        "protocol": cfg.protocol,
        "config_hash": config_hash(resolved(cfg)),
        "choices": choices,
        "overrides": list(overrides),
        "command": " ".join(["python train.py", *map(shlex.quote, overrides)]),
        "git_commit": git_commit(),
        "versions": {"python": platform.python_version()} | versions(),
        "hardware": hardware(),
    }


def git_commit() -> str | None:
    """Returns the commit of the checkout that seglab runs from, with `-dirty` if it was edited; none without git."""
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def git_diff() -> str | None:
    """Returns what was edited in the checkout since its commit, as a patch; empty if nothing, none without git."""
    return _git("diff", "HEAD", "--no-ext-diff")


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(_HERE), *words], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip("\n")


def versions() -> dict[str, str]:
    """Returns the versions of the packages that a result depends on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hardware() -> dict[str, Any]:
    """Returns the machine's processor, cores, memory in GiB, and GPUs."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "cpu": torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine(),
        "cores": cores(),
        "memory_gib": round(memory / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }
