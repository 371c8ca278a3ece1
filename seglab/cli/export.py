"""`seglab export RUN -o model.onnx`: a run's network as one file that needs no seglab, held against the run."""

import importlib.util
import json
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from seglab import __version__
from seglab.cli.command_line import CommandParser
from seglab.cli.mistakes import told_in_a_line
from seglab.errors import InputError

if TYPE_CHECKING:
    from seglab.models import Segmenter

DESCRIPTION = """\
Writes a run's network as one file: ONNX (.onnx), or a program of torch.export (.pt2). Photographs go in as they are,
`image` uint8 (batch, 3, height, width) RGB of any size, and `mask` uint8 (batch, height, width) comes out, class
indices: resizing, normalisation, padding and argmax are part of it. The metadata has the class names.

The file is then read back and held against the run's network on photographs, at three odd sizes and at their own. What
came of it is printed, and stands with the metadata in FILE.json. docs/export.md shows how such a file is used."""
EXAMPLES = """\
examples:
  seglab export runs/2026-01-31/12-00-00-abcdef -o model.onnx
  seglab export RUN -o model.onnx --probabilities --check photos
  seglab export RUN -o model.pt2

exit status: 0 written and equal; 1 written, but another class at more than one pixel in 10 000; 2 a mistake
"""
PACKAGES = {".onnx": ("onnx", "onnxscript", "onnxruntime"), ".pt2": ()}
OPSETS = range(18, 24)


def main() -> None:
    """Runs the command line; a user's mistake ends in one line and status 2."""
    with told_in_a_line("train"):
        raise SystemExit(export(parser().parse_args()))


def parser() -> CommandParser:
    """Returns the command's options."""
    made = CommandParser("export", DESCRIPTION, EXAMPLES)
    made.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    made.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="to write: .onnx or .pt2")
    made.add_argument("--checkpoint", default="best", help="best (default) or last")
    made.add_argument("--logits", action="store_true", help="logits float32 (batch, classes, height, width), too")
    made.add_argument("--probabilities", action="store_true", help="probabilities of the same shape, too")
    made.add_argument("--opset", type=int, choices=OPSETS, metavar="N", help="version of ONNX's operators, "
                      f"{OPSETS[0]} to {OPSETS[-1]}")  # fmt: skip
    made.add_argument("--check", type=Path, metavar="PHOTO|FOLDER",
                      help="photographs to compare on; the first of the run's test split by default")  # fmt: skip
    return made


def export(arguments: Namespace) -> int:
    """Writes the file, compares it, and says what came of it; returns the exit status.

    Raises:
        InputError: There is no such run, checkpoint or photograph, FILE cannot be written, a package is missing, or the
            network cannot be exported.
    """
    refuse_bad_file(arguments.out)
    if arguments.opset is not None and arguments.out.suffix != ".onnx":
        raise InputError(f"--opset {arguments.opset} is ONNX's: leave it out, or give a file that ends in .onnx")
    from rich.console import Console
    from rich.progress import track

    from seglab.cli.exported import open_exported
    from seglab.cli.network import Network, load_model
    from seglab.cli.parity import LEAST_EQUAL, batches, compare, photographs_to_check
    from seglab.cli.resolvers import register_resolvers
    from seglab.cli.run_folder import load_config
    from seglab.task.inference import Inference

    register_resolvers()
    cfg = load_config(arguments.run)
    model = load_model(arguments.run, cfg, arguments.checkpoint).eval()
    source, photographs = photographs_to_check(cfg, arguments.check)
    metadata = describe(arguments.run, cfg, model, arguments.checkpoint)
    console = Console(stderr=True)
    with console.status(f"Writing {arguments.out}"):
        write(arguments, model, metadata)
        exported = open_exported(arguments.out)
    network = Network(Inference([model]).eval(), metadata["class_names"], metadata["resize"], in_bf16=False)
    cases = track(list(batches(photographs)), "Comparing", console=console, disable=not console.is_terminal)
    parity = [compare(exported, network, images) for images in cases]
    equal = min(case["pixels_equal"] for case in parity)
    report = metadata | {"parity": {"photographs": source, "pixels_equal": equal, "cases": parity}}
    Path(f"{arguments.out}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_parity(parity, source)
    verdict = "equal to the run" if equal >= LEAST_EQUAL else "NOT equal to the run"
    size = arguments.out.stat().st_size / 2**20
    print(f"{arguments.out} ({size:.1f} MiB): {verdict}, at least {equal:.3%} of the pixels at every size")
    return 0 if equal >= LEAST_EQUAL else 1


def write(arguments: Namespace, model: "Segmenter", metadata: dict[str, Any]) -> None:
    """Writes the file in the format that its suffix names."""
    from seglab.cli.exported import trace, write_onnx, write_program
    from seglab.models.exportable import Exportable

    outputs = ["mask", *(name for name in ("logits", "probabilities") if getattr(arguments, name))]
    network = Exportable(model, metadata["resize"], outputs)
    program = trace(network, (2 * model.stride + 1, 3 * model.stride + 1))
    if arguments.out.suffix == ".onnx":
        write_onnx(program, arguments.out, metadata, outputs, arguments.opset)
    else:
        write_program(program, arguments.out, metadata)


def refuse_bad_file(path: Path) -> None:
    """Refuses a file that cannot be written.

    Raises:
        InputError: Its suffix is of no format, its folder does not exist, or a package for it is not installed.
    """
    if path.suffix not in PACKAGES:
        raise InputError(f"-o {path}: the suffix says the format; give a file that ends in {' or '.join(PACKAGES)}")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"-o {path}: {'is a folder' if path.is_dir() else f'there is no folder {path.parent}'}")
    if not os.access(path.parent, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise InputError(f"-o {path}: cannot be written to; change the permissions, or give another file")
    if missing := [name for name in PACKAGES[path.suffix] if importlib.util.find_spec(name) is None]:
        raise InputError(f"{path.suffix} needs {', '.join(missing)}: pip install -c requirements.lock -e '.[export]'")


def describe(run: Path, cfg: DictConfig, model: "Segmenter", checkpoint: str) -> dict[str, Any]:
    """Returns what the file says of itself: plain values; the test's score where it is that of this checkpoint."""
    from seglab.cli.run_folder import read_summary
    from seglab.task.pictures import palette

    summary = read_summary(run)
    return {
        "class_names": list(cfg.data.class_names),
        "ignore_index": cfg.data.ignore_index,
        "palette": palette(cfg.data.num_classes)[: cfg.data.num_classes].tolist(),
        "resize": cfg.data.resize,
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
        "model": cfg.model.name,
        "data": cfg.data.name,
        "run": run.resolve().name,
        "checkpoint": checkpoint,
        "test_miou": summary.get("test_miou") if checkpoint == "best" else None,
        **{key: summary.get(key) for key in ("config_hash", "git_commit")},
        "seglab": __version__,
    }


def print_parity(parity: list[dict[str, Any]], source: str) -> None:
    """Prints a line for each batch that was compared."""
    from rich.console import Console
    from rich.table import Table

    names = list(parity[0]["differences"])
    table = Table("batch", "height", "width", "pixels equal", *(f"{name} differ by" for name in names))
    for column in table.columns:
        column.justify = "right"
    for case in parity:
        differences = (f"{case['differences'][name]:.1e}" for name in names)
        sizes = (str(case[key]) for key in ("batch", "height", "width"))
        table.add_row(*sizes, f"{case['pixels_equal']:.4%}", *differences)
    console = Console(file=sys.stdout)
    console.print(f"compared on {source}", markup=False, highlight=False, soft_wrap=True)
    console.print(table)
