"""What jobs side by side bring: the seconds of one sweep of four small jobs, run one and two at a time.

    python benchmarks/sweep.py [--epochs 6]

- one: one job at a time, one thread.
- two: two jobs at a time, one thread each (hydra/launcher=joblib hydra.launcher.n_jobs=2 on two cores).
- wide: one job at a time, with every core's thread.

It says whether the results of `one` and `two` are the same to the bit: weights, epochs and test.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from seglab.cli.conf_groups import CONF
from seglab.cli.rerun import verdict
from seglab.lab.runs import find_runs

JOBS = ["optimizer.lr=1e-4,3e-4,1e-3,3e-3", "model=unet4", "model.width=0.25", "data.crop_size=64", "logger=csv"]
TWO = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def seconds(folder: Path, epochs: int, threads: int, *words: str) -> float:
    """Runs the sweep in a folder and returns how long it took."""
    command = [sys.executable, "train.py", "-m", *JOBS, f"trainer.max_epochs={epochs}", *words]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    subprocess.run(
        [*command, f"hydra.sweep.dir={folder}"], cwd=CONF.parent, env=environment, check=True, capture_output=True
    )
    return time.perf_counter() - start


def main() -> None:
    """Measures and prints the seconds, their ratios, and whether the results are the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6, help="of each job")
    epochs = parser.parse_args().epochs
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: Path(scratch, name) for name in ("one", "two", "wide")}
        times = {
            "one": seconds(folders["one"], epochs, 1),
            "two": seconds(folders["two"], epochs, 1, *TWO),
            "wide": seconds(folders["wide"], epochs, os.cpu_count()),
        }
        pairs = zip(find_runs([folders["one"]])[0], find_runs([folders["two"]])[0], strict=True)
        said = [verdict(first, second)[1] for first, second in pairs]
    print("seconds: " + "  ".join(f"{name} {value:.1f}" for name, value in times.items()))
    print(f"two / one {times['two'] / times['one']:.2f}")
    print(f"two / wide {times['two'] / times['wide']:.2f}")
    print("\n".join(said))


if __name__ == "__main__":
    main()
