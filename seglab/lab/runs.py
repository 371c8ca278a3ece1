"""Finished runs as plain values, read from their folders."""

import csv
import json
import os
import shlex
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from seglab.errors import InputError
from seglab.lab.evaluation import Evaluation, read_evaluation

PLAN = "sweep.json"  # in the folder of sweeps: their jobs in the order in which they were first typed
_SPLITS = ("train", "val", "test")
MANY_IMAGES_OF_A_CLASS = 5  # of fewer in a split, its IoU says little


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        folder: where it is, as it was typed.
        summary: what summary.json holds.
        config: the resolved config, nested plain containers.
        evaluated: name of the evaluation that it is to be read by, whatever the split; none for that of the split.
    """

    folder: Path
    summary: dict[str, Any]
    config: dict[str, Any]
    evaluated: str | None = None

    @property
    def name(self) -> str:
        """The folder's name."""
        return _whole(self.folder).name

    @cached_property
    def resolved(self) -> Path:
        """The folder, however it was typed: two runs of one are the same run."""
        return self.folder.resolve()

    @property
    def place(self) -> Path:
        """The folder that names it: its own, or that of the evaluation."""
        return self.folder if self.evaluated is None else self.evaluation_folder(self.evaluated)

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.config["seed"]

    @property
    def choices(self) -> dict[str, str]:
        """The choice of each config group, `model: unet6` and so on."""
        return self.summary["choices"]

    @property
    def overrides(self) -> list[str]:
        """The words of its command line."""
        return self.summary["overrides"]

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """The rows of metrics.csv, one for each epoch; values that were not logged are left out.

        Raises:
            InputError: The file is damaged.
        """
        return read_history(self.folder)

    def evaluation_folder(self, split: str) -> Path:
        """Returns where its scores on a split are."""
        return self.folder / "evaluation" / (self.evaluated or split)

    def evaluation(self, split: str = "test") -> Evaluation:
        """Returns the scores on a split.

        Raises:
            InputError: The run was not evaluated on this split, or a file is damaged.
        """
        folder = self.evaluation_folder(split)
        try:
            return read_evaluation(folder)
        except FileNotFoundError as error:
            raise InputError(f"{error.filename} is missing: {self._remedy(split, 'writes it')}") from None
        except (ValueError, TypeError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{folder} is damaged ({error}): {self._remedy(split, 'writes it anew')}") from None

    def _remedy(self, split: str, writes: str) -> str:
        if (self.evaluated or split) in _SPLITS:
            command = shlex.join(["python", "evaluate.py", f"run={self.folder}", f"split={split}"])
            return f"{command} {writes}"
        own = sorted(path.parent.name for path in self.folder.glob("evaluation/*/metrics.json"))
        return f"evaluate.py {writes} with the options that it is named by; the run has {', '.join(own) or 'none'}"


def read_history(run: Path) -> list[dict[str, float]]:
    """Returns the rows of a run's metrics.csv, one for each epoch; values that were not logged are left out.

    Raises:
        InputError: The file is damaged.
        OSError: There is none that could be read.
    """
    path = run / "metrics.csv"
    with path.open(newline="", encoding="utf-8") as file:
        try:
            return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
        except (ValueError, TypeError, csv.Error) as error:
            raise InputError(f"{path} is damaged ({error}): restore it, or leave the run out") from None


def is_run(folder: Path) -> bool:
    """Returns whether a folder holds a run, finished or not."""
    return os.path.isfile(folder / "summary.json") and os.path.isfile(folder / ".hydra" / "resolved.json")


def is_evaluation(folder: Path) -> bool:
    """Returns whether a folder holds an evaluation of a run, such as RUN/evaluation/test-flip."""
    folder = _whole(folder)
    holds_scores = folder.parent.name == "evaluation" and os.path.isfile(folder / "metrics.json")
    return holds_scores and is_run(folder.parents[1])


def _whole(folder: Path) -> Path:
    """Returns a path from the root on, also of `.` and `../test`, symlinks as they are."""
    return Path(os.path.abspath(folder))


def read_run(folder: Path) -> Run:
    """Reads a run folder, or the run of an evaluation's folder, as that evaluation scored it.

    Raises:
        InputError: It is none, or one of its files is damaged.
    """
    if is_evaluation(folder):
        whole = _whole(folder)
        typed_run = folder.parts[-2:] == whole.parts[-2:]  # not so of `test`, typed in RUN/evaluation
        return replace(read_run((folder if typed_run else whole).parents[1]), evaluated=whole.name)
    if not is_run(folder):
        raise InputError(f"{folder} is not a run folder: give the folder that a run's last line names")
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        config = json.loads((folder / ".hydra" / "resolved.json").read_text(encoding="utf-8"))
        for values, key in ((summary, "choices"), (summary, "overrides"), (config, "seed")):
            if key not in dict(values):
                raise ValueError(f"{key} is missing")
    except (ValueError, TypeError) as error:
        raise InputError(f"{folder}: summary.json or .hydra/resolved.json is damaged ({error})") from None
    return Run(folder, summary, config)


def find_runs(paths: Iterable[Path]) -> tuple[list[Run], list[Run]]:
    """Reads run folders, every run in folders of runs such as a sweep's, and runs by the evaluation that is named.

    Returns:
        The finished runs, each once, in the order of `paths`, of a sweep's jobs and of names; and the others.

    Raises:
        InputError: A path holds no run.
    """
    found: dict[Path, Run] = {}
    for path in paths:
        if not os.path.isdir(path):  # Path.is_dir has no answer to a name that is too long
            raise InputError(f"{path} does not exist: give a run folder, or a folder of runs such as runs/sweeps/NAME")
        one = is_run(path) or is_evaluation(path)
        folders = [path] if one else runs_in(path)
        if not folders and (path / ".hydra").is_dir():
            raise InputError(f"{path / 'summary.json'} or .hydra/resolved.json is missing: restore it, or train again")
        if not folders:
            raise InputError(f"{path} holds no run: give a run folder, or a folder of runs such as runs/sweeps/NAME")
        found |= {folder.resolve(): read_run(folder) for folder in folders if folder.resolve() not in found}
    runs = list(found.values())
    finished = [run for run in runs if run.summary.get("status") == "finished"]
    return finished, [run for run in runs if run.summary.get("status") != "finished"]


def missing_runs(paths: Iterable[Path]) -> dict[Path, str]:
    """Returns what should be runs in folders of runs and is none, each with the reason.

    Raises:
        InputError: A sweep's plan is damaged.
    """
    missing, parts = {}, (".hydra", "evaluation")
    for path in paths:
        if is_run(path) or is_evaluation(path):
            continue
        begun = [child for child in path.iterdir() if any(os.path.isdir(child / part) for part in parts)]
        for child in [*sorted(begun), *(path / name for name in _planned(path) if path / name not in begun)]:
            if not is_run(child):
                file = "summary.json" if not (child / "summary.json").is_file() else ".hydra/resolved.json"
                missing[child] = f"{file} is missing" if child in begun else "not started"
    return missing


def runs_in(folder: Path) -> list[Path]:
    """Returns the runs in a folder: those of a sweep in the order of its jobs, then all others by name.

    Raises:
        InputError: The sweep's plan is damaged.
    """
    runs, planned = sorted(child for child in folder.iterdir() if is_run(child)), _planned(folder)
    return sorted(runs, key=lambda run: planned.index(run.name) if run.name in planned else len(planned))


def _planned(folder: Path) -> list[str]:
    """Returns the folders of a sweep's jobs in their order; none where there is no plan."""
    plan = folder / PLAN
    try:
        return [job["folder"] for job in json.loads(plan.read_text(encoding="utf-8"))] if plan.is_file() else []
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{plan} is damaged ({error}): without it, runs come in the order of their names") from None


def runs_to_compare(paths: Sequence[Path], baseline: str | None) -> tuple[list[Run], list[Run]]:
    """Reads the runs in `paths`, and the baseline's where that is a run folder of its own; as `find_runs`.

    Raises:
        InputError: A path holds no run, or no run has finished.
    """
    own = [Path(baseline)] if baseline and (is_run(Path(baseline)) or is_evaluation(Path(baseline))) else []
    finished, unfinished = find_runs([*paths, *own])
    if not finished:
        raise InputError(f"{' '.join(map(str, paths))}: no run has finished, so there is nothing to compare")
    return finished, unfinished
