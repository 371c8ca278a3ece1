"""`seglab rerun RUN`: repeats a run and says whether the result is the same."""

import argparse
import os
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from hydra import initialize_config_dir

from seglab.cli import stamp
from seglab.cli.command_line import CommandParser, quoted
from seglab.cli.conf_groups import CONF
from seglab.cli.mistakes import told_in_a_line
from seglab.cli.resolvers import register_resolvers
from seglab.cli.run_folder import load_checkpoint, shown
from seglab.cli.sweep_plan import resolved_config
from seglab.errors import InputError
from seglab.lab.comparison import compare
from seglab.lab.groups import Group
from seglab.lab.result_config import config_hash, config_of_result, differing_keys, flat
from seglab.lab.runs import Run, read_run

_NOT_REPEATABLE = "train/images_per_second"
DESCRIPTION = """\
Repeats a finished run with its own words, seed and threads, and says whether its result is the same to the bit, or
else whether the difference is within the 95 % interval over the test images."""
EXAMPLE = """\
example:
  seglab rerun runs/2026-01-31/12-00-00-abcdef

exit status: 0 the same to the bit, or within the interval; 1 another result; 2 it cannot be repeated
"""


def main() -> None:
    """Runs the command line; a user's mistake ends in one line and status 2."""
    with told_in_a_line("train"):
        raise SystemExit(rerun(parse(sys.argv[1:])))


def parse(words: list[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = CommandParser("rerun", DESCRIPTION, EXAMPLE)
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run")
    parser.add_argument("--data-root", type=Path, metavar="PATH", help="the dataset's folder, where it has moved")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="where the repetition goes (RUN-rerun-1)")
    return parser.parse_args(words)


def rerun(arguments: argparse.Namespace) -> int:
    """Repeats a run and prints what came of it; returns the exit status.

    Raises:
        InputError: The run did not finish, its config is not that of today's `conf/`, or the repetition fails.
    """
    first = read_run(arguments.run)
    if first.summary.get("status") != "finished":
        raise InputError(f"{first.folder} is {first.summary.get('status')}, not finished: there is nothing to repeat")
    refuse_another_config(first)
    for difference in surroundings(first):
        print(f"warning: {difference}", file=sys.stderr)
    folder = arguments.output or next(
        path for n in count(1) if not (path := first.folder.with_name(f"{first.name}-rerun-{n}")).exists()
    )
    moved = [f"data.root={quoted(str(arguments.data_root))}"] if arguments.data_root else []
    words = [*first.overrides, *moved, f"hydra.run.dir={quoted(str(folder))}", "hydra.mode=RUN"]
    threads = {"OMP_NUM_THREADS": str(first.summary["threads"])} if first.summary.get("device") == "cpu" else {}
    command = [sys.executable, str(CONF.parent / "train.py"), *words]
    if status := subprocess.run(command, env=os.environ | threads).returncode:
        raise InputError(f"the repetition ended with status {status}, as said above: see {folder}/train.log")
    same, said = verdict(first, read_run(folder))
    print(f"{shown(folder)}: {said}")
    return 0 if same else 1


def refuse_another_config(run: Run) -> None:
    """Holds the run's config against what its words compose to today.

    Raises:
        InputError: They differ; the message names the keys.
    """
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        today = resolved_config(run.overrides)
    if config_hash(today) == config_hash(run.config):
        return
    then, now = flat(config_of_result(run.config)), flat(config_of_result(today))
    keys = differing_keys(then, now)
    raise InputError(
        f"{run.folder} cannot be repeated: with conf/ as it is today its words give another "
        f"{', '.join(keys[:5])}{' ...' if len(keys) > 5 else ''}; check out {run.summary.get('git_commit')} first"
    )


def surroundings(run: Run) -> list[str]:
    """Returns what is not as it was when the run was made: code, packages, machine."""
    then, now = run.summary, {"git_commit": stamp.git_commit(), "hardware": stamp.hardware()}
    found = []
    if then.get("git_commit") != now["git_commit"]:
        found.append(f"the code is {now['git_commit']}, and was {then.get('git_commit')}")
    elif str(then.get("git_commit")).endswith("-dirty"):
        found.append(f"the code is edited, as it was then: compare {run.folder / 'git.diff'} with git diff HEAD")
    for name, version in stamp.versions().items():
        if then["versions"].get(name) != version:
            found.append(f"{name} is {version}, and was {then['versions'].get(name)}")
    for name, value in now["hardware"].items():
        if then.get("hardware", {}).get(name) != value:
            found.append(f"{name} is {value}, and was {then.get('hardware', {}).get(name)}")
    return found


def verdict(first: Run, second: Run) -> tuple[bool, str]:
    """Returns whether two runs have the same result, to the bit or within the interval, and the words for it."""
    if first.summary.get("data_fingerprint") != second.summary.get("data_fingerprint"):
        return False, "another result is to be expected: the data has changed since"
    one, two = first.evaluation(), second.evaluation()
    if not np.array_equal(one.names, two.names):
        return False, "the test split has other images"
    if np.array_equal(one.confusion, two.confusion) and _history(first) == _history(second):
        weights = "weights, " if _same_weights(first.folder, second.folder) else ""
        return True, f"the same to the bit: {weights}every epoch's scores and the test's {len(one.names)} images"
    result = compare([Group("first", [first], {}), Group("rerun", [second], {})])
    [difference] = [row.difference for row in result.rows if row.difference is not None]
    low, high = (100 * value for value in difference.interval)
    scores = f"test mIoU {100 * second.summary['test_miou']:.2f} % against {100 * first.summary['test_miou']:.2f} %"
    within = low <= 0 <= high
    said = "not the same to the bit, but within the interval" if within else "another result"
    return within, f"{said}: {scores}, difference {100 * difference.estimate:+.2f} points [{low:+.2f}, {high:+.2f}]"


def _history(run: Run) -> list[dict[str, Any]]:
    return [{key: repr(value) for key, value in row.items() if key != _NOT_REPEATABLE} for row in run.history]


def _same_weights(first: Path, second: Path) -> bool:
    paths = [folder / "checkpoints" / "best.ckpt" for folder in (first, second)]
    if not all(path.exists() for path in paths):
        return False
    one, two = (load_checkpoint(path)["state_dict"] for path in paths)
    return one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)
