"""Sweeps that finish: which jobs a multirun has, what is to be done for each, and what became of them."""

import itertools
import json
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from seglab.cli import job
from seglab.cli.mistakes import CONF, told_in_a_line
from seglab.cli.run_folder import has_checkpoint, read_summary, resolved, shown
from seglab.cli.stamp import git_commit
from seglab.cli.sweep_job import slot, start_words
from seglab.cli.sweep_progress import SweepProgress
from seglab.lab.runs import PLAN, config_hash

SKIP, RESUME, START, AGAIN, LEAVE = "skip", "resume", "start", "start again", "leave"
_MEANING = {SKIP: "finished", RESUME: "was cut", START: "new", AGAIN: "failed", LEAVE: "runs in another process"}


@dataclass
class Job:
    """One run of a sweep.

    Attributes:
        overrides: the words of its command line.
        folder: its run folder's name below the sweep's.
        action: what this sitting does with it: skip, resume, start, start again or leave.
        note: why, where that needs a word.
    """

    overrides: list[str]
    folder: str
    action: str
    note: str = ""


class SweepCallback(Callback):
    """Hydra's callback around a multirun; without a state of its own, since launchers send it to their workers.

    Attributes:
        sweep: the multirun of this process.
    """

    sweep: "Sweep | Any" = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Plans the sweep before its first job."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as after Ctrl-C, the jobs end with the sweep
        folder = Path(config.hydra.sweep.dir)
        with told_in_a_line("train"):  # Hydra makes a warning of any other exception here
            if config.search is None:
                SweepCallback.sweep = Sweep(folder, list(job_overrides(config)))
            else:
                from seglab.cli.search import Search

                SweepCallback.sweep = Search(folder, config)


class Sweep:
    """Says first what each job needs, and at the end what became of it."""

    def __init__(self, folder: Path, jobs: list[list[str]]) -> None:
        """Writes the plan that the jobs read, and prints it."""
        self.folder, self.jobs = folder, plan(folder, jobs)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PLAN).write_text(json.dumps([asdict(each) for each in self.jobs], indent=2) + "\n")
        self._print(
            "action", "what each job needs", lambda each: f"{each.action} ({each.note or _MEANING[each.action]})"
        )
        self.progress = SweepProgress([folder / each.folder for each in self.jobs if each.action != SKIP])
        self.progress.start()

    def finish(self) -> int:
        """Prints what became of each job, with the tail of the log where it did not finish; returns the exit status."""
        self.progress.stop()
        self._print("status", "what became of each job", lambda each: _outcome(self.folder / each.folder))
        unfinished = [each for each in self.jobs if _status(self.folder / each.folder) != "finished"]
        for each in unfinished:
            run = self.folder / each.folder
            error = read_summary(run).get("error")
            said = [f"  | {line}" for line in job.tail(run)]
            print(
                "\n".join([f"\n{shown(run)}: {_status(run)}{f' ({error})' if error else ''}", *said]), file=sys.stderr
            )
        if unfinished:
            print(f"\n{len(unfinished)} of {len(self.jobs)} jobs did not finish; the same command goes on with them.")
        else:
            print(f"\nseglab compare {shown(self.folder)}   says which of them are better")
        return 1 if unfinished else 0

    def _print(self, column: str, title: str, value: Any) -> None:
        table = Table("job", column)
        for each in self.jobs:
            table.add_row(each.folder, value(each))
        console = Console(stderr=True)
        console.print(f"{shown(self.folder)}: {title}", table, sep="\n", highlight=False, soft_wrap=True)


def _status(run: Path) -> str:
    return "running" if job.is_held(run) else read_summary(run).get("status", "not started")


def _outcome(run: Path) -> str:
    summary, status = read_summary(run), _status(run)
    return f"{status}: test mIoU {summary['test_miou']:.4f}" if status == "finished" else status


def job_overrides(config: DictConfig) -> Iterator[list[str]]:
    """Yields the words of each job of a multirun, in the order of Hydra's basic sweeper."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    words = [*params, *config.hydra.overrides.task]
    choices: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides(words):
        key = override.get_key_element()
        if override.is_sweep_override() and override.is_discrete_sweep():
            choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            choices[key] = [f"{key}={override.get_value_element_as_str()}"]
    yield from map(list, itertools.product(*choices.values()))


def plan(folder: Path, jobs: Sequence[list[str]]) -> list[Job]:
    """Returns what each job needs, given what its folder holds.

    A job's folder is one of this sweep that has its config and seed already, else a new one. Where several have them,
    as those of two datasets do, it is the one of the job's name, or else one of its data.

    Raises:
        InputError: A job's config has a mistake.
    """
    known: dict[tuple[str, int], dict[str, str | None]] = {}  # by config and seed: the data of each folder
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if (summary := read_summary(path)).get("config_hash"):
            folders = known.setdefault((summary["config_hash"], summary.get("seed")), {})
            folders[path.name] = summary.get("data_fingerprint")
    taken = {name for folders in known.values() for name in folders}
    configs = [_resolved(words) for words in jobs]
    digests = [config_hash(config) for config in configs]
    of_job = [known.get((digest, config["seed"]), {}) for digest, config in zip(digests, configs, strict=True)]
    names = job_names(jobs)
    own = [folders.pop(name, False) is not False for name, folders in zip(names, of_job, strict=True)]
    fingerprints, commit, planned = {}, git_commit(), []
    for words, name, config, digest, folders, found in zip(jobs, names, configs, digests, of_job, own, strict=True):
        if not found and folders:
            data = _fingerprint(config["data"]["source"], fingerprints)
            name = next((other for other, of in folders.items() if of == data), next(iter(folders)))
            folders.pop(name)
            found = True
        action, note = _action(folder / name, config, fingerprints, commit) if found else (START, "")
        if not found:
            name = next(free for free in _names(name, digest) if free not in taken)
        taken.add(name)
        planned.append(Job(words, name, action, note))
    return planned


def _resolved(words: list[str]) -> dict[str, Any]:
    cfg = compose("train", words)
    cfg.run_dir = ""  # Hydra knows it when the job runs
    return resolved(cfg)


def _names(name: str, digest: str) -> Iterator[str]:
    """Yields a job's name, and others for it where that is taken."""
    yield name
    yield f"{name}-{digest[:6]}"
    yield from (f"{name}-{digest[:6]}-{number}" for number in itertools.count(2))


def _action(run: Path, config: dict[str, Any], fingerprints: dict[str, str], commit: str | None) -> tuple[str, str]:
    summary = read_summary(run)
    if job.is_held(run):
        return LEAVE, ""
    if summary["status"] == "failed":
        return AGAIN, ""
    if summary["status"] == "finished":
        if summary.get("data_fingerprint") != _fingerprint(config["data"]["source"], fingerprints):
            return AGAIN, "finished, but the data has changed since"
        return SKIP, "" if summary.get("git_commit") == commit else "finished, with another version of the code"
    if summary.get("data_fingerprint") not in (None, _fingerprint(config["data"]["source"], fingerprints)):
        return AGAIN, "was cut, and the data has changed since"
    return (RESUME, "") if has_checkpoint(run) else (START, "was cut before its first epoch ended")


def _fingerprint(source: dict[str, Any], known: dict[str, str]) -> str:
    key = json.dumps(source, sort_keys=True)
    if key not in known:
        known[key] = instantiate(source, _convert_="all").content_digest()
    return known[key]


def job_names(jobs: Sequence[list[str]]) -> list[str]:
    """Returns a folder name for each job: its choices and values of what the sweep changes."""
    values: dict[str, set[str]] = {}
    for words in jobs:
        for word in words:
            values.setdefault(word.split("=", 1)[0], set()).add(word)
    names = []
    for words in jobs:
        parts = []
        for word in words:
            key, _, value = word.partition("=")
            if len(values[key]) > 1:
                parts.append(value if (CONF / key).is_dir() else f"{key.rpartition('.')[2]}={value}")
        names.append(re.sub(r"[^\w.=+-]", "_", "-".join(parts))[:80] or "run")
    return names


def run_planned_job(cfg: DictConfig) -> None:
    """Does what the plan says of this job, in a process of its own, and prints how it ended."""
    hydra = HydraConfig.get()
    folder = Path(hydra.sweep.dir)
    words = list(hydra.overrides.task)
    jobs = [Job(**each) for each in json.loads((folder / PLAN).read_text())]
    this = next((each for each in jobs if each.overrides == words), None) or plan(folder, [words])[0]
    run = folder / this.folder
    if this.action == SKIP:
        return
    if this.action == AGAIN:
        _put_aside(run)
    words = [f"resume={run}"]
    if this.action != RESUME:
        words = start_words(this.overrides, run)
    with slot(folder) as environment:
        if not job.is_held(run):
            job.run_job(words, run, cfg.sweep.timeout, environment)
    print(f"{shown(run)}  {_outcome(run)}", file=sys.stderr)


def _put_aside(run: Path) -> None:
    aside = run.parent / "aside"
    aside.mkdir(exist_ok=True)
    number = next(n for n in itertools.count(1) if not (aside / f"{run.name}-{n}").exists())
    run.rename(aside / f"{run.name}-{number}")
