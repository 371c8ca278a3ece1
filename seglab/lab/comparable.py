"""Reads the evaluations of runs that are to be compared, and refuses what cannot be."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seglab.errors import InputError
from seglab.lab.bootstrap import metric_names, parts
from seglab.lab.evaluation import Evaluation
from seglab.lab.runs import Run

MOST_FAULTS = 8  # named, a line each


@dataclass(frozen=True)
class Scored:
    """What a comparison needs of runs that were scored alike.

    Attributes:
        split: train, val or test of the runs' own dataset; none of another one.
        protocol: how images were scored.
        class_names: names of the K classes.
        names: of the images, (N,).
        images_with: number of images that each class is labelled in, by its name.
        runs: what the metric needs of each image, (N, 2, C) for each run.
    """

    split: str | None
    protocol: str
    class_names: list[str]
    names: np.ndarray
    images_with: dict[str, int]
    runs: list[np.ndarray]


def read_alike(runs: Sequence[Run], split: str, metric: str) -> Scored:
    """Reads what a metric needs of each run's images.

    The labels' areas must be the same image by image, which shows the same labels and the same scored pixels, wherever
    the dataset lies and whatever the runs trained on.

    Raises:
        InputError: A run has no evaluation of the split, or one from before boundaries were kept where the metric needs
            them, or other images, labels, classes or protocol than the first; there is one image alone; or no such
            metric.
    """
    first = runs[0].evaluation(split)
    check_metric(metric, first.class_names)
    if len(first.names) < 2:
        raise InputError(
            f"{runs[0].folder}: split {split} has {len(first.names)} image: a comparison needs at least 2, so give "
            "another --split"
        )
    areas = first.confusion.sum(2)
    read, faults, older = [], [], []
    for run in runs:
        try:
            evaluation = first if run is runs[0] else run.evaluation(split)
        except InputError as error:
            faults.append(str(error))
            continue
        if fault := unlike(evaluation, first, areas):
            faults.append(f"{run.folder}: {fault}")
        elif (matrices := evaluation.matrices(metric)) is None:
            older.append(str(run.evaluation_folder(split)))
        else:
            read.append(parts(matrices, metric, first.class_names))
    if faults:
        others = f"{len(faults)} of the other {len(runs) - 1} runs" if len(runs) > 2 else "the other run"
        said = f"{others} cannot be compared with {runs[0].folder} on {split}:"
        raise InputError("\n  ".join([said, *first_few(faults, MOST_FAULTS)]))
    if older:
        raise InputError(f"evaluate again, as it was, what does not keep boundaries yet: {', '.join(first_few(older))}")
    return Scored(
        split=None if "data" in first.metrics.get("inference", {}) else first.metrics["split"],
        protocol=first.metrics["protocol"],
        class_names=first.class_names,
        names=first.names,
        images_with=dict(zip(first.class_names, first.images_with, strict=True)),
        runs=read,
    )


def unlike(evaluation: Evaluation, first: Evaluation, areas: np.ndarray) -> str:
    """Returns in words what sets an evaluation apart from the first; nothing if they can be compared.

    Args:
        evaluation: of another run.
        first: of the first run.
        areas: of the first run's labels by image and class, (N, K).
    """
    if evaluation.class_names != first.class_names:
        return f"other classes: {', '.join(evaluation.class_names)}; not {', '.join(first.class_names)}"
    protocol, wanted = evaluation.metrics["protocol"], first.metrics["protocol"]
    if protocol != wanted:
        return f"protocol {protocol}, not {wanted}: evaluate.py with protocol=... scores a run by another"
    if not np.array_equal(evaluation.names, first.names):
        more, fewer = np.setdiff1d(evaluation.names, first.names), np.setdiff1d(first.names, evaluation.names)
        said = [f"has {len(more)} that the first has not ({_some(more)})"] if len(more) else []
        said += [f"lacks {len(fewer)} of {len(first.names)} ({_some(fewer)})"] if len(fewer) else []
        return f"other images: {' and '.join(said) or 'the same in another order'}"
    differing = (evaluation.confusion.sum(2) != areas).any(1)
    if differing.any():
        found = f"{differing.sum()} of {len(first.names)} images ({_some(first.names[differing])})"
        return f"other labels in {found}: the label files, data.classes or the scored window differ"
    return ""


def check_metric(metric: str, class_names: Sequence[str]) -> None:
    """Raises an error for a metric that there is not.

    Raises:
        InputError: With the nearest metrics there are.
    """
    valid = metric_names(class_names)
    if metric not in valid:
        raise InputError(
            f"--metric {metric} is unknown: {nearest(metric, valid)}the metrics are pixel_accuracy, miou, iou/CLASS, "
            f"boundary_miou and boundary_iou/CLASS, with a class of {', '.join(class_names)}"
        )


def nearest(word: str, valid: Sequence[str]) -> str:
    """Returns `did you mean X? ` for a mistyped word, or nothing."""
    names = {name.lower(): name for name in valid}
    inside = [name for name in names if word.lower() in name]
    near = [names[name] for name in (inside or difflib.get_close_matches(word.lower(), names, cutoff=0.6))[:2]]
    return f"did you mean {' or '.join(near)}? " if near else ""


def first_few(names: Sequence[object], most: int = 3) -> list[str]:
    """Returns some names, and as the last word how many more there are."""
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return [*map(str, names[:most]), *more]


def _some(names: np.ndarray) -> str:
    return ", ".join([*names[:3], *["..."][: len(names) > 3]])
