"""The folder that `seglab predict` writes: the name of each file, and what of it a former prediction has written."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from seglab.errors import InputError

KINDS = ("masks", "overlays", "probabilities", "predictions.csv")
HEAD = ("photograph", "mask", "height", "width")  # of the table, before the classes
TABLE_OPTIONS = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}  # a file's name is any bytes
LARGEST_JPEG = 65500  # pixels of a side


def overlay_suffix(*sides: int) -> str:
    """Returns the suffix of an overlay of these sides in pixels."""
    return "jpg" if max(sides) <= LARGEST_JPEG else "png"


def files_of(out: Path, name: str, overlay_suffixes: Sequence[str] = ("jpg", "png")) -> list[Path]:
    """Returns the files that may be written of a photograph."""
    overlays = [out / "overlays" / f"{name}.{suffix}" for suffix in overlay_suffixes]
    return [out / "masks" / f"{name}.png", *overlays, out / "probabilities" / f"{name}.npy"]


def former_files(out: Path) -> set[Path]:
    """Returns the files that the folder's table says a former prediction has written.

    Raises:
        InputError: The table is of another origin.
    """
    table = out / "predictions.csv"
    if not table.is_file():
        return set()
    with table.open(**TABLE_OPTIONS) as file:
        head, *rows = [*csv.reader(file)] or [HEAD]
    if tuple(head[: len(HEAD)]) != HEAD:
        raise InputError(f"-o {out}: seglab predict did not write {table}; give another folder")
    files: set[Path] = set()
    for row in rows:
        if len(row) > len(HEAD) and "".join(row[2:4]).isdecimal():  # a row that was cut has less
            name = row[1].removeprefix("masks/").removesuffix(".png")
            files.update(files_of(out, name, [overlay_suffix(int(row[2]), int(row[3]))]))
    return {path for path in files if path.is_relative_to(out) and ".." not in path.relative_to(out).parts}


def refuse_other_files(out: Path, names: Iterable[str], former: set[Path]) -> None:
    """Refuses a folder with files that no prediction has written, labels for one: with no table, or under these names.

    Raises:
        InputError: It is one.
    """
    folders = [out / kind for kind in KINDS if (out / kind).is_dir()]
    if not (out / "predictions.csv").exists() and (taken := [each for each in folders if any(each.iterdir())]):
        raise InputError(f"-o {out}: {taken[0]} has files that seglab predict did not write; give another folder")
    for path in (path for name in names for path in files_of(out, name)):
        if path not in former and path.exists():
            raise InputError(f"-o {out}: {path} is of no row of predictions.csv; give another folder, or remove it")
