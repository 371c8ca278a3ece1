"""How close `train.py` comes to the machine: images per second of unet6 against three plain loops, in one run.

    python benchmarks/throughput.py [--root PATH] [--rounds 3] [KEY=VALUE ...]

The rounds interleave the four, so that a noisy machine is noisy for all; each figure is the median of its rounds.

- float32: a plain loop, float32, contiguous memory, one batch in memory over and over.
- fastest: the same loop in the precision that trainer.precision=auto chooses here, in channels_last memory.
- kept: the same again, with freed memory kept for the next step, as train.py does (seglab/cli/memory.py).
- train.py: the command, with reading, augmenting (albu), metrics and logging; the second epoch of two short ones.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from seglab.cli.build import build_model
from seglab.cli.conf_groups import CONF
from seglab.cli.hardware import resolve_precision
from seglab.cli.memory import keep_freed_memory
from seglab.cli.resolvers import register_resolvers
from seglab.task import CrossEntropy

REPOSITORY = CONF.parent
BATCH_SIZE, SIZE = 8, 256


def in_a_process_of_its_own(function: Callable[..., float], *arguments: Any) -> float:
    """Returns what a function returns in a new process, since how a process holds memory cannot be taken back."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def plain_loop(batches: int, precision: str, memory_format: torch.memory_format, keep_memory: bool = False) -> float:
    """Returns images per second of forward, loss, backward and Adam on one batch in memory, after two warm-up steps."""
    if keep_memory:
        keep_freed_memory()
    register_resolvers()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", ["model=unet6", "data=voc9", "data.root=."])
    model = build_model(cfg, [0.5] * 3, [0.25] * 3).to(device, memory_format=memory_format)
    optimizer = torch.optim.Adam(model.parameters())
    loss = CrossEntropy(cfg.data.ignore_index)
    image = torch.randint(0, 256, (BATCH_SIZE, 3, SIZE, SIZE), dtype=torch.uint8, device=device)
    mask = torch.randint(0, 10, (BATCH_SIZE, SIZE, SIZE), device=device)
    for step in range(batches + 2):
        if step == 2:
            synchronize()
            start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed"):
            value = loss(model(image), mask)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    synchronize()
    return batches * BATCH_SIZE / (time.perf_counter() - start)


def synchronize() -> None:
    """Waits for a GPU to finish."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def train_command(batches: int, root: str | None, words: list[str]) -> tuple[float, dict]:
    """Returns images per second of the second epoch of a run, and the run's summary."""
    data = ["data=voc9", f"data.root={root}"] if root else ["data=shapes"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "train.py", "model=unet6", "augment=albu", *data, f"data.crop_size={SIZE}"]
        command += [f"data.batch_size={BATCH_SIZE}", "trainer.max_epochs=2", f"trainer.limit_train_batches={batches}"]
        command += ["trainer.limit_val_batches=1", "trainer.limit_test_batches=1", f"hydra.run.dir={folder}/run"]
        done = subprocess.run([*command, *words], cwd=REPOSITORY, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        with Path(folder, "run", "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        summary = json.loads(Path(folder, "run", "summary.json").read_text())
    return float(rows[1]["train/images_per_second"]), summary


def main() -> None:
    """Measures and prints the three speeds and the ratios between them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="photographs in VOC's layout; made scenes if not given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=8, help="batches of 8 in each measurement")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="of train.py, such as logger=csv")
    arguments = parser.parse_args()
    precision = resolve_precision("auto", "auto")
    loops = {
        "float32": (arguments.batches, "32-true", torch.contiguous_format),
        "fastest": (arguments.batches, precision, torch.channels_last),
        "kept": (arguments.batches, precision, torch.channels_last, True),
    }
    speeds: dict[str, list[float]] = {name: [] for name in [*loops, "train.py"]}
    for number in range(arguments.rounds):
        for name, settings in loops.items():
            speeds[name].append(in_a_process_of_its_own(plain_loop, *settings))
        speed, summary = train_command(arguments.batches, arguments.root, arguments.words)
        speeds["train.py"].append(speed)
        latest = "  ".join(f"{name} {values[-1]:.2f}" for name, values in speeds.items())
        print(f"round {number + 1}: {latest}", flush=True)
    median = {name: statistics.median(values) for name, values in speeds.items()}
    machine = f"{torch.get_num_threads()} threads, {summary['device']}, torch {torch.__version__}"
    print(f"unet6, {SIZE} x {SIZE}, batch {BATCH_SIZE}, {machine}")
    print(f"train.py ran in {summary['precision']}, {summary['memory_format']}")
    print("images/s: " + "  ".join(f"{name} {value:.2f}" for name, value in median.items()))
    for name in loops:
        print(f"train.py / {name} {median['train.py'] / median[name]:.2f}")


if __name__ == "__main__":
    main()
