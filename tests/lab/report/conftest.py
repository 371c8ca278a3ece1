"""A page on made-up runs, and windows of a browser that show it."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from seglab.lab.comparison import compare
from seglab.lab.groups import group_runs
from seglab.lab.report import write_report
from seglab.lab.runs import find_runs

EVIL = "<img src=x onerror=alert(1)>&\"'"
CLASSES = ["background", "cat", EVIL]
IMAGES, HEIGHT, WIDTH = 24, 30, 40


def label_of(place):
    """Two classes in each image, and the third in every fifth; two rows are not scored."""
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[10:, place : place + 12] = 1
    if place % 5 == 0:
        label[20:, 30:] = 2
    label[:2] = 3
    return label


def predictions_of(quality, seed):
    rng = np.random.default_rng([seed, int(100 * quality)])
    for place in range(IMAGES):
        wrong = rng.random((HEIGHT, WIDTH)) > quality - rng.random() * 0.3
        drawn = rng.integers(0, 3, (HEIGHT, WIDTH), dtype=np.uint8)
        yield np.where(wrong | (label_of(place) == 3), drawn, label_of(place))


def confusion_of(label, preds):
    scored = label < 3
    return np.bincount(3 * label[scored].astype(int) + preds[scored], minlength=9).reshape(3, 3)


@pytest.fixture(scope="package")
def report(make_run, tmp_path_factory):
    """A page on three configurations of two seeds: where it is and what it shows, runs in the order of the page."""
    folder, predictions = tmp_path_factory.mktemp("browser"), {}
    names, labels = [f"photo {place:02d}" for place in range(IMAGES)], [label_of(place) for place in range(IMAGES)]
    for number, quality in enumerate((0.6, 0.75, 0.9)):
        for seed in (0, 1):
            preds = list(predictions_of(quality, seed))
            run = make_run(
                folder / "sweep" / f"{number}-{seed}",
                seed=seed,
                changes={"optimizer.lr": (0.1, 0.2, 0.3)[number]},
                class_names=CLASSES,
                names=names,
                confusion=np.stack([confusion_of(*pair) for pair in zip(labels, preds, strict=True)]),
                predictions=dict(zip(names, preds, strict=True)),
                epochs=4 + number,
                summary={"seconds": 100.0 - 20 * number + seed, "parameters": 10 ** (3 + number)},
            )
            predictions[run.name] = preds
    make_run(folder / "sweep" / "cut", seed=7, status="interrupted")
    finished, unfinished = find_runs([folder / "sweep"])
    comparison = compare(group_runs(finished), resamples=500)
    photo = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    pairs = {name: (photo, label) for name, label in zip(names, labels, strict=True)}
    title, page = f"Does it help? {EVIL}", folder / "report.html"
    write_report(comparison, page, title=title, unfinished=unfinished, read_pair=pairs.__getitem__)
    runs = [score.run for row in comparison.rows for score in row.runs]
    return SimpleNamespace(
        page=page,
        title=title,
        rows=comparison.rows,
        runs=runs,
        names=[f"{row.group.label}, seed {score.run.seed}" for row in comparison.rows for score in row.runs],
        labels=labels,
        predictions=[predictions[run.name] for run in runs],
        wrong=np.array([wrong_pixels(run.evaluation().confusion) for run in runs]),
    )


def wrong_pixels(confusion):
    return 1 - confusion.diagonal(axis1=1, axis2=2).sum(1) / confusion.sum((1, 2))


class Window:
    """A window that shows the page."""

    def __init__(self, page):
        self.page = page

    def show(self, section):
        """Scrolls to a section."""
        self.page.evaluate("id => document.getElementById(id).scrollIntoView()", section)

    def wait_until(self, condition, argument=None):
        """Waits for a JavaScript function to hold; the page's policy forbids Playwright's own way of waiting."""
        deadline = time.monotonic() + 20
        while not self.page.evaluate(condition, argument):
            assert time.monotonic() < deadline, condition
            self.page.wait_for_timeout(20)

    def plotted(self, plot):
        """Shows a chart and returns its traces."""
        self.show(plot.removesuffix("-plot"))
        self.wait_until("id => document.getElementById(id).data?.length > 0", plot)
        return self.page.evaluate("id => document.getElementById(id).data", plot)


@pytest.fixture
def opened(watched, report):
    """Opens the page in a window of its own; nothing may be said on the console and nothing asked of a network."""
    yield lambda **options: Window(watched.open(report.page.as_uri(), 10_000, **options))
    watched.close()
    assert watched.said == []
    assert {url for url in watched.asked if not url.startswith(("data:", "blob:"))} == {report.page.as_uri()}
