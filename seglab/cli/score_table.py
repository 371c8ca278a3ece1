"""The table of classes that an evaluation prints."""

import sys
from pathlib import Path
from typing import Any


def print_scores(result: dict[str, Any], folder: Path) -> None:
    """Prints the IoU of each class and in how many images it is labelled, the mean, and where everything is."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    title = f"{result['split']}: {result['num_images']} images, protocol {result['protocol']}"
    table = Table("class", "images", "IoU", "boundary IoU", title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, iou in result["iou"].items():
        table.add_row(escape(name), str(result["images_with"][name]), shown(iou), shown(result["boundary_iou"][name]))
    table.add_section()
    scored = f"{result['classes_scored']} of {len(result['iou'])} classes"
    table.add_row(f"mean ({scored})", "", shown(result["miou"]), shown(result["boundary_miou"]))
    table.add_row("pixel accuracy", "", shown(result["pixel_accuracy"]))
    table.add_row("ECE", "", shown(result["ece"]))
    table.add_row("NLL", "", shown(result["nll"]))
    Console(file=sys.stdout).print(table)
    print(folder)


def shown(score: float | None) -> str:
    """Returns a score with four digits, a dash for none."""
    return "-" if score is None else f"{score:.4f}"
