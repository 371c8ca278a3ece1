"""The ladder's table and curves from its run folders.

    python benchmarks/ladder.py runs/sweeps/ladder/* --picture docs/images/ladder.png

Prints a Markdown table, a row for each run, and draws training loss, training mIoU, validation loss and validation mIoU
of all runs over each other, against the images seen.
"""

import argparse
import csv
import json
import math
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

PANELS = ("train/loss", "val/loss", "train/miou", "val/miou")
COLUMNS = (
    "rung",
    "images seen",
    "epochs",
    "best epoch",
    "train mIoU",
    "val mIoU",
    "test mIoU",
    "train seconds",
    "images/s",
)


def read(run: Path) -> tuple[dict, list[dict[str, float]]]:
    """Returns a finished run's summary and its rows of metrics.csv as numbers."""
    summary = json.loads((run / "summary.json").read_text())
    with (run / "metrics.csv").open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    return summary, rows


def table_row(run: Path) -> str:
    """Returns a run's row of the table; its training mIoU is the one logged while training its best epoch."""
    summary, rows = read(run)
    best = rows[summary["best_epoch"] - 1]
    scores = [best["train/miou"], summary["best_val_miou"], summary["test_miou"]]
    cells = [run.name, f"{summary['images_seen']:,}", str(summary["epochs"]), str(summary["best_epoch"])]
    cells += [f"{100 * score:.1f} %" for score in scores]
    seconds = summary["images_seen"] / summary["images_per_second"]  # of training steps, over all resumed parts
    cells += [f"{seconds:.0f}", f"{summary['images_per_second']:.0f}"]
    return "| " + " | ".join(cells) + " |"


def draw(runs: list[Path], path: Path) -> None:
    """Draws the four panels of curves."""
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    colors = [f"C{number}" for number in range(len(runs))]
    for axes, key in zip(panels.flat, PANELS, strict=True):
        for run, color in zip(runs, colors, strict=True):
            points = [(row["images_seen"] / 1000, row[key]) for row in read(run)[1] if key in row]
            axes.plot(*zip(*points, strict=True), color=color, linewidth=1.4)
        axes.set_title(key)
        axes.grid(alpha=0.3)
        if axes in panels[1]:
            axes.set_xlabel("images seen (thousands)")
    lines = [Line2D([], [], color=color, label=run.name) for run, color in zip(runs, colors, strict=True)]
    figure.legend(handles=lines, loc="outside lower center", ncols=math.ceil(len(runs) / math.ceil(len(runs) / 6)))
    figure.savefig(path, dpi=110)


def main() -> None:
    """Prints the table and draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="finished run folders, one for each rung")
    parser.add_argument("--picture", type=Path, help="PNG to draw the curves to")
    arguments = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    print("\n".join(table_row(run) for run in arguments.runs))
    if arguments.picture:
        draw(arguments.runs, arguments.picture)


if __name__ == "__main__":
    main()
