"""`seglab crop`: writes the report's five-crop dataset, in the layout that `data=folder` reads."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from seglab.cli.command_line import quoted
from seglab.cli.data_command import DataParser, compose_data
from seglab.cli.mistakes import told_in_a_line
from seglab.errors import InputError

if TYPE_CHECKING:
    from seglab.data.reader import Reader
    from seglab.data.source import Source

DESCRIPTION = """\
Writes a dataset of crops: five windows of each training image, its four corners and its center, and the images of
val and test whole. Photographs become lossless PNGs, labels palette PNGs of class indices, in the folders
images/{train,val,test} and masks/{train,val,test} below OUT. data.resize applies before the crops, and to val and
test. A command that was cut is completed by the same command; the files that are there already are kept."""
KINDS = ("images", "masks")


def main() -> None:
    """Runs the command line; a user's mistake ends in one line and status 2."""
    with told_in_a_line("train"):
        example = "seglab crop data=voc9 data.root=PATH data.crop_size=256 -o voc9_crops"
        parser = DataParser("crop", DESCRIPTION, example)
        parser.add_argument("-o", "--out", required=True, type=Path, help="folder to write, new or cut before")
        arguments = parser.parse_intermixed_args()
        crops = [word for word in arguments.overrides if word.startswith("data.crop=")]
        if any(word != "data.crop=five" for word in crops):
            raise InputError(f"{crops[-1]}: this command writes five crops of each image; leave the key out")
        cfg = compose_data([*arguments.overrides, "data.crop=five"])
        try:
            write_dataset(cfg, arguments.out)
        except KeyboardInterrupt:
            print("cut: the same command goes on from here", file=sys.stderr)
            raise SystemExit(130) from None


def write_dataset(cfg: DictConfig, out: Path) -> None:
    """Writes what is missing of the dataset and says how to train on it.

    The folders are called images-unfinished and masks-unfinished until all is written, so that nobody trains on a part.

    Raises:
        InputError: A file of the dataset is at fault, or `out` holds something else or cannot be written.
    """
    from seglab.cli.build import build_datamodule
    from seglab.cli.crop_folder import claim, refuse_strangers
    from seglab.data.reader import Reader
    from seglab.data.source import SPLITS

    datamodule = build_datamodule(cfg)
    datamodule.setup("fit")
    source = datamodule.source
    readers = {split: Reader(source, split, cfg.data.resize, cache_mb=0) for split in SPLITS}
    jobs = [(split, i, name) for split, reader in readers.items() for i, name in enumerate(flat_names(split, reader))]
    try:
        claim(out, settings(cfg, source), source)
        folders = {kind: out / kind if (out / kind).is_dir() else out / f"{kind}-unfinished" for kind in KINDS}
        refuse_strangers(folders, {file for split, _, name in jobs for file in files_of(split, name)})

        def write(job: tuple[str, int, str]) -> int:
            split, i, name = job
            return write_pair(readers[split], i, files_of(split, name), folders, cfg.data.crop_size)

        written = run_all(write, jobs)
        for kind, folder in folders.items():
            folder.replace(out / kind)
    except OSError as error:
        raise InputError(
            f"{error.filename or out}: cannot be written ({error.strerror or error}); "
            "make room for it or give another folder, and repeat the command"
        ) from None
    report(cfg, out, {split: len(reader) for split, reader in readers.items()}, written)


def flat_names(split: str, reader: "Reader") -> list[str]:
    """Returns the names of a split's pairs, without the split's own folder that some layouts have in front."""
    names = reader.names.tolist()
    inside = all(name.startswith(f"{split}/") for name in names)
    return [name.removeprefix(f"{split}/") for name in names] if inside else names


def files_of(split: str, name: str) -> list[str]:
    """Returns the files that an image gives, below images and below masks alike."""
    if split != "train":
        return [f"{split}/{name}.png"]
    return [f"{split}/{name}_{k}.png" for k in range(5)]


def settings(cfg: DictConfig, source: "Source") -> dict[str, Any]:
    """Returns everything that the written pixels depend on."""
    return {
        "crop": "five",
        "crop_size": cfg.data.crop_size,
        "resize": cfg.data.resize,
        "class_names": list(source.class_names),
        "ignore_index": source.ignore_index,
        "source": source.fingerprint(),
    }


def write_pair(reader: "Reader", i: int, files: list[str], folders: dict[str, Path], crop_size: int) -> int:
    """Writes what is missing of an image's windows, or of the whole image; returns the number of files written."""
    from seglab.cli.crop_folder import is_complete, save_image, write_whole
    from seglab.task.pictures import save_mask

    missing = [[kind for kind in KINDS if not is_complete(folders[kind] / file)] for file in files]
    if not any(missing):
        return 0
    for (image, mask), file, kinds in zip(windows(reader, i, len(files), crop_size), files, missing, strict=True):
        for kind in kinds:
            if kind == "masks":
                save = partial(save_mask, mask, num_classes=len(reader.source.class_names))
            else:
                save = partial(save_image, image)
            write_whole(folders[kind] / file, save)
    return sum(map(len, missing))


def windows(reader: "Reader", i: int, count: int, crop_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the five windows of a pair, or, for a count of one, the whole of it."""
    from seglab.data import crops

    image, mask = reader[i]
    if count == 1:
        yield image, mask
        return
    for k in range(count):
        top, left = crops.window("five", k, *mask.shape, crop_size, np.random.default_rng(0))
        yield crops.cut(image, mask, top, left, crop_size, reader.source.ignore_index)


def run_all(write: Callable[[Any], int], jobs: list[Any]) -> int:
    """Does all jobs in threads, with a progress bar on stderr; returns the sum of what they return."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    progress, written = Progress(*columns, console=console, transient=True, disable=not console.is_terminal), 0
    with progress, ThreadPoolExecutor(os.cpu_count()) as pool:
        task = progress.add_task("Writing crops", total=len(jobs))
        try:
            for done in as_completed([pool.submit(write, job) for job in jobs]):
                written += done.result()
                progress.advance(task)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C, or a full disk, must not wait for the rest
            raise
    return written


def report(cfg: DictConfig, out: Path, images: dict[str, int], written: int) -> None:
    """Says what is there now, and the command that trains on it."""
    count, size = images["train"] * 5, cfg.data.crop_size
    files = 2 * (count + images["val"] + images["test"])
    print(
        f"{out}: train {count} crops of {size}x{size}, val {images['val']} and test {images['test']} whole images "
        f"({written} files written, {files - written} kept)"
    )
    if cfg.data.resize is not None:
        print(
            f"val and test are resized as well (data.resize={cfg.data.resize}), labels too: their scores count resized "
            "pixels, and do not compare with those of other sizes"
        )
    print("To train on it:")
    print("  python train.py " + shlex.join(training_words(cfg, out)))


def training_words(cfg: DictConfig, out: Path) -> list[str]:
    """Returns the keys that make train.py read the dataset as it was written."""
    return [
        "data=folder",
        f"data.root={quoted(str(out))}",
        f"data.classes=[{','.join(quoted(name) for name in cfg.data.class_names)}]",
        f"data.ignore=[{cfg.data.ignore_index}]",
        "data.crop=center",
        f"data.crop_size={cfg.data.crop_size}",
    ]
