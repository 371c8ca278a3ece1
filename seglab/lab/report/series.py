"""What the page's own script draws from: the runs' curves, costs, confusion and errors as plain JSON values."""

import colorsys
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from seglab.lab.bootstrap import BOUNDARY
from seglab.lab.comparison import Comparison, Row, RunScore
from seglab.lab.evaluation import Evaluation
from seglab.lab.groups import unique_labels
from seglab.lab.report.gallery import Gallery, image_errors
from seglab.lab.runs import Run

CURVES = ("val/miou", "val/loss", "train/miou", "train/loss")
COSTS = ("seconds", "images_per_second", "parameters", "gflops", "peak_memory_mib")

# Paul Tol's muted and vibrant schemes, which stay apart for colour-blind eyes; a first class of background is dark.
BACKGROUND_COLOR = "#2f3440"
CLASS_COLORS = (
    "#88ccee", "#cc6677", "#ddcc77", "#117733", "#aa4499", "#44aa99", "#ee7733", "#6a6ae0", "#999933", "#882255",
    "#0077bb", "#ffaabb", "#bbcc33", "#ee3377", "#77aadd", "#994f00", "#99ddff", "#eedd88", "#009988", "#b2b2d8",
    "#cc3311", "#40b0a6", "#e1be6a", "#5d3a9b",
)  # fmt: skip


def metric_name(metric: str) -> str:
    """Returns a metric in words."""
    if metric.startswith(BOUNDARY):
        return f"boundary {metric_name(metric.removeprefix(BOUNDARY))}"
    return {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"}.get(metric) or f"IoU of {metric.removeprefix('iou/')}"


def class_colors(class_names: Sequence[str]) -> list[str]:
    """Returns a colour for each class."""
    first = [BACKGROUND_COLOR] if class_names[0] == "background" else []
    rest = len(class_names) - len(first)
    more = [_spread(index) for index in range(max(0, rest - len(CLASS_COLORS)))]
    return [*first, *CLASS_COLORS[:rest], *more]


def _spread(index: int) -> str:
    color = colorsys.hls_to_rgb(index * 0.381966 % 1, (0.45, 0.65, 0.8)[index % 3], 0.6)  # turns of the golden angle
    return "#" + "".join(f"{round(255 * part):02x}" for part in color)


def run_labels(rows: Sequence[Row]) -> list[str]:
    """Returns a name for each run of the rows that no other has: its group's, with the seed where there are several."""
    labels = [
        row.group.label if len(row.runs) == 1 else f"{row.group.label}, seed {score.run.seed}"
        for row in rows
        for score in row.runs
    ]
    return unique_labels(labels, [score.run for row in rows for score in row.runs])


def page_data(comparison: Comparison, shown: Sequence[int], gallery: Gallery) -> dict[str, Any]:
    """Returns the page's data.

    Args:
        comparison: what is shown.
        shown: which images of the split the gallery has, by their place among the names.
        gallery: their pictures.
    """
    scores = [(index, score) for index, row in enumerate(comparison.rows) for score in row.runs]
    labels, packs = run_labels(comparison.rows), [bool(pack) for pack in gallery.predictions]
    runs, images = [], []
    for (group, score), label, has_predictions in zip(scores, labels, packs, strict=True):
        evaluation = score.run.evaluation(comparison.split)
        runs.append(run_data(score, group, label, evaluation, has_predictions, shown))
        images = images or image_data(evaluation, shown, gallery)
    groups = [
        {"label": row.group.label, "baseline": row.difference is None, "score": row.score} for row in comparison.rows
    ]
    classes = [
        {"name": name, "color": color}
        for name, color in zip(comparison.class_names, class_colors(comparison.class_names), strict=True)
    ]
    return {
        "metric": metric_name(comparison.metric),
        "classes": classes,
        "groups": groups,
        "runs": runs,
        "images": images,
    }


def image_data(evaluation: Evaluation, shown: Sequence[int], gallery: Gallery) -> list[dict[str, Any]]:
    """Returns name, size and labelled classes of the gallery's images."""
    areas = evaluation.confusion[list(shown)].sum(2)  # (n, k)
    return [
        {"name": str(evaluation.names[i]), "size": size, "classes": np.flatnonzero(area).tolist()}
        for i, size, area in zip(shown, gallery.sizes, areas, strict=True)
    ]


def run_data(
    score: RunScore, group: int, label: str, evaluation: Evaluation, has_predictions: bool, shown: Sequence[int]
) -> dict[str, Any]:
    """Returns one run's part of the page's data."""
    wrong, miou = image_errors(evaluation.confusion[list(shown)], evaluation.class_names)
    return {
        "label": label,
        "group": group,
        "seed": score.run.seed,
        "score": score.score,
        "curves": curves(score.run),
        "cost": {key: value if is_known(value := score.run.summary.get(key)) else None for key in COSTS},
        "confusion": per_mille(evaluation.confusion.sum(0)),
        "predictions": has_predictions,
        "wrong": wrong,
        "miou": miou,
    }


def curves(run: Run) -> dict[str, list[float | None]]:
    """Returns the run's curves with their epochs, from 1, and the images seen; none where a value is not finite."""
    rows = run.history if (run.folder / "metrics.csv").is_file() else []
    keys = {"epoch": "epoch", "images": "images_seen"} | {key: key for key in CURVES}
    columns = {name: [finite(row.get(key)) for row in rows] for name, key in keys.items()}
    columns["epoch"] = [None if epoch is None else epoch + 1 for epoch in columns["epoch"]]
    return columns


def finite(value: float | None) -> float | None:
    """Returns a number as JSON can hold it, with six digits."""
    return float(f"{value:.6g}") if is_known(value) else None


def is_known(value: Any) -> bool:
    """Returns whether a figure is there, and is no NaN or infinity."""
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def per_mille(confusion: np.ndarray) -> list[list[int] | None]:
    """Returns the rows of a confusion matrix int64 (K, K) as thousandths of the label's pixels; none without pixels."""
    return [np.rint(1000 * row / row.sum()).astype(int).tolist() if row.sum() else None for row in confusion]
