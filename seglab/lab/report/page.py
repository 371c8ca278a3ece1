"""Writes the page: the tables and the data through the template, with its style and scripts inside."""

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from seglab.errors import InputError
from seglab.lab.comparison import Comparison
from seglab.lab.report.gallery import Gallery, ReadPair, Track, build_gallery
from seglab.lab.report.series import metric_name, page_data
from seglab.lab.report.tables import class_iou, percent, points, run_cards, scale
from seglab.lab.result_config import plain
from seglab.lab.runs import Run
from seglab.lab.tables import shown_p_value
from seglab.replace_text import replace_text

_WEB = Path(__file__).parent / "web"
STYLES = ("page.css", "tables.css", "gallery.css", "media.css")
SCRIPTS = ("page.js", "theme.js", "tables.js", "curves.js", "cost.js", "confusion.js", "pictures.js", "gallery.js")
SCRIPTS += ("start.js",)
MARK = '<meta name="generator" content="seglab report">'
SERIES_COLORS = 8  # as many as page.css has, after which lines are dashed


def write_report(
    comparison: Comparison,
    out: Path,
    *,
    title: str,
    unfinished: Sequence[Run] = (),
    read_pair: ReadPair | None = None,
    images: int | None = None,
    track: Track = lambda items, total: items,
) -> Gallery:
    """Writes one self-contained HTML page that opens from disk without a network.

    Args:
        comparison: what to show.
        out: the file; an older report in its place is replaced.
        title: of the page.
        unfinished: runs to list as not finished.
        read_pair: returns image uint8 (h, w, 3) and mask uint8 (h, w) of a name; without it the gallery shows
            predictions alone.
        images: how many images the gallery has at most, evenly spread over their names; all by default.
        track: passes on an iterable of known length, and may show how far it is.

    Returns:
        The gallery, as the page holds it.

    Raises:
        InputError: `out` is another file than a report or cannot be written, or a run's file is missing or damaged.
    """
    refuse_other_files(out)
    runs = [score.run for row in comparison.rows for score in row.runs]
    names = runs[0].evaluation(comparison.split).names
    shown = np.linspace(0, len(names) - 1, min(images or len(names), len(names))).round().astype(int).tolist()
    picked = [str(names[i]) for i in shown]
    gallery = build_gallery(runs, comparison.split, picked, len(comparison.class_names), read_pair, track)
    html = render(comparison, page_data(comparison, shown, gallery), gallery, title, unfinished)
    save(html, out)
    return gallery


def save(html: str, out: Path) -> None:
    """Writes the file as a whole, and its folder where there is none.

    Raises:
        InputError: It cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_text(out, html)
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror or error}): give another file") from None


def refuse_other_files(out: Path) -> None:
    """Checks that nothing is lost by writing there.

    Raises:
        InputError: It is a folder, or a file that is no report.
    """
    if out.is_dir():
        raise InputError(f"{out} is a folder: give the file to write, such as {out / 'report.html'}")
    if out.exists() and MARK not in out.read_bytes()[:1000].decode(errors="replace"):
        raise InputError(f"{out} exists and is no report of seglab: give another file")


def render(
    comparison: Comparison, data: dict[str, Any], gallery: Gallery, title: str, unfinished: Sequence[Run]
) -> str:
    """Returns the page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(_WEB), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "points": points, "plain": plain}
    environment.filters["p_value"] = shown_p_value
    environment.globals |= {"swatch": swatch}
    script, plotly = Markup(f'"use strict";\n(() => {{\n{web_files(SCRIPTS)}\n}})();\n'), Markup(get_plotlyjs())
    differences = [row.difference for row in comparison.rows if row.difference is not None]
    evaluation = comparison.rows[0].runs[0].run.evaluation(comparison.split)  # whose labels are those of all runs
    return environment.get_template("report.html.j2").render(
        mark=Markup(MARK),
        title=title,
        made=datetime.now().astimezone(),
        comparison=comparison,
        metric=metric_name(comparison.metric),
        keys=list(dict.fromkeys(key for row in comparison.rows for key in row.group.values)),
        scores=scale(end for row in comparison.rows for end in row.interval),
        differences=scale(end for difference in differences for end in difference.interval),
        iou=class_iou(comparison.rows, comparison.split),
        images_with=evaluation.images_with,
        cards=run_cards(comparison),
        unfinished=unfinished,
        data=data,
        data_json=embedded(data),
        gallery=gallery,
        photos_json=embedded(gallery.photos),
        style=Markup(web_files(STYLES)),
        plotly=plotly,
        script=script,
        script_hashes=[script_hash(text) for text in (plotly, script)],
    )


def web_files(names: Sequence[str]) -> str:
    """Returns files of the page's folder, one after the other."""
    return "\n".join((_WEB / name).read_text(encoding="utf-8") for name in names)


def swatch(group: int) -> Markup:
    """Returns a short line in the group's colour, dashed where colours come round again."""
    dash = ("", "5 3", "2 2", "7 2 2 2")[group // SERIES_COLORS % 4]
    return Markup(
        '<svg class="swatch" width="20" height="10" aria-hidden="true"><line x1="1" x2="19" y1="5" y2="5" '
        f'stroke="var(--series-{group % SERIES_COLORS})" stroke-width="4" stroke-dasharray="{dash}"/></svg>'
    )


def embedded(value: Any) -> Markup:
    """Returns JSON that cannot end the script element around it."""
    return Markup(json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))


def script_hash(text: str) -> str:
    """Returns what a content security policy calls this script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
