"""What a multirun's job needs to run: its words and its share of the machine."""

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from seglab.cli import job
from seglab.cli.command_line import quoted
from seglab.cli.stamp import cores


def start_words(overrides: Sequence[str], run: Path) -> list[str]:
    """Returns the command line that starts a job of a sweep in its folder."""
    words = [word for word in overrides if not word.startswith("sweep.name=")]
    return [*words, f"sweep.name={quoted(run.parent.name)}", f"hydra.run.dir={quoted(str(run))}", "hydra.mode=RUN"]


def put_aside(run: Path) -> None:
    """Moves a run folder into `aside/` beside it, under its name and a number."""
    aside = run.parent / "aside"
    aside.mkdir(exist_ok=True)
    number = next(n for n in itertools.count(1) if not (aside / f"{run.name}-{n}").exists())
    run.rename(aside / f"{run.name}-{number}")


def claim(folder: Path, kind: str, name: object, wait: bool = False) -> AbstractContextManager[bool]:
    """Returns the `job.lock` on one thing of a sweep's folder: a place, a job, a trial."""
    path = folder / f".{kind}" / str(name)
    path.mkdir(parents=True, exist_ok=True)
    return job.lock(path, wait)


@contextmanager
def slot(folder: Path) -> Iterator[dict[str, str]]:
    """Takes one of the launcher's `n_jobs` places; yields the variables that give the job its share of the machine.

    A place has one GPU, where there are any, and its part of the processor's threads; a launcher without `n_jobs`
    runs one job at a time, or on machines of its own, and leaves all as it is.
    """
    n_jobs = HydraConfig.get().launcher.get("n_jobs") or 1
    n_jobs = cores() if n_jobs < 0 else n_jobs
    if n_jobs == 1:
        yield {}
        return
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus is None:
        gpus = ",".join(str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*")))))
    environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(max(1, cores() // n_jobs))}
    while True:
        for place in range(n_jobs):
            with claim(folder, "places", place) as free:
                if free:
                    if gpus:
                        environment["CUDA_VISIBLE_DEVICES"] = gpus.split(",")[place % len(gpus.split(","))]
                    yield environment
                    return
        time.sleep(1)  # the same sweep runs twice: they share the places
