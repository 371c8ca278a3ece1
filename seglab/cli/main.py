"""`seglab COMMAND`: one entry for every command."""

import gc
import importlib
import os
import sys
from pathlib import Path

from seglab import __version__

os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # before Hydra: else a failing import shows as "Error locating target"

COMMANDS = {
    "train": "train a network, test it and write its run folder (python train.py)",
    "evaluate": "score a run folder again (python evaluate.py)",
    "predict": "predict photographs that have no label: masks, overlays, probabilities",
    "demo": "a page in the browser: drop a photograph, see its classes",
    "export": "write a run's network as ONNX or torch.export, held against the run",
    "stats": "mean, std, area and inverse-area weight of each class of a training split",
    "samples": "draw a sheet of training samples as augmentation makes them, with their masks",
    "crop": "write the five-crop dataset of a dataset",
    "rerun": "repeat a run and say whether its result is the same",
    "compare": "compare runs: scores and differences with intervals, and verdicts",
    "report": "write one HTML page that compares runs: intervals, curves, confusion, cost, a gallery",
    "wandb": "Weights & Biases: comparison reports, upload of offline runs, W&B sweeps",
}
MODULES = {"wandb": "wandb_command"}  # where a module cannot have the command's name


def main() -> None:
    """Hands the rest of the command line to the command that the first word names."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print("usage: seglab COMMAND [...]\n")
        print("\n".join(f"  {name:<10} {meaning}" for name, meaning in COMMANDS.items()))
        print("\n`seglab COMMAND --help` says more.")
        return
    if words[0] == "--version":
        print(__version__)
        return
    if words[0] not in COMMANDS:
        from seglab.cli.command_line import did_you_mean

        hint = did_you_mean(words[0], COMMANDS)
        print(f"error: seglab has no command {words[0]}: {hint}the commands are {', '.join(COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    run(words[0], words[1:])


def run(command: str, words: list[str]) -> None:
    """Runs one command with its part of the command line."""
    gc.set_threshold(10_000, 20, 50)  # the default goes through a million imported objects again and again
    sys.argv = [str(Path(__file__).parents[2] / f"{command}.py"), *words]  # what Lightning starts its processes from
    try:
        importlib.import_module(f"seglab.cli.{MODULES.get(command, command)}").main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads, `head` for instance, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes as it ends
        raise SystemExit(141) from None


def train() -> None:
    """Runs train.py."""
    run("train", sys.argv[1:])


def evaluate() -> None:
    """Runs evaluate.py."""
    run("evaluate", sys.argv[1:])
