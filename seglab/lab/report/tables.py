"""The page's tables and drawn intervals, as values that the template only lays out."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from seglab.lab.comparison import Comparison, Row
from seglab.lab.report.series import is_known, run_labels
from seglab.lab.result_config import config_of_result, flat, plain
from seglab.lab.runs import Run

FACTS = {
    "epochs": "epochs",
    "best_epoch": "best epoch",
    "best_val_miou": "best val mIoU",
    "images_seen": "images seen",
    "images_per_second": "images/s",
    "seconds": "time",
    "parameters": "parameters",
    "gflops": "GFLOPs of one crop",
    "peak_memory_mib": "peak memory, MiB",
    "device": "device",
    "precision": "precision",
    "config_hash": "config",
    "git_commit": "commit",
    "data_fingerprint": "data",
}


@dataclass(frozen=True)
class Scale:
    """A horizontal axis.

    Attributes:
        low: value at the left end.
        high: value at the right end.
        ticks: round values in between.
    """

    low: float
    high: float
    ticks: list[float]

    def at(self, value: float) -> str:
        """Returns a value's place on the axis as a percentage of its length."""
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}%"


def scale(values: Iterable[float], most_ticks: int = 6) -> Scale:
    """Returns an axis with round ends that holds zero and all values."""
    values = [0.0, *values]
    low, high = min(values), max(values)
    span = (high - low) or 0.01
    magnitude = 10 ** math.floor(math.log10(span / most_ticks))
    step = next(magnitude * factor for factor in (1, 2, 5, 10, 20) if span / (magnitude * factor) <= most_ticks)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return Scale(first * step, last * step, [step * index for index in range(first, last + 1)])


def percent(value: float | None, digits: int = 1) -> str:
    """Returns a share in percent, a dash for none."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def points(value: float, digits: int = 2) -> str:
    """Returns a difference of shares in signed percentage points."""
    return f"{100 * value:+.{digits}f}".replace("-", "−")


def duration(seconds: float) -> str:
    """Returns a length of time in its two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def class_iou(rows: Sequence[Row], split: str) -> list[list[float | None]]:
    """Returns each group's IoU of each class, the mean over its seeds; none where no run has the class."""
    return [_mean_over_seeds([score.run.evaluation(split).metrics["iou"] for score in row.runs]) for row in rows]


def _mean_over_seeds(iou: Sequence[dict[str, float | None]]) -> list[float | None]:
    columns = [[run[name] for run in iou if is_known(run[name])] for name in iou[0]]
    return [sum(values) / len(values) if values else None for values in columns]


@dataclass(frozen=True)
class RunCard:
    """What the page says of one run.

    Attributes:
        label: its name on the page.
        run: the run.
        group: the place of its group.
        score: of the run.
        interval: of the score.
        differing: the keys that set its group apart, with their values.
        facts: figures of the summary by name.
        versions: of packages, in a line.
        hardware: in a line.
        config: each key with its value, and whether it differs between the runs of the page.
    """

    label: str
    run: Run
    group: int
    score: float
    interval: tuple[float, float]
    differing: dict[str, str]
    facts: dict[str, str]
    versions: str
    hardware: str
    config: list[tuple[str, str, bool]]


def run_cards(comparison: Comparison) -> list[RunCard]:
    """Returns a card for each run, the best group first."""
    labels = iter(run_labels(comparison.rows))
    configs = [flat(config_of_result(score.run.config)) for row in comparison.rows for score in row.runs]
    keys = dict.fromkeys(key for config in configs for key in config)
    differing = {key for key in keys if len({repr(config.get(key)) for config in configs}) > 1} | {"seed"}
    return [
        RunCard(
            label=next(labels),
            run=score.run,
            group=index,
            score=score.score,
            interval=score.interval,
            differing={key: plain(value) for key, value in row.group.values.items()},
            facts=facts(score.run.summary),
            versions=", ".join(f"{name} {version}" for name, version in score.run.summary.get("versions", {}).items()),
            hardware=hardware(score.run.summary.get("hardware", {})),
            config=[(key, plain(value), key in differing) for key, value in flat(score.run.config).items()],
        )
        for index, row in enumerate(comparison.rows)
        for score in row.runs
    ]


def facts(summary: dict[str, Any]) -> dict[str, str]:
    """Returns the figures of a summary that it has, in words."""
    known = {key: summary[key] for key in FACTS if is_known(summary.get(key))}
    return {FACTS[key]: _fact(key, value) for key, value in known.items()}


def _fact(key: str, value: Any) -> str:
    if key == "seconds":
        return duration(value)
    if key == "best_val_miou":
        return f"{percent(value)} %"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def hardware(values: dict[str, Any]) -> str:
    """Returns the machine in a line."""
    gpus = values.get("gpus") or []
    parts = [*gpus, values.get("cpu"), values.get("cores") and f"{values['cores']} cores"]
    parts.append(values.get("memory_gib") and f"{values['memory_gib']} GiB")
    return ", ".join(str(part) for part in parts if part)
