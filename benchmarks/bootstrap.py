"""How long the bootstrap of `seglab compare` takes, by default for 20 runs on 1500 images of 21 classes.

    python benchmarks/bootstrap.py [--runs 20] [--images 1500] [--classes 21] [--resamples 10000]

Measured are the resamples and all that is read from them: five configurations of an equal number of seeds, their
intervals, differences, p values and what would show more. Reading the runs' files is not part of it.
"""

import argparse
import resource
import time

import numpy as np

from seglab.lab.bootstrap import left_out_scores, mean_ratio, parts, resampled_scores, widened
from seglab.lab.estimation import estimate
from seglab.lab.verdicts import judged

CONFIGURATIONS = 5


def made_runs(runs: int, images: int, classes: int) -> list[np.ndarray]:
    """Returns what miou needs of confusion matrices of made runs on the same labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20_000, (images, classes)) * (rng.random((images, classes)) < 0.15)
    names = [str(number) for number in range(classes)]
    made = []
    for _ in range(runs):
        right = rng.binomial(labels, rng.uniform(0.6, 0.9, classes))
        wrong = (labels - right)[:, :, None] // classes
        confusion = np.broadcast_to(wrong, (images, classes, classes)).copy()
        confusion[:, range(classes), range(classes)] = right
        made.append(parts(confusion, "miou", names))
    return made


def main() -> None:
    """Measures and prints the seconds and the memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--resamples", type=int, default=10_000)
    arguments = parser.parse_args()
    runs = made_runs(arguments.runs, arguments.images, arguments.classes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    scores = np.array([mean_ratio(run.sum(0)) for run in runs])
    left_out = left_out_scores(runs)
    resampled = widened(resampled_scores(runs, arguments.resamples), left_out)
    drawn = time.perf_counter()
    columns = np.array_split(np.arange(arguments.runs), min(CONFIGURATIONS, arguments.runs))
    for own in columns:
        estimate(scores, resampled, left_out, [own]).interval()
    judged([estimate(scores, resampled, left_out, [own, columns[0]]) for own in columns[1:]])
    end = time.perf_counter()
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024  # Linux counts in KiB
    size = f"{arguments.runs} runs x {arguments.images} images x {arguments.classes} classes"
    print(f"{arguments.resamples} resamples of {size}: {end - start:.2f} s, of which {drawn - start:.2f} s resample")
    print(f"memory: {more:.0f} MiB more than before")


if __name__ == "__main__":
    main()
