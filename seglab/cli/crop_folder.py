"""The folder of a crop: whose it is, and files that are there whole or not at all."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seglab.data.source import Source
from seglab.errors import InputError

RECORD = "crop.json"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def claim(out: Path, wanted: dict[str, Any], source: Source) -> None:
    """Makes the folder and writes its record, or finds the record of the same dataset in it.

    Raises:
        InputError: The folder holds something else, or lies inside the dataset that is read.
    """
    for folder in (getattr(source, f"{kind}_folder", None) for kind in ("image", "mask")):
        if folder and out.resolve().is_relative_to((source.root / folder).resolve()):
            raise InputError(f"{out} lies among the files of the dataset that is read: give a folder outside {folder}")
    record = out / RECORD
    if record.is_file():
        return compare(record, wanted)
    if out.exists() and not (out.is_dir() and all(path.name == partial(record).name for path in out.iterdir())):
        raise InputError(f"{out} holds something else than crops (it has no {RECORD}): give a new folder")
    out.mkdir(parents=True, exist_ok=True)
    write_whole(record, lambda path: path.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8"))


def compare(record: Path, wanted: dict[str, Any]) -> None:
    """Compares a record with the settings of this command.

    Raises:
        InputError: They differ.
    """
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        differ = [key for key in wanted if found[key] != wanted[key]]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{record} cannot be read as the record of a crop: give a new folder") from None
    if differ == ["source"]:
        raise InputError(f"{record.parent} holds crops of other data, or the data has changed since: give a new folder")
    if differ := [key for key in differ if key != "source"]:
        changes = ", ".join(f"{key} {found[key]} there and {wanted[key]} here" for key in differ)
        raise InputError(f"{record.parent} holds crops of other settings ({changes}): give a new folder")


def refuse_strangers(folders: dict[str, Path], expected: set[str]) -> None:
    """Looks for files that would become part of the dataset without being crops.

    Raises:
        InputError: There is one.
    """
    for folder in folders.values():
        for parent, _, names in os.walk(folder):
            below = Path(parent).relative_to(folder)
            for name in names:
                if not name.startswith(".") and (below / name).as_posix() not in expected:
                    raise InputError(f"{Path(parent, name)} is no crop of this dataset: remove it or give a new folder")


def save_image(image: np.ndarray, path: Path) -> None:
    """Saves uint8 (h, w, 3) RGB as a PNG."""
    Image.fromarray(image).save(path, format="PNG", compress_level=4)


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Lets `write` make a file under another name and then gives it its own: it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(partial(path))
    os.replace(partial(path), path)


def partial(path: Path) -> Path:
    """Returns the hidden name of a file in the making, always the same: the next run overwrites what a cut one left."""
    return path.with_name(f".{path.name}.partial")


def is_complete(path: Path) -> bool:
    """Whether a PNG is there with its end; no other program need have been as careful as this one."""
    try:
        with path.open("rb") as file:
            file.seek(-len(_PNG_END), os.SEEK_END)
            return file.read() == _PNG_END
    except OSError:  # missing, or shorter than that
        return False
