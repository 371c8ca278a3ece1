"""Compares finished runs on the images of one split: scores with intervals, differences to a baseline, verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from seglab.errors import InputError
from seglab.lab.bootstrap import left_out_scores, mean_ratio, resampled_scores, widened
from seglab.lab.comparable import Scored, nearest, read_alike
from seglab.lab.groups import Group
from seglab.lab.runs import MANY_IMAGES_OF_A_CLASS, Run
from seglab.lab.significance import Estimate, estimate, paired_estimate
from seglab.lab.verdicts import Difference, judged

MANY_IMAGES = 30


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
        interval: its 95 % interval, over images and, where there are several, seeds.
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
        split: what the runs were scored on.
        protocol: how.
        class_names: names of the classes.
        num_images: number of images of the split.
        resamples: number of bootstrap resamples.
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
    baseline: str
    rows: list[Row]
    notes: list[str]


def compare(
    groups: Sequence[Group],
    metric: str = "miou",
    baseline: str | None = None,
    split: str = "test",
    resamples: int = 10_000,
    seed: int = 0,
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

    Raises:
        InputError: The runs cannot be compared: other images, labels, protocol or classes; or there is no such metric
            or baseline.
    """
    base = find_baseline(groups, baseline)
    notes = notes_on_runs(groups)
    groups = [replace(group, runs=first_of_each_seed(group.runs)) for group in groups]
    runs = [run for group in groups for run in group.runs]
    scored = read_alike(runs, split, metric)
    scores = np.array([mean_ratio(run.sum(0)) for run in scored.runs])
    if np.isnan(scores).any():
        raise InputError(f"--metric {metric}: {runs[np.isnan(scores).argmax()].folder} has no such pixel on {split}")
    resampled = resampled_scores(scored.runs, resamples, seed)
    counted = np.isfinite(resampled).all(1)
    left_out = left_out_scores(scored.runs)
    rows = rows_of(groups, base, scores, widened(resampled[counted], left_out), left_out)
    return Comparison(
        metric=metric,
        split=split,
        protocol=scored.protocol,
        class_names=scored.class_names,
        num_images=len(scored.names),
        resamples=resamples,
        baseline=groups[base].label,
        rows=sorted(rows, key=lambda row: -row.score),
        notes=[*notes, *notes_on_images(scored, metric), *notes_on_figures(rows, 1 - counted.mean())],
    )


def rows_of(
    groups: Sequence[Group], base: int, scores: np.ndarray, resampled: np.ndarray, left_out: np.ndarray
) -> list[Row]:
    """Returns a row for each group, in their order.

    Args:
        groups: with M runs in all.
        base: place of the baseline.
        scores: of the runs, (M,).
        resampled: their scores on each resample of the images, `widened`, (resamples, M).
        left_out: their scores without each of the N images, (N, M).
    """
    columns = np.split(np.arange(len(scores)), np.cumsum([len(group.runs) for group in groups])[:-1])

    def estimated(*columns: Sequence[int]) -> Estimate:
        return estimate(scores, resampled, left_out, columns)

    def difference_to_base(place: int) -> Estimate:
        if [run.folder for run in groups[place].runs] == [run.folder for run in groups[base].runs]:
            return paired_estimate(scores, resampled, left_out, columns[place], columns[base])
        return estimated(columns[place], columns[base])

    differences = judged([difference_to_base(place) for place in range(len(groups)) if place != base])
    differences.insert(base, None)
    return [
        Row(
            group,
            score=float(scores[own].mean()),
            interval=shown_interval(estimated(own)),
            runs=[
                RunScore(run, float(scores[column]), shown_interval(estimated([column])))
                for run, column in zip(group.runs, own, strict=True)
            ],
            seed_std=float(scores[own].std(ddof=1)) if len(own) > 1 else None,
            difference=difference,
        )
        for group, own, difference in zip(groups, columns, differences, strict=True)
    ]


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
    labels = [group.label for group in groups]
    raise InputError(
        f"--baseline {baseline} is none of the runs: {nearest(baseline, labels)}give a run's folder, or one of "
        + "; ".join(labels)
    )


def first_of_each_seed(runs: Sequence[Run]) -> list[Run]:
    """Returns the runs without those that repeat the seed of an earlier one."""
    return list({run.seed: run for run in reversed(runs)}.values())[::-1]


def shown_interval(found: Estimate) -> tuple[float, float]:
    """Returns the interval of a score: within [0, 1], and around the score even where its bias is large."""
    low, high = found.interval()
    return max(min(low, found.value), 0.0), min(max(high, found.value), 1.0)


def notes_on_runs(groups: Sequence[Group]) -> list[str]:
    """Returns a sentence on each thing that sets runs apart beside their configs.

    Raises:
        InputError: Runs of one config were trained on other data.
    """
    notes = []
    for group in groups:
        prints = {run.summary.get("data_fingerprint"): run.folder for run in reversed(group.runs)}
        prints.pop(None, None)
        if len(prints) > 1:
            other, one = list(prints.values())[-2:]
            raise InputError(f"{one} and {other} have one config and other data (data_fingerprint in summary.json)")
        if repeats := [run for run in group.runs if run not in first_of_each_seed(group.runs)]:
            folders = ", ".join(str(run.folder) for run in repeats)
            notes.append(f"{group.label}: left out {folders}, with the config and seed of an earlier run.")
    made_of = {"data_fingerprint": "data", "git_commit": "versions of the code", "precision": "precisions"}
    for key, what in made_of.items():
        count = len({run.summary.get(key) for group in groups for run in group.runs} - {None})
        if count > 1:
            notes.append(f"The runs were made with {count} different {what} ({key} in summary.json).")
    return notes


def notes_on_images(scored: Scored, metric: str) -> list[str]:
    """Returns a sentence on each thing about the images that limits what a metric says."""
    notes = []
    if scored.split == "val":
        notes.append("The best epoch was chosen on val, which flatters every run: decide by the test split.")
    if scored.split == "train":
        notes.append("The networks were trained on the images of train: this compares how well they fit them.")
    if len(scored.names) < MANY_IMAGES:
        notes.append(f"{len(scored.names)} images are few: intervals of so few are too narrow.")
    if metric == "pixel_accuracy":
        return notes
    of_class = metric.partition("/")[2]
    counts = {name: count for name, count in scored.images_with.items() if of_class in ("", name)}
    if absent := [name for name, count in counts.items() if not count]:
        notes.append(
            f"No image is labelled {' or '.join(absent)}: a run that predicts it anywhere has an IoU of 0 for it, "
            "and a run that does not leaves it out of the mean."
        )
    few = [f"{name} ({count})" for name, count in counts.items() if 0 < count < MANY_IMAGES_OF_A_CLASS]
    if few and len(scored.names) >= MANY_IMAGES:
        notes.append(f"Few images have {', '.join(few)}: chance decides more about such a class than about the others.")
    return notes


def notes_on_figures(rows: Sequence[Row], lost: float) -> list[str]:
    """Returns a sentence on each thing that limits what scores, intervals and verdicts say."""
    notes = []
    single = [row.group.label for row in rows if len(row.runs) == 1]
    if single and len(single) == len(rows):
        who = "every configuration" if len(rows) > 1 else single[0]
        notes.append(
            f"One seed of {who}: intervals and verdicts hold for these very runs, over images; "
            "what another seed would give is not known."
        )
    elif single:
        notes.append(
            f"One seed of {'; '.join(single)}: how far its seeds lie apart is not known and is in no interval; "
            "those of the others are."
        )
    if lost:
        notes.append(f"{lost:.1%} of the resamples hold no pixel of this metric and were left out.")
    if sum(row.difference is not None for row in rows) > 1:
        notes.append(
            "Verdicts and p values are Holm's over all differences to the baseline; each interval stands for itself, "
            "so one may leave out 0 where no difference is shown."
        )
    return notes
