"""What W&B's client left in a run folder, and what W&B calls the run."""

import struct
from collections.abc import Sequence
from pathlib import Path

from seglab.errors import InputError
from seglab.lab.runs import Run

_INCOMPLETE = "seglab-incomplete"  # a file in a folder of the client
_BLOCK, _HEADER = 32768, 7  # bytes of a .wandb file, a LevelDB log that begins with a header of its own
_WHOLE, _LAST = 1, 4  # kinds of pieces that end a record


def wandb_folders(run: Run) -> list[Path]:
    """Returns the folders that W&B's client wrote for a run, `[offline-]run-<time>-<id>`, in order of time."""
    folders = [*(run.folder / "wandb").glob("run-*-*"), *(run.folder / "wandb").glob("offline-run-*-*")]
    return sorted(folders, key=lambda folder: folder.name.removeprefix("offline-"))


def wandb_id(run: Run) -> str:
    """Returns a run's id in W&B.

    Raises:
        InputError: It was trained without W&B.
    """
    if not (folders := wandb_folders(run)):
        raise InputError(f"{run.folder} was not logged to W&B: it has no folder wandb/run-* or wandb/offline-run-*")
    return folders[-1].name.removeprefix("offline-").split("-", 2)[2]


def mark_incomplete(folder: Path) -> None:
    """Notes in a folder of W&B's client that the upload of its run was given up."""
    (folder / _INCOMPLETE).touch()


def is_uploaded(folder: Path) -> bool:
    """Returns whether W&B has all of what a folder of its client holds, as far as the client or a mark says."""
    left = folder.name.startswith("offline-") or (folder / _INCOMPLETE).exists()
    return not left or any(folder.glob("*.wandb.synced"))


def drop_cut_record(path: Path) -> None:
    """Cuts a record off the end of a .wandb file that a hard kill left incomplete: W&B's client stops there each time.

    Nobody may write the file meanwhile.
    """
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        place = whole = _HEADER
        while place + _HEADER <= size:
            if (room := _BLOCK - place % _BLOCK) < _HEADER:  # too little for a piece: padding
                place += room
                continue
            file.seek(place + 4)  # behind the checksum
            length, kind = struct.unpack("<HB", file.read(3))
            if _HEADER + length > room:  # no piece leaves its block: this file is damaged in another way
                return
            place += _HEADER + length
            if kind in (_WHOLE, _LAST) and place <= size:
                whole = place
        if whole < size:
            file.truncate(whole)


def shared(runs: Sequence[Run], key: str) -> str | None:
    """Returns the value of logger.wandb.project, or of another key there, that all the runs have.

    Raises:
        InputError: They have several.
    """
    values = {run.config["logger"].get("wandb", {}).get(key): run for run in runs}
    if len(values) > 1:
        several = ", ".join(f"{value} ({run.folder})" for value, run in values.items())
        raise InputError(f"the runs differ in logger.wandb.{key}: {several}; give --{key}")
    return next(iter(values))
