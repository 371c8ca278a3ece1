"""`seglab stats`: mean, std and class areas of the training images, as training itself sees them."""

import json
import sys
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from seglab.cli.data_command import DataParser, compose_data
from seglab.cli.mistakes import told_in_a_line

if TYPE_CHECKING:
    from seglab.data import SegmentationDataModule

DESCRIPTION = """\
Measures the training images of a dataset: mean and standard deviation of the channels, and for each class its
area in pixels, its share of the labelled area, and the inverse-area weight, total labelled area / area.
These are the very figures that training normalises with (data.normalize) and weights the loss with
(loss=weighted_cross_entropy). Pixels that are never scored, like boundaries, have no area.
And it counts the images of each split that have the class: mIoU counts a class of two images like any other."""
KEY_CROP = """\
  data.crop=random|center|five   random, the default, measures whole images, the others their windows
"""


def main() -> None:
    """Runs the command line; a user's mistake ends in one line and status 2."""
    with told_in_a_line("train"):
        example = "seglab stats data=voc9 data.root=PATH data.crop=five data.crop_size=256"
        parser = DataParser("stats", DESCRIPTION, example, KEY_CROP)
        parser.add_argument("--json", action="store_true", help="print one JSON object in place of the tables")
        arguments = parser.parse_intermixed_args()
        cfg = compose_data(arguments.overrides)

        from seglab.cli.build import build_datamodule

        figures = measure(cfg, build_datamodule(cfg))
        if arguments.json:
            print(json.dumps(figures, indent=2))
        else:
            print_figures(figures)


def measure(cfg: DictConfig, datamodule: "SegmentationDataModule") -> dict[str, Any]:
    """Returns what was measured on what: plain containers, as `--json` prints them.

    Raises:
        InputError: A file of the dataset is at fault.
    """
    from seglab.data.crops import windows_per_image
    from seglab.data.source import SPLITS

    datamodule.setup()  # of all splits, so that all faults show at once
    statistics = datamodule.statistics
    images, total = len(datamodule.source.names("train")), sum(statistics.areas.values())
    weights = statistics.inverse_area_weights()
    images_with = {split: datamodule.images_with(split) for split in SPLITS}
    return {
        "dataset": cfg.data.name,
        "root": cfg.data.get("root"),
        "split": "train",
        "images": images,
        "samples": images * windows_per_image(cfg.data.crop),
        "resize": cfg.data.resize,
        "crop": cfg.data.crop,
        "crop_size": cfg.data.crop_size,
        "mean": list(statistics.mean),
        "std": list(statistics.std),
        "labelled_area": total,
        "images_of": {split: len(datamodule.source.names(split)) for split in SPLITS},
        "classes": {
            name: {
                "area": area,
                "share": area / total if total else 0.0,
                "weight": weight,
                "images": {split: images_with[split][name] for split in SPLITS},
            }
            for (name, area), weight in zip(statistics.areas.items(), weights, strict=True)
        },
    }


def print_figures(figures: dict[str, Any]) -> None:
    """Prints where the figures stand for, and the two tables."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    channels = Table("", "red", "green", "blue", title="channels, in 0..1")
    title = "classes: labelled area in train, and images that have them"
    classes = Table("class", "area (pixels)", "share", "weight", *figures["images_of"], title=title)
    for table in (channels, classes):
        for column in table.columns[1:]:
            column.justify = "right"
    for key in ("mean", "std"):
        channels.add_row(key, *(f"{value:.5f}" for value in figures[key]))
    for name, row in figures["classes"].items():
        shown = [f"{row['area']}", f"{row['share']:.3%}", f"{row['weight']:.4g}", *map(str, row["images"].values())]
        classes.add_row(escape(name), *shown)
    classes.add_section()
    classes.add_row("all", f"{figures['labelled_area']}", "", "", *map(str, figures["images_of"].values()))
    console = Console(file=sys.stdout)
    console.print(described(figures), markup=False, highlight=False, soft_wrap=True)
    console.print(channels)
    console.print(classes)


def described(figures: dict[str, Any]) -> str:
    """Returns in words which samples were measured."""
    windows = {
        "random": "whole images, of which training draws random windows",
        "center": "the central window of {} pixels of each",
        "five": "five windows of {} pixels of each, corners and center",
    }[figures["crop"]].format(figures["crop_size"])
    resized = "at their own size" if figures["resize"] is None else f"shorter side {figures['resize']}"
    root = f" in {figures['root']}" if figures["root"] else ""
    return (
        f"{figures['dataset']}{root}, split {figures['split']}: {figures['images']} images ({resized}); "
        f"data.crop={figures['crop']}: {windows}"
    )
