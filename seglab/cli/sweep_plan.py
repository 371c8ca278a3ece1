"""The plan of a sweep: its jobs, the folder of each, and what each needs."""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import DictConfig

from seglab.cli import job
from seglab.cli.conf_groups import CONF
from seglab.cli.run_folder import has_checkpoint, read_summary, resolved
from seglab.cli.stamp import git_commit
from seglab.cli.sweep_checks import refuse_mistakes
from seglab.lab.result_config import config_hash
from seglab.lab.runs import PLAN
from seglab.replace_text import replace_text

SKIP, RESUME, START, AGAIN, LEAVE = "skip", "resume", "start", "start again", "leave"


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


def job_overrides(config: DictConfig) -> Iterator[list[str]]:
    """Yields the words of each job of a multirun, in the order of Hydra's basic sweeper, and repeated ones once."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    words = [*params, *config.hydra.overrides.task]
    choices: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides(words):
        key = override.get_key_element()
        if override.is_sweep_override() and override.is_discrete_sweep():
            choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            choices[key] = [f"{key}={override.get_value_element_as_str()}"]
    yield from map(list, dict.fromkeys(itertools.product(*choices.values())))


def plan(folder: Path, jobs: Sequence[list[str]]) -> list[Job]:
    """Returns what each job needs, given what its folder holds.

    A job's folder is one of this sweep that has its config and seed already, else a new one. Where several have them,
    as those of two datasets do, it is the one of the job's name, or else one of its data.

    Raises:
        InputError: The config of a job that starts has a mistake.
    """
    known: dict[tuple[str, int], dict[str, str | None]] = {}  # by config and seed: the data of each folder
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if (summary := read_summary(path)).get("config_hash"):
            folders = known.setdefault((_hash(path, summary), summary.get("seed")), {})
            folders[path.name] = summary.get("data_fingerprint")
    taken = {name for folders in known.values() for name in folders}
    taken |= {each.folder for each in read_plan(folder) if each.overrides not in jobs}  # of a sweep that runs now, too
    composed = list(map(job_config, jobs))
    configs = list(map(resolved, composed))
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
    refuse_mistakes(each for each in zip(planned, composed, digests, strict=True) if each[0].action in (START, AGAIN))
    return planned


def action_now(run: Path, words: list[str]) -> str:
    """Returns what a job of these words needs whose run folder is this one, if it is there at all."""
    return _action(run, resolved_config(words), {}, git_commit())[0] if read_summary(run) else START


def write_plan(folder: Path, jobs: Sequence[Job]) -> None:
    """Writes the jobs in the places that they have already, and new ones behind those of other sweeps in the folder."""
    merged = {tuple(each.overrides): asdict(each) for each in [*read_plan(folder), *jobs]}
    replace_text(folder / PLAN, json.dumps(list(merged.values()), indent=2) + "\n")


def read_plan(folder: Path) -> list[Job]:
    """Returns the jobs in a sweep's folder, in the order of the plan; none where there is no plan."""
    try:
        return [Job(**each) for each in json.loads((folder / PLAN).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):  # none yet, or a damaged one, which the next sweep replaces
        return []


def job_config(words: list[str]) -> DictConfig:
    """Returns the config that words of a command line make, without a run's folder."""
    cfg = compose("train", words)
    cfg.run_dir = ""  # Hydra knows it when the job runs
    return cfg


def resolved_config(words: list[str]) -> dict[str, Any]:
    """Returns the `job_config` with every reference resolved."""
    return resolved(job_config(words))


def _hash(run: Path, summary: dict[str, Any]) -> str:
    """Returns a run's hash as this version makes it: what follows from a config may be another thing in the next."""
    try:
        return config_hash(json.loads((run / ".hydra" / "resolved.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return summary["config_hash"]


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
