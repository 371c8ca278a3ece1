"""`seglab predict RUN PHOTO|FOLDER ... -o OUT`: the classes of photographs that have no label."""

import csv
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

from seglab.cli.command_line import CommandParser
from seglab.cli.mistakes import told_in_a_line
from seglab.cli.network_options import add_network_options
from seglab.cli.photographs import counted, find_photographs, lies_in, named
from seglab.cli.prediction_folder import (
    HEAD,
    KINDS,
    TABLE_OPTIONS,
    files_of,
    former_files,
    overlay_suffix,
    refuse_other_files,
)
from seglab.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from seglab.cli.network import Network

DESCRIPTION = """\
Predicts the class of every pixel of photographs with a run's best checkpoint, or with the mean of several runs.
Photographs are read as training reads them (any size and usual format, EXIF orientation applied) and resized as the
run's were.

OUT holds masks/ (palette PNG of class indices, at the photograph's own size), overlays/, predictions.csv with the share
of each class, and probabilities/ where asked for, in place of what a former prediction has written there. A file that
cannot be read is listed, and the others go on; files of other suffixes in a folder are counted."""
EXAMPLES = """\
examples:
  seglab predict runs/2026-01-31/12-00-00-abcdef photos -o out
  seglab predict RUN RUN photos -o out --flip --scales 0.75,1,1.25
  seglab predict RUN large.tif -o out --window 512 --overlap 0.25

exit status: 0 all predicted; 1 some files could not be read; 2 a mistake, nothing was predicted
"""


def main() -> None:
    """Runs the command line; a user's mistake ends in one line and status 2."""
    sys.stdout.reconfigure(errors="surrogateescape")  # the name of OUT is any bytes
    with told_in_a_line("train"):
        raise SystemExit(predict(parser().parse_intermixed_args()))


def parser() -> CommandParser:
    """Returns the command's options."""
    made = CommandParser("predict", DESCRIPTION, EXAMPLES)
    made.add_argument("paths", nargs="+", type=Path, metavar="RUN|PHOTO|FOLDER",
                      help="one or more run folders, then photographs, or folders of them")  # fmt: skip
    made.add_argument("-o", "--out", type=Path, required=True, help="folder to write to")
    made.add_argument("--probabilities", action="store_true", help="write float16 (classes, h, w) of each, too")
    made.add_argument("--temperature", metavar="T", help="number that the logits are divided by where they become "
                      "probabilities (1), or fitted: what evaluate.py split=val temperature=fit found")  # fmt: skip
    made.add_argument("--no-overlays", action="store_true", help="write no overlays")
    add_network_options(made)
    return made


def predict(arguments: Namespace) -> int:
    """Predicts every photograph and says where the result is; returns the exit status.

    Raises:
        InputError: There is no run or no photograph, the runs do not go together, or OUT cannot be written.
    """
    runs = [path for path in arguments.paths if (path / ".hydra").is_dir()]
    found, others, unread = find_photographs([path for path in arguments.paths if path not in runs])
    if not runs:
        refuse_no_run(arguments.paths)
    written = [(arguments.out / kind).resolve() for kind in KINDS]
    photographs = dict(named(entry for entry in found if not lies_in(entry[0], written)))
    left_out = counted(path for path in others if not lies_in(path, written))
    former = former_files(arguments.out)
    refuse_other_files(arguments.out, photographs, former)
    if arguments.temperature is not None and not arguments.probabilities:
        raise InputError(f"--temperature {arguments.temperature} changes probabilities alone: add --probabilities")
    if not photographs:
        hint = f"; {left_out}" if left_out else ""
        raise InputError(f"no photograph is given: name files, or folders that hold some{hint}")
    from seglab.cli.network import load_network

    network = load_network(runs, arguments, arguments.temperature)
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        for path in former:
            path.unlink(missing_ok=True)
        faults = predict_all(network, photographs, arguments)
        done = len(photographs) - len(faults)
    except OSError as error:
        raise InputError(f"-o {arguments.out}: cannot be written ({error}); give another folder") from None
    faults += unread
    for fault in faults:
        print(f"skipped: {fault}", file=sys.stderr)
    if left_out:
        print(left_out, file=sys.stderr)
    print(f"{arguments.out}: {done} of {len(photographs)} photographs predicted")
    return 1 if faults else 0


def refuse_no_run(paths: Sequence[Path]) -> Never:
    """Says that no run is among the paths, and which of them was perhaps meant for one.

    Raises:
        InputError: Always.
    """
    for path in paths:
        if path.suffix == ".ckpt":
            raise InputError(f"{path} is a checkpoint: give its run's folder, and --checkpoint {path}")
        if any((path / name).exists() for name in ("summary.json", "checkpoints")):
            raise InputError(f"{path} is not a run folder: {path / '.hydra'} is missing; restore it, or train again")
    raise InputError("no run folder is given: seglab predict RUN PHOTO|FOLDER ... -o OUT")


def predict_all(network: "Network", photographs: dict[str, Path], arguments: Namespace) -> list[str]:
    """Writes what each photograph holds, and the table of all; returns what was wrong with those left out.

    Raises:
        OSError: The output cannot be written.
    """
    from rich.console import Console
    from rich.progress import track

    console, faults = Console(stderr=True), []
    with (arguments.out / "predictions.csv").open("w", buffering=1, **TABLE_OPTIONS) as file:  # a line at a time
        table = csv.writer(file)
        table.writerow([*HEAD, *network.class_names])
        for name, path in track(photographs.items(), "Predicting", console=console, disable=not console.is_terminal):
            try:
                preds = predict_one(network, path, name, arguments)
            except BaseException as error:
                for written in files_of(arguments.out, name):  # so far, and of no row
                    written.unlink(missing_ok=True)
                if not isinstance(error, InputError):
                    raise
                faults.append(str(error))
                continue
            table.writerow([path, f"masks/{name}.png", *preds.shape, *shares(preds, len(network.class_names))])
    return faults


def predict_one(network: "Network", path: Path, name: str, arguments: Namespace) -> "np.ndarray":
    """Writes what a photograph holds, and returns its preds uint8 (h, w).

    Raises:
        InputError: It cannot be read, or its overlay cannot be encoded.
        OSError: The output cannot be written.
    """
    import numpy as np

    from seglab.data.files import read_image
    from seglab.task.pictures import save_mask

    image = read_image(path)
    num_classes = len(network.class_names)
    preds, probabilities = network.predict(image, arguments.probabilities)
    save_mask(preds, made(arguments.out / "masks" / f"{name}.png"), num_classes)
    if probabilities is not None:
        np.save(made(arguments.out / "probabilities" / f"{name}.npy"), probabilities)
        del probabilities  # the overlay needs as much memory
    if not arguments.no_overlays:
        suffix = overlay_suffix(*preds.shape)
        try:
            save_overlay(image, preds, num_classes, made(arguments.out / "overlays" / f"{name}.{suffix}"))
        except OSError as error:
            if error.errno is not None:  # not the picture's fault
                raise
            raise InputError(f"{path}: its overlay cannot be encoded ({error}); give --no-overlays") from None
    return preds


def save_overlay(image: "np.ndarray", preds: "np.ndarray", num_classes: int, path: Path) -> None:
    """Writes the photograph uint8 (h, w, 3) with its preds uint8 (h, w) laid over it.

    Raises:
        OSError: It cannot be written, or, without an errno, not be encoded.
    """
    from PIL import Image

    from seglab.task.pictures import overlay

    kind = "JPEG" if path.name.endswith(".jpg") else "PNG"  # of a name that is all dots Pillow sees no suffix
    Image.fromarray(overlay(image, preds, num_classes)).save(path, kind, quality=90)


def made(path: Path) -> Path:
    """Returns a path whose folder exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def shares(preds: "np.ndarray", num_classes: int) -> list[Any]:
    """Returns the share of each class in preds (h, w), in [0, 1]."""
    import numpy as np

    return [round(count / preds.size, 6) for count in np.bincount(preds.ravel(), minlength=num_classes).tolist()]
