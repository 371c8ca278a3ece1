"""A comparison as text: the cells of a table, JSON, CSV and Markdown."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from seglab.lab.comparison import Comparison, Row
from seglab.lab.result_config import plain
from seglab.lab.significance import LEVEL

INTERVAL, SPREAD, RANGE, P_VALUE = "95 % interval", "seeds' std", "range", "p (Holm)"


def heading(comparison: Comparison) -> str:
    """Returns in a line what was compared on what."""
    return (
        f"{comparison.metric} in %, {comparison.evaluations}: {comparison.num_images} images, "
        f"{len(comparison.class_names)} classes, protocol {comparison.protocol}; "
        f"95 % intervals by {comparison.resamples} resamples; differences to {comparison.baseline}, in points"
    )


def header(comparison: Comparison, keys: Sequence[str]) -> list[str]:
    """Returns the columns' names."""
    figures = ["seeds", comparison.metric, INTERVAL, SPREAD, RANGE]
    return ["label", *keys, *figures, "difference", INTERVAL, "verdict", P_VALUE]


def cells(row: Row, keys: Sequence[str]) -> list[str]:
    """Returns a row of the table: percent and points with two decimals."""
    scores = [100 * run.score for run in row.runs]
    spread = (
        ["-", "-"] if row.seed_std is None else [f"{100 * row.seed_std:.2f}", f"{min(scores):.2f}..{max(scores):.2f}"]
    )
    figures = [str(len(scores)), f"{100 * row.score:.2f}", interval(row.interval), *spread]
    difference = row.difference
    if difference is None:
        against = ["-", "-", "baseline", "-"]
    else:
        verdict = difference.verdict + ("" if difference.seeds_known else " (one seed)")
        estimate, ends = f"{100 * difference.estimate:+.2f}", interval(difference.interval, "+")
        against = [estimate, ends, verdict, shown_p_value(difference.adjusted_p_value)]
    return [row.group.label, *(plain(row.group.values[key]) for key in keys), *figures, *against]


def interval(ends: tuple[float, float], sign: str = "") -> str:
    """Returns an interval in percent or points."""
    return "..".join(f"{100 * end:{sign}.2f}" for end in ends)


def shown_p_value(value: float) -> str:
    """Returns a p value with three decimals; one below the level of verdicts never looks like the level."""
    shown = f"{value:.3f}"
    return "<0.001" if value < 0.001 else f"<{LEVEL}" if value < LEVEL <= float(shown) else shown


def remedies(comparison: Comparison) -> list[str]:
    """Returns for each difference that was not shown what would show it."""
    return [
        f"{row.group.label}: {row.difference.remedy}."
        for row in comparison.rows
        if row.difference is not None and row.difference.remedy
    ]


def as_markdown(comparison: Comparison) -> str:
    """Returns the table, in percent, with what would show more and the notes below."""
    keys = list(comparison.rows[0].group.values)
    names = header(comparison, keys)
    table = [names, ["---"] * len(names), *(cells(row, keys) for row in comparison.rows)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in table]
    below = [f"- {line}" for line in [*remedies(comparison), *comparison.notes]]
    return "\n".join([f"{heading(comparison)}.", "", *lines, "", *below]).rstrip() + "\n"


def as_csv(comparison: Comparison) -> str:
    """Returns a line for each configuration, scores and differences as shares of 1."""
    keys = list(comparison.rows[0].group.values)
    lines = [csv_line(row, keys) for row in comparison.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def csv_line(row: Row, keys: Sequence[str]) -> dict[str, Any]:
    """Returns a configuration's values by column; differences are empty for the baseline."""
    scores = [run.score for run in row.runs]
    line = {"label": row.group.label} | {key: plain(row.group.values[key]) for key in keys}
    line |= {"seeds": len(scores), "score": row.score, "low": row.interval[0], "high": row.interval[1]}
    line |= {"seed_std": row.seed_std, "seed_min": min(scores), "seed_max": max(scores)}
    columns = ("p_value", "adjusted_p_value", "verdict", "seeds_known", "seeds_needed", "images_needed", "remedy")
    difference = row.difference
    low, high = difference.interval if difference else (None, None)
    line |= {"difference": difference and difference.estimate, "difference_low": low, "difference_high": high}
    return line | {column: difference and getattr(difference, column) for column in columns}


def as_json(comparison: Comparison) -> str:
    """Returns one JSON object, scores and differences as shares of 1, with the score of each run."""
    rows = [
        {
            "label": row.group.label,
            "values": row.group.values,
            "score": row.score,
            "interval": row.interval,
            "seed_std": row.seed_std,
            "difference": row.difference and asdict(row.difference),
            "runs": [
                {"folder": str(run.run.folder), "seed": run.run.seed, "score": run.score, "interval": run.interval}
                for run in row.runs
            ],
        }
        for row in comparison.rows
    ]
    about = (
        "metric",
        "split",
        "evaluations",
        "protocol",
        "class_names",
        "num_images",
        "resamples",
        "baseline",
        "notes",
    )
    made = {key: getattr(comparison, key) for key in about}
    made["shared"] = comparison.shared and comparison.shared._asdict()
    return json.dumps(made | {"rows": rows}, indent=2) + "\n"
