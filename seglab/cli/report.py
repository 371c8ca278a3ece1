"""`seglab report RUN|SWEEP ...`: one self-contained HTML page that compares runs."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException

from seglab.cli.command_line import CommandParser, positive
from seglab.cli.compare import add_pool_seeds
from seglab.cli.mistakes import explain, told_in_a_line
from seglab.cli.run_folder import forbid_download, load_config, shown
from seglab.errors import InputError

if TYPE_CHECKING:
    from seglab.lab.report import ReadPair
    from seglab.lab.runs import Run

DESCRIPTION = """\
Writes one HTML page that opens from disk without a network: a leaderboard with intervals, differences to a baseline,
curves, IoU of each class, confusion matrices, cost, a gallery of the test images with the runs' predictions and
errors, and each run's command and config."""
LARGE = 30  # MB


def parser() -> CommandParser:
    """Returns the command's options."""
    made = CommandParser("report", DESCRIPTION)
    made.add_argument("paths", nargs="+", type=Path, metavar="RUN|SWEEP", help="a run folder, one of runs, or an "
                      "evaluation of a run such as RUN/evaluation/test-flip")  # fmt: skip
    made.add_argument("-o", "--out", type=Path, default=Path("report.html"), help="file to write (report.html)")
    made.add_argument("--baseline", metavar="RUN", help="what the others are held against: a run folder or a "
                      "label; the first by default, of a sweep its first job's")  # fmt: skip
    made.add_argument("--metric", default="miou", help="as of `seglab compare`; miou by default")
    made.add_argument("--split", default="test", help="evaluation to compare (test)")
    add_pool_seeds(made)
    made.add_argument("--title", help="of the page; the names of the folders by default")
    made.add_argument("--images", type=positive, metavar="N", help="images in the gallery, at most (all)")
    made.add_argument("--data-root", type=Path, metavar="PATH", help="the dataset's folder, where it has moved")
    return made


def main() -> None:
    """Runs the command line; a user's mistake ends in one line and status 2."""
    with told_in_a_line("train"):
        make_page(parser().parse_intermixed_args())


def make_page(arguments: argparse.Namespace) -> None:
    """Compares the runs, writes the page and says where it is.

    Raises:
        InputError: The runs cannot be compared, a file is at fault, or the page cannot be written.
    """
    from rich.console import Console

    from seglab.cli.job import status
    from seglab.lab.comparison import compare
    from seglab.lab.groups import group_runs
    from seglab.lab.notes import notes_on_left_out
    from seglab.lab.report import refuse_other_files, write_report
    from seglab.lab.runs import missing_runs, runs_to_compare

    refuse_other_files(arguments.out)
    runs, unfinished = runs_to_compare(arguments.paths, arguments.baseline)
    read_pair = pair_reader(runs[0], arguments.split, arguments.data_root)
    groups, console = group_runs(runs, arguments.split), Console(stderr=True)
    with console.status(f"Comparing {len(runs)} runs"):
        comparison = compare(
            groups, arguments.metric, arguments.baseline, arguments.split, pool_seeds=arguments.pool_seeds
        )
    left_out = notes_on_left_out(missing_runs(arguments.paths))
    gallery = write_report(
        replace(comparison, notes=[*left_out, *comparison.notes]),
        arguments.out,
        title=arguments.title or ", ".join(path.resolve().name for path in arguments.paths),
        unfinished=[replace(run, summary=run.summary | {"status": status(run.folder)}) for run in unfinished],
        read_pair=read_pair,
        images=arguments.images,
        track=lambda items, total: followed(items, total, console),
    )
    if faults := gallery.faults:
        count = "1 image is" if len(faults) == 1 else f"{len(faults)} images are"
        print(f"warning: {count} shown without photograph and label: {faults[0]}", file=sys.stderr)
    size = arguments.out.stat().st_size / 1e6
    if size > LARGE and (half := len(gallery.photos) // 2) and gallery.has_pictures:
        print(f"warning: the page is large: --images {half} would halve it", file=sys.stderr)
    print(f"{shown(arguments.out.resolve())} ({size:.1f} MB) compares {len(runs)} runs: open it in a browser")


def pair_reader(run: "Run", split: str, data_root: Path | None) -> "ReadPair | None":
    """Returns what reads photograph and label of a test image; none, with a warning, where the dataset is not there.

    Args:
        run: whose dataset it is.
        split: name of its evaluation.
        data_root: the dataset's folder; where the run found it by default.

    Raises:
        InputError: There is no such dataset in `data_root`, or the run's dataset has no folder.
    """
    data = load_config(run.folder).data
    if data_root is not None and "root" not in data:
        raise InputError(f"--data-root {data_root}: {run.folder} was trained on data={data.name}, which has no folder")
    if data_root is not None:
        data.root = str(data_root)
    forbid_download(data)
    metrics = run.evaluation(split).metrics
    part, other = metrics["split"], metrics.get("inference", {}).get("data")
    if other and data_root is None:
        print(
            f"warning: the gallery has no photographs and labels, since {run.place} was scored on another dataset "
            f"({other}); --data-root PATH says where that is",
            file=sys.stderr,
        )
        return None
    try:
        source, places = source_of(data, part)
    except (InputError, HydraException) as error:
        message = explain(error, "train")
        if data_root is not None:
            raise InputError(f"--data-root: {message}") from None
        print(
            f"warning: the gallery has no photographs and labels, since the dataset is not there ({message}); "
            "--data-root PATH takes it from another folder",
            file=sys.stderr,
        )
        return None

    def read(name: str) -> tuple[Any, Any]:
        if name not in places:
            raise InputError(f"{name} is not in the {part} split of {data.get('root') or data.name}")
        return source.read(part, places[name])

    return read


def source_of(data: Any, split: str) -> tuple[Any, dict[str, int]]:
    """Returns the dataset of a run's config, and each image's place in the split."""
    from hydra.utils import instantiate

    from seglab.cli.resolvers import register_resolvers

    register_resolvers()
    source = instantiate(data.source, _convert_="all")
    return source, {str(name): place for place, name in enumerate(source.names(split))}


def followed(items: Iterable[Any], total: int, console: Any) -> Iterator[Any]:
    """Passes items on, with a progress bar in a terminal."""
    from rich.progress import track

    return iter(track(items, "Reading images", total, console=console, transient=True, disable=not console.is_terminal))
