"""Mistakes of a sweep's jobs that show without its data, found before the first job starts."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from seglab.cli.mistakes import explain
from seglab.errors import InputError

if TYPE_CHECKING:
    from seglab.cli.sweep_plan import Job

_MOST = 5  # faults that are named


def refuse_mistakes(jobs: "Iterable[tuple[Job, DictConfig, str]]") -> None:
    """Refuses a sweep of which a job would end in a mistake before it has seen its data.

    Args:
        jobs: those that start, each with its config, and the hash of what its result follows from.

    Raises:
        InputError: Naming the faults, and the jobs that have them.
    """
    from seglab.cli.checks import check_config
    from seglab.cli.word_checks import check_words

    faults: dict[str, list[str]] = {}
    built: set[str] = set()
    for job, cfg, digest in jobs:
        try:
            check_words(cfg, job.overrides)
            check_config(cfg)
            if digest not in built:  # by a job of another seed
                check_parts(cfg)
            built.add(digest)
        except Exception as error:  # of whatever kind, it would end the job
            faults.setdefault(explain(error, "train"), []).append(job.folder)
    if faults:
        more = [f"and {len(faults) - _MOST} other mistakes"] if len(faults) > _MOST else []
        lines = [f"{_named(names)}: {'; '.join(fault.splitlines())}" for fault, names in faults.items()]
        count = sum(map(len, faults.values()))
        raise InputError("\n".join([f"no job was started, since {count} would fail:", *lines[:_MOST], *more]))


def check_parts(cfg: DictConfig) -> None:
    """Builds what a run is made of but its data and the memory of its weights.

    Raises:
        Exception: A part does not take its values, or does not fit the others.
    """
    import torch

    from seglab.cli.build import build_datamodule, build_task

    data = cfg.copy()
    data.data.source = {"_target_": "builtins.object"}  # it would look for files, or fetch them
    build_datamodule(data)
    weights = None if cfg.loss.get("class_weights") is None else [1.0] * cfg.data.num_classes
    try:
        with torch.device("meta"):
            build_task(cfg, None, None, weights)
    except Exception:  # a mistake, or a part that asks for a tensor's value as it is made
        build_task(cfg, None, None, weights)


def _named(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
