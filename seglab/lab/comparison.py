"""Compares finished runs on the images of one split: scores with intervals, differences to a baseline, verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from seglab.errors import InputError
from seglab.lab.bootstrap import left_out_scores, mean_ratio, resampled_scores, widened
from seglab.lab.comparable import nearest, read_alike
from seglab.lab.estimation import estimate, paired_estimate, shared_spread
from seglab.lab.groups import Group, common_runs, first_of_each_seed
from seglab.lab.notes import notes_on_common_runs, notes_on_figures, notes_on_images, notes_on_runs
from seglab.lab.runs import Run, is_run
from seglab.lab.significance import Estimate, SharedSpread
from seglab.lab.verdicts import Difference, judged


@dataclass(frozen=True)
class RunScore:
    """The score of one run.

    Attributes:
        run: the run.
        score: the metric over the whole split, in [0, 1].
        interval: 95 % interval over images, for this run alone.
    """

    run: Run
    score: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Row:
    """A group with its score.

    Attributes:
        group: the configuration and its runs, one for each seed.
        score: mean over seeds of the runs' scores, in [0, 1].
        interval: its 95 % interval, over images and, where there are several or all share one spread, seeds.
        runs: the score of each run, by ascending seed.
        seed_std: standard deviation over seeds; none with one seed.
        difference: to the baseline; none for the baseline itself.
    """

    group: Group
    score: float
    interval: tuple[float, float]
    runs: list[RunScore]
    seed_std: float | None
    difference: Difference | None


@dataclass(frozen=True)
class Comparison:
    """Groups set beside each other.

    Attributes:
        metric: one of `metric_names`.
        split: evaluation of the runs that name none of their own.
        protocol: how.
        class_names: names of the classes.
        num_images: number of images of the split.
        resamples: number of bootstrap resamples.
        shared: the spread over seeds, where all configurations were taken to have the same.
        baseline: label of the group that the others are held against.
        rows: one for each group, best first.
        notes: what a reader must know of the figures, a sentence each.
    """

    metric: str
    split: str
    protocol: str
    class_names: list[str]
    num_images: int
    resamples: int
    shared: SharedSpread | None
    baseline: str
    rows: list[Row]
    notes: list[str]

    @property
    def evaluations(self) -> str:
        """Names of the evaluations that the runs were read by: the split, `test-flip` and so on."""
        runs = [score.run for row in self.rows for score in row.runs]
        return ", ".join(dict.fromkeys(run.evaluated or self.split for run in runs))


def compare(
    groups: Sequence[Group],
    metric: str = "miou",
    baseline: str | None = None,
    split: str = "test",
    resamples: int = 10_000,
    seed: int = 0,
    pool_seeds: bool = False,
) -> Comparison:
    """Compares groups of runs on the images of a split.

    Args:
        groups: at least one, as `group_runs` returns them.
        metric: one of `metric_names`.
        baseline: what the others are held against: a group's label, or the folder of one of its runs; the first group
            by default.
        split: an evaluation that every run has.
        resamples: number of bootstrap resamples of the images.
        seed: of the resamples.
        pool_seeds: whether the scores of all configurations are taken to spread alike over seeds.

    Raises:
        InputError: The runs cannot be compared: other images, labels, protocol or classes; or there is no such metric
            or baseline, or no spread to pool; or a single image has what the metric scores.
    """
    base = find_baseline(groups, baseline)
    notes = notes_on_runs(groups)
    groups = [replace(group, runs=first_of_each_seed(group.runs)) for group in groups]
    runs = [run for group in groups for run in group.runs]
    scored = read_alike(runs, split, metric)
    scores = np.array([mean_ratio(run.sum(0)) for run in scored.runs])
    if np.isnan(scores).any():
        raise InputError(f"--metric {metric}: {runs[np.isnan(scores).argmax()].folder} has no such pixel on {split}")
    if np.any([run[:, 1].any(1) for run in scored.runs], axis=0).sum() < 2:
        raise InputError(f"--metric {metric}: one image of {split} has such pixels: a comparison needs at least 2")
    resampled = resampled_scores(scored.runs, resamples, seed)
    counted = np.isfinite(resampled).all(1)
    left_out = left_out_scores(scored.runs)
    resampled = widened(resampled[counted], left_out)
    shared = shared_spread(scores, resampled, columns_of_seeds(groups)) if pool_seeds else None
    if pool_seeds and not shared:
        raise InputError("--pool-seeds: no configuration has two seeds, so how far they lie apart is not known")
    notes += notes_on_common_runs(groups, base)
    rows = rows_of(groups, base, scores, resampled, left_out, shared)
    return Comparison(
        metric=metric,
        split=split,
        protocol=scored.protocol,
        class_names=scored.class_names,
        num_images=len(scored.names),
        resamples=resamples,
        shared=shared,
        baseline=groups[base].label,
        rows=sorted(rows, key=lambda row: -row.score),
        notes=[*notes, *notes_on_images(scored, metric), *notes_on_figures(rows, 1 - counted.mean(), shared)],
    )


def rows_of(
    groups: Sequence[Group],
    base: int,
    scores: np.ndarray,
    resampled: np.ndarray,
    left_out: np.ndarray,
    shared: SharedSpread | None,
) -> list[Row]:
    """Returns a row for each group, in their order.

    Args:
        groups: with M runs in all.
        base: place of the baseline.
        scores: of the runs, (M,).
        resampled: their scores on each resample of the images, `widened`, (resamples, M).
        left_out: their scores without each of the N images, (N, M).
        shared: the spread over seeds, where it is taken to be the same for all groups.
    """
    columns = columns_of(groups)

    def estimated(*columns: Sequence[int]) -> Estimate:
        return estimate(scores, resampled, left_out, columns, shared)

    def difference_to_base(place: int) -> Estimate:
        if common := common_runs(groups[place], groups[base]):
            ones, others = np.array([(columns[place][one], columns[base][other]) for one, other in common]).T
            return paired_estimate(scores, resampled, left_out, ones, others)
        return estimated(columns[place], columns[base])

    differences = judged([difference_to_base(place) for place in range(len(groups)) if place != base])
    differences.insert(base, None)
    return [
        Row(
            group,
            score=float(scores[own].mean()),
            interval=shown_interval(estimated(own)),
            runs=[
                RunScore(run, float(scores[column]), shown_interval(estimate(scores, resampled, left_out, [[column]])))
                for run, column in zip(group.runs, own, strict=True)
            ],
            seed_std=float(scores[own].std(ddof=1)) if len(own) > 1 else None,
            difference=difference,
        )
        for group, own, difference in zip(groups, columns, differences, strict=True)
    ]


def columns_of(groups: Sequence[Group]) -> list[np.ndarray]:
    """Returns the places of each group's runs among all runs."""
    ends = np.cumsum([len(group.runs) for group in groups])
    return np.split(np.arange(ends[-1]), ends[:-1])


def columns_of_seeds(groups: Sequence[Group]) -> list[Sequence[int]]:
    """Returns the places of each group's runs; none where one of them is in an earlier group, scored in another way."""
    seen: set[Path] = set()
    found = []
    for group, columns in zip(groups, columns_of(groups), strict=True):
        folders = {run.resolved for run in group.runs}
        found.append(columns if seen.isdisjoint(folders) else [])
        seen |= folders
    return found


def find_baseline(groups: Sequence[Group], baseline: str | None) -> int:
    """Returns the place of the group that a label, or the folder of a run or of its evaluation, names.

    Raises:
        InputError: None of them is named so.
    """
    if baseline is None:
        return 0
    for place, group in enumerate(groups):
        if baseline == group.label or any(run.place.resolve() == Path(baseline).resolve() for run in group.runs):
            return place
    if is_run(Path(baseline)):
        raise InputError(f"--baseline {baseline} has not finished: give one that has")
    labels = [group.label for group in groups]
    raise InputError(
        f"--baseline {baseline} is none of the runs: {nearest(baseline, labels)}give a run's folder, or one of "
        + "; ".join(labels)
    )


def shown_interval(found: Estimate) -> tuple[float, float]:
    """Returns the interval of a score: within [0, 1], and around the score even where its bias is large."""
    low, high = found.interval()
    return max(min(low, found.value), 0.0), min(max(high, found.value), 1.0)
