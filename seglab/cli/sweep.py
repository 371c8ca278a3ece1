"""Sweeps that finish: what each job of a multirun needs is said and done, and what became of it."""

import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from seglab.cli import job
from seglab.cli.mistakes import EXIT_STATUS, told_in_a_line
from seglab.cli.run_folder import make_folder, read_summary, shown
from seglab.cli.sweep_job import claim, put_aside, slot, start_words
from seglab.cli.sweep_plan import (
    AGAIN,
    LEAVE,
    RESUME,
    SKIP,
    START,
    action_now,
    job_overrides,
    plan,
    read_plan,
    write_plan,
)
from seglab.cli.sweep_progress import SweepProgress
from seglab.errors import InputError

_PATIENCE = 5.0  # seconds in which the jobs of a cut sweep die
_MEANING = {SKIP: "finished", RESUME: "was cut", START: "new", AGAIN: "failed", LEAVE: "runs in another process"}


class SweepCallback(Callback):
    """Hydra's callback before a run and around a multirun; without a state, since launchers send it to their workers.

    Attributes:
        sweep: the multirun of this process.
    """

    sweep: "Sweep | Any" = None

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Makes the run's folder, which Hydra would fail to make with a stack trace."""
        with told_in_a_line("train"):
            make_folder(Path(config.hydra.run.dir), "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Plans the sweep before its first job."""
        for number in job.ending_signals():  # as after Ctrl-C, the jobs end with the sweep
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
        folder = Path(config.hydra.sweep.dir)
        with told_in_a_line("train"):  # Hydra makes a warning of any other exception here
            make_folder(folder, "hydra.sweep.dir")
            if config.hydra.launcher.get("n_jobs") == 0:
                raise InputError("hydra.launcher.n_jobs=0: give a number of jobs, or -1 for one on each core")
            if config.search is None:
                SweepCallback.sweep = Sweep(folder, list(job_overrides(config)))
            else:
                from seglab.cli.search import Search

                SweepCallback.sweep = Search(folder, config)


class Sweep:
    """Says first what each job needs, and at the end what became of it."""

    def __init__(self, folder: Path, jobs: list[list[str]]) -> None:
        """Writes the plan that the jobs read, and prints it."""
        with job.lock(folder, wait=True):
            self.folder, self.jobs = folder, plan(folder, jobs)
            write_plan(folder, self.jobs)
        self._print(
            "action", "what each job needs", lambda each: f"{each.action} ({each.note or _MEANING[each.action]})"
        )
        self.progress = SweepProgress([folder / each.folder for each in self.jobs if each.action != SKIP])
        self.progress.start()

    def finish(self) -> int:
        """Prints what became of each job, with the tail of the log where it did not finish; returns the exit status."""
        self.progress.stop()
        own = [self.folder / each.folder for each in self.jobs if each.action not in (SKIP, LEAVE)]
        end = time.monotonic() + _PATIENCE
        while any(map(job.is_held, own)) and time.monotonic() < end:
            time.sleep(0.1)
        self._print("status", "what became of each job", lambda each: _outcome(self.folder / each.folder))
        unfinished = [each for each in self.jobs if job.status(self.folder / each.folder) != "finished"]
        for each in unfinished:
            run = self.folder / each.folder
            error = read_summary(run).get("error")
            said = [f"  | {line}" for line in job.tail(run)]
            print(
                "\n".join([f"\n{shown(run)}: {job.status(run)}{f' ({error})' if error else ''}", *said]),
                file=sys.stderr,
            )
        if unfinished:
            remedy = _remedy([read_summary(self.folder / each.folder).get("error") for each in unfinished])
            print(f"\n{len(unfinished)} of {len(self.jobs)} jobs did not finish; {remedy}.")
        else:
            print(f"\nseglab compare {shlex.quote(shown(self.folder))}   says which of them are better")
        return 1 if unfinished else 0

    def _print(self, column: str, title: str, value: Any) -> None:
        table = Table("job", column)
        for each in self.jobs:
            table.add_row(each.folder, value(each))
        console = Console(stderr=True)
        console.print(f"{shown(self.folder)}: {title}", table, sep="\n", highlight=False, soft_wrap=True)


def _outcome(run: Path) -> str:
    summary, status = read_summary(run), job.status(run)
    return f"{status}: test mIoU {summary['test_miou']:.4f}" if status == "finished" else status


def _remedy(errors: Sequence[str | None]) -> str:
    """Returns what to do about jobs that ended with these errors: a mistake of the user's would come again."""
    refused = f"exit status {EXIT_STATUS}"  # before the run noted anything
    mistakes = sum(error == refused or str(error).startswith("InputError: ") for error in errors)
    if not mistakes:
        return "the same command goes on with them"
    others = "; the same command goes on with the others" if mistakes < len(errors) else ""
    return f"{mistakes} by a mistake: correct the words, or the file, that the error names{others}"


def run_planned_job(cfg: DictConfig) -> None:
    """Does what this job needs by now, in a process of its own, and prints how it ended.

    Since the plan was made, another sitting of the sweep or a cluster that starts the job again may have been at it.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.sweep.dir)
    words = list(hydra.overrides.task)
    this = next((each for each in read_plan(folder) if each.overrides == words), None) or plan(folder, [words])[0]
    run = folder / this.folder
    if this.action == SKIP:
        return
    with slot(folder) as environment, claim(folder, "jobs", this.folder) as free:
        action = action_now(run, words) if free else LEAVE
        if action in (SKIP, LEAVE):
            return
        if action == AGAIN:
            put_aside(run)
        start = [f"resume={run}"] if action == RESUME else start_words(this.overrides, run)
        job.run_job(start, run, cfg.sweep.timeout, environment)
    print(f"{shown(run)}  {_outcome(run)}", file=sys.stderr)
