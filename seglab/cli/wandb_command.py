"""`seglab wandb`: a report that compares runs in Weights & Biases, the upload of offline runs, and W&B sweeps."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from seglab.cli.command_line import CommandParser, did_you_mean
from seglab.cli.mistakes import told_in_a_line
from seglab.errors import InputError
from seglab.lab.runs import find_runs, runs_to_compare

USAGE = """\
usage: seglab wandb COMMAND [...]

  report RUN|SWEEP ...      build a report that compares runs, in W&B
  sync RUN|SWEEP ...        upload runs that were logged offline
  sweep NAME [KEY=VALUE]    write the W&B sweep of a sweep of conf/sweep

examples:
  seglab wandb sync runs/sweeps/dropout
  seglab wandb report runs/sweeps/dropout --title "Does dropout help?"
  seglab wandb sweep dropout data=voc9 data.root=PATH seed=0,1,2 -o sweep.yaml

`seglab wandb COMMAND --help` says more, and docs/wandb.md what a run logs."""


def main() -> None:
    """Runs the command line; a user's mistake ends in one line and status 2."""
    commands = {"report": report, "sync": sync, "sweep": sweep}
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return
    with told_in_a_line("train"):
        if words[0] not in commands:
            hint = did_you_mean(words[0], commands)
            raise InputError(f"seglab wandb has no command {words[0]}: {hint}the commands are {', '.join(commands)}")
        commands[words[0]](words[1:])


def report(words: Sequence[str]) -> None:
    """Builds the report of the finished runs and saves it in W&B.

    Raises:
        InputError: W&B is not reachable, or the runs make no report.
    """
    description = "Builds a report in W&B: scores with intervals and verdicts, curves, tests, pictures."
    parser = CommandParser("wandb report", description)
    parser.add_argument("paths", nargs="+", type=Path, metavar="RUN|SWEEP", help="a run folder, or one of runs")
    parser.add_argument("--baseline", help="what the others are held against, as in seglab compare")
    parser.add_argument("--project", help="of the runs; that of their config by default")
    parser.add_argument("--entity", help="user or team of the project; that of their config, or you, by default")
    parser.add_argument("--title", help="of the report; the names of the folders by default")
    arguments = parser.parse_intermixed_args(words)
    from seglab.cli.wandb_report import build_report, workspaces
    from seglab.cli.wandb_runs import is_uploaded, shared, wandb_folders, wandb_id

    runs, _ = runs_to_compare(arguments.paths, arguments.baseline)
    shown = " ".join(map(str, arguments.paths))
    for run in runs:
        wandb_id(run)
    project = arguments.project or shared(runs, "project")
    entity = arguments.entity or shared(runs, "entity")
    workspaces()
    demand_wandb(f"build the report where it can be reached, once seglab wandb sync {shown} has uploaded the runs")
    if missing := [run for run in runs if not all(map(is_uploaded, wandb_folders(run)))]:
        note = f"{len(missing)} of {len(runs)} runs are not uploaded: their panels stay empty until seglab wandb sync"
        print(f"{note} {shown}", file=sys.stderr)
    title = arguments.title or ", ".join(path.resolve().name for path in arguments.paths)
    with logs_elsewhere():
        import wandb

        try:
            entity = entity or wandb.Api().default_entity
            print(build_report(runs, project, entity, title[:128], arguments.baseline).save().url)
        except (wandb.Error, ValueError) as error:
            raise InputError(f"W&B refused the report for project {project}: {error}") from None


def sync(words: Sequence[str]) -> None:
    """Uploads what is offline of runs that have ended, each run's parts in the order of time.

    Raises:
        InputError: W&B is not reachable, or did not take all.
    """
    parser = CommandParser("wandb sync", "Uploads runs that were logged offline, with `wandb sync`.")
    parser.add_argument("paths", nargs="+", type=Path, metavar="RUN|SWEEP", help="a run folder, or one of runs")
    arguments = parser.parse_args(words)
    from seglab.cli.job import is_held
    from seglab.cli.wandb_runs import drop_cut_record, is_uploaded, wandb_folders

    finished, others = find_runs(arguments.paths)
    offline = []
    for run in [*finished, *others]:
        parts = [part for part in wandb_folders(run) if not is_uploaded(part)]
        if parts and is_held(run.folder):
            print(f"{run.folder} is being trained: upload it once that has ended", file=sys.stderr)
        else:
            offline += parts
    if not offline:
        print("nothing to upload: of the runs here that have ended, none was logged offline, or all are uploaded")
        return
    demand_wandb("upload them where it can be reached")
    for path in [path for part in offline for path in part.glob("*.wandb")]:
        drop_cut_record(path)
    with logs_elsewhere():  # the client sends the parts of a resumed run one behind the other
        subprocess.run([sys.executable, "-m", "wandb", "sync", "--include-online", *map(str, offline)])
    if left := [part for part in offline if not is_uploaded(part)]:
        raise InputError(f"{len(left)} of {len(offline)} were not uploaded, {left[0]} the first: see above")


def sweep(words: Sequence[str]) -> None:
    """Writes or prints a W&B sweep config.

    Raises:
        InputError: As `sweep_config`, or the file cannot be written.
    """
    parser = CommandParser("wandb sweep", "Writes the W&B sweep that tries what a sweep of conf/sweep tries.")
    parser.add_argument("name", metavar="NAME", help="of conf/sweep, as in sweep=NAME")
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help="lists of values, config keys")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="where to write it; it is printed by default")
    arguments = parser.parse_intermixed_args(words)
    import yaml

    from seglab.cli.wandb_sweep import sweep_config

    text = yaml.safe_dump(sweep_config(arguments.name, arguments.overrides), sort_keys=False, width=1000)
    if arguments.out is None:
        print(text, end="")
        return
    try:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"-o {arguments.out} cannot be written ({error.strerror}): give another file") from None
    print(f"wandb sweep {arguments.out}   makes the sweep, and names the `wandb agent` that runs it")


@contextmanager
def logs_elsewhere() -> Iterator[None]:
    """Keeps W&B's client from leaving a folder wandb/ where the command is typed."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["WANDB_DIR"] = folder
        yield


def demand_wandb(remedy: str) -> None:
    """Refuses to go on without W&B.

    Raises:
        InputError: There is no key, or no answer.
    """
    from seglab.cli.wandb_client import client_settings, offline_reason

    if reason := offline_reason(client_settings()):
        raise InputError(f"W&B is offline: {reason}; {remedy}")
