"""`seglab compare RUN|SWEEP ...`: which configuration scores better, and with what confidence."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from seglab.cli.command_line import CommandParser
from seglab.cli.mistakes import told_in_a_line
from seglab.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from seglab.lab.comparison import Comparison

DESCRIPTION = """\
Compares runs on the images of a split: the score of each configuration with its 95 % interval, its difference to a
baseline, and a verdict: better, worse, or no difference shown, and what would show one.

Runs whose configs differ by the seed alone are one configuration, scored by its mean over seeds. Intervals come from a
bootstrap over images, of one confusion matrix for the whole split, the same images for every run; with several seeds
they take in the spread of seeds, too. With one seed they hold for that very run: three seeds or more of each
configuration are worth their time. Runs on other images, labels, classes or by another protocol are refused."""
EXAMPLES = """\
examples:
  seglab compare runs/sweeps/dropout
  seglab compare runs/sweeps/ladder --baseline phase1 --metric iou/person --markdown ladder.md
  seglab compare runs/sweeps/ablation_pretrained --pool-seeds
  seglab compare RUN RUN --json - | jq '.rows[].score'
  seglab compare RUN RUN/evaluation/test-flip
"""
MOST_RESAMPLES = 1_000_000
WIDTH_OF_A_FILE = 160
LEAST_TEXT = 10  # characters of labels and verdicts in a line, however narrow the terminal
FORMATS = ("json", "csv", "markdown")


def parser() -> CommandParser:
    """Returns the command's options."""
    made = CommandParser("compare", DESCRIPTION, EXAMPLES)
    made.add_argument("paths", nargs="+", type=Path, metavar="RUN|SWEEP", help="a run folder, a folder of "
                      "runs, or an evaluation of a run such as RUN/evaluation/test-flip")  # fmt: skip
    made.add_argument("--baseline", metavar="RUN", help="what the others are held against: a run folder or a label "
                      "of the table; the first by default, of a sweep its first job's")  # fmt: skip
    made.add_argument("--metric", default="miou", help="miou (default), pixel_accuracy or iou/CLASS, "
                      "and of boundaries boundary_miou or boundary_iou/CLASS")  # fmt: skip
    made.add_argument("--split", default="test", help="name of the evaluation, test by default")
    add_pool_seeds(made)
    made.add_argument("--resamples", type=resamples, default=10_000, metavar="N", help="10000 by default")
    made.add_argument("--seed", type=natural, default=0, metavar="N", help="of the resamples, 0 by default")
    for kind in FORMATS:
        made.add_argument(f"--{kind}", metavar="FILE", help=f"write the comparison as {kind}; - is the terminal")
    return made


def add_pool_seeds(made: argparse.ArgumentParser) -> None:
    """Adds the option that takes the seeds of all configurations to spread alike."""
    made.add_argument("--pool-seeds", action="store_true", help="take the scores of all configurations to spread alike "
                      "over seeds, as those of an ablation may: of many arms with two seeds each, or one, their common "
                      "spread is known better than each one's own")  # fmt: skip


def natural(word: str) -> int:
    """Returns a whole number from 0 on.

    Raises:
        ArgumentTypeError: It is none.
    """
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"{word} is not a whole number from 0 on")
    return int(word)


def resamples(word: str) -> int:
    """Returns a number of resamples.

    Raises:
        ArgumentTypeError: It is none that intervals can be read from.
    """
    if not word.isdecimal() or not 100 <= int(word) <= MOST_RESAMPLES:
        raise argparse.ArgumentTypeError(f"{word} is not a whole number from 100 to {MOST_RESAMPLES}")
    return int(word)


def main() -> None:
    """Runs the command line; a user's mistake ends in one line and status 2."""
    with told_in_a_line("train"):
        arguments = parser().parse_intermixed_args()
        outputs = {kind: getattr(arguments, kind) for kind in FORMATS if getattr(arguments, kind) is not None}
        check_outputs(outputs)
        comparison = compare_paths(arguments)
        write(comparison, outputs)
        if "-" not in outputs.values():
            print_table(comparison)


def write(comparison: "Comparison", outputs: dict[str, str]) -> None:
    """Writes the comparison in each format to its file, or to the terminal.

    Raises:
        InputError: A file cannot be written.
    """
    from seglab.lab.tables import as_csv, as_json, as_markdown

    writers = {"json": as_json, "csv": as_csv, "markdown": as_markdown}
    for kind, path in outputs.items():
        text = writers[kind](comparison)
        if path == "-":
            sys.stdout.write(text)
        else:
            try:
                Path(path).write_text(text, encoding="utf-8")
            except OSError as error:
                raise InputError(f"--{kind} {path}: cannot be written ({error.strerror})") from None


def check_outputs(outputs: dict[str, str]) -> None:
    """Refuses files that cannot be written, before anything is read.

    Raises:
        InputError: Naming the option.
    """
    if list(outputs.values()).count("-") > 1:
        raise InputError("only one of --json, --csv and --markdown can be -")
    kinds: dict[Path, str] = {}
    for kind, path in outputs.items():
        if path != "-" and (other := kinds.setdefault(Path(os.path.abspath(path)), kind)) != kind:
            raise InputError(f"--{other} and --{kind} name one file, {path}: give each its own")
        if path != "-" and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
            raise InputError(f"--{kind} {path}: is a folder, or lies in none; give the file to write")


def compare_paths(arguments: argparse.Namespace) -> "Comparison":
    """Returns the comparison that a command line asks for; its notes name the runs that are left out.

    Raises:
        InputError: No run finished, or they cannot be compared.
    """
    from seglab.cli.job import status
    from seglab.lab.comparison import compare
    from seglab.lab.groups import group_runs
    from seglab.lab.notes import notes_on_left_out
    from seglab.lab.runs import missing_runs, runs_to_compare

    finished, unfinished = runs_to_compare(arguments.paths, arguments.baseline)
    options = {key: getattr(arguments, key) for key in ("split", "resamples", "seed", "pool_seeds")}
    comparison = compare(group_runs(finished, arguments.split), arguments.metric, arguments.baseline, **options)
    left_out = {run.folder: status(run.folder) for run in unfinished} | missing_runs(arguments.paths)
    return replace(comparison, notes=[*notes_on_left_out(left_out), *comparison.notes])


def print_table(comparison: "Comparison") -> None:
    """Prints the widest table that the terminal has room for, what would show a difference, and the notes."""
    from rich.console import Console

    from seglab.lab.tables import RANGE, SPREAD, heading, remedies

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH_OF_A_FILE
    console = Console(file=sys.stdout, highlight=False, width=width)
    keys, notes = list(comparison.rows[0].group.values), list(comparison.notes)
    layouts = [
        {"keys": keys},
        {},
        {"folded": True, "stacked": True},
        {"folded": True, "stacked": True, "spread": False},
    ]
    unbound = console.options.update(width=10_000)
    widths = [console.measure(table(comparison, **layout), options=unbound).maximum for layout in layouts]
    fitting = (place for place, width in enumerate(widths) if width <= console.width)
    chosen = next(fitting, len(layouts) - 1)
    if hidden := [*(keys if chosen else []), *((SPREAD, RANGE) if chosen == len(layouts) - 1 else [])]:
        notes.append(f"No room for the columns {', '.join(hidden)}: --json, --csv and --markdown have them.")
    if widths[chosen] > console.width:
        notes.append(f"The table needs a terminal of {widths[chosen]} columns.")
        console.width = widths[chosen]
    console.print(heading(comparison), markup=False, soft_wrap=True)
    made = table(comparison, **(layouts[chosen] | {"folded": False}))  # its texts fold where they must
    console.print(made)
    for line in [*remedies(comparison), *(f"note: {note}" for note in notes)]:
        console.print(line, markup=False, soft_wrap=True)


def table(
    comparison: "Comparison",
    keys: Sequence[str] = (),
    stacked: bool = False,
    spread: bool = True,
    folded: bool = False,
) -> "Table":
    """Returns the table for a terminal.

    Args:
        comparison: what it shows.
        keys: columns of the configurations' values.
        stacked: intervals, ranges and p values stand below what they belong to.
        spread: there are columns of the spread over seeds.
        folded: labels and verdicts are as narrow as they may become.
    """
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from seglab.lab.tables import INTERVAL, P_VALUE, RANGE, SPREAD, cells, header

    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    lines = [header(comparison, keys), *(cells(row, keys) for row in comparison.rows)]
    if not spread:
        first = lines[0].index(SPREAD)
        lines = [[*line[:first], *line[first + 2 :]] for line in lines]
    if stacked:
        places = [place for place, name in enumerate(lines[0]) if name in (INTERVAL, RANGE, P_VALUE)]
        for line in lines:
            for place in reversed(places):
                line[place - 1 : place + 1] = ["\n".join(line[place - 1 : place + 1])]
    for name in lines[0]:
        text = name.split("\n")[0] in ("label", "verdict", P_VALUE, *keys)
        most = LEAST_TEXT if text and folded else None
        justify = "left" if text else "right"
        made.add_column(escape(name), justify=justify, no_wrap=not text, overflow="fold", max_width=most)
    for line in lines[1:]:
        made.add_row(*map(escape, line))
    return made
