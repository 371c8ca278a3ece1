"""The report in a browser: what is clicked, sorted, chosen and typed, with an empty console and no request."""

import json
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest

from seglab.lab.comparison import compare
from seglab.lab.report import write_report
from seglab.lab.runs import find_runs, group_runs

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: this test needs a browser")
CHROMIUM = next(
    filter(os.path.exists, ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")), None
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
EVIL = "<img src=x onerror=alert(1)>&\"'"
CLASSES = ["background", "cat", EVIL]
SECTIONS = ("leaderboard", "differences", "curves", "classes", "confusion", "cost", "gallery", "runs")
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
        yield np.where(wrong | (label_of(place) == 3), rng.integers(0, 3, (HEIGHT, WIDTH)), label_of(place))


def confusion_of(label, preds):
    scored = label < 3
    return np.bincount(3 * label[scored].astype(int) + preds[scored], minlength=9).reshape(3, 3)


@pytest.fixture(scope="module")
def report(make_run, tmp_path_factory):
    """A page on three configurations of two seeds, with what it is made of."""
    folder = tmp_path_factory.mktemp("browser")
    names = [f"photo {place:02d}" for place in range(IMAGES)]
    wrong = {}
    for number, quality in enumerate((0.6, 0.75, 0.9)):
        for seed in (0, 1):
            predictions = dict(zip(names, (p.astype(np.uint8) for p in predictions_of(quality, seed)), strict=True))
            confusion = np.stack([confusion_of(label_of(i), predictions[name]) for i, name in enumerate(names)])
            run = make_run(
                folder / "sweep" / f"{number}-{seed}",
                seed=seed,
                changes={"optimizer.lr": 0.1 * (number + 1)},
                class_names=CLASSES,
                names=names,
                confusion=confusion,
                predictions=predictions,
                epochs=4 + number,
                summary={"seconds": 100.0 - 20 * number + seed, "parameters": 10 ** (3 + number), "note": EVIL},
            )
            wrong[run.name] = 1 - confusion.diagonal(axis1=1, axis2=2).sum(1) / confusion.sum((1, 2))
    make_run(folder / "sweep" / "cut", seed=7, status="interrupted")
    finished, unfinished = find_runs([folder / "sweep"])
    comparison = compare(group_runs(finished), resamples=500)
    photo = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    page = folder / "report.html"
    read = lambda name: (photo, label_of(names.index(name)))  # noqa: E731
    write_report(comparison, page, title=f"Does it help? {EVIL}", unfinished=unfinished, read_pair=read)
    runs = [score.run for row in comparison.rows for score in row.runs]
    return {"page": page, "comparison": comparison, "runs": runs, "wrong": [wrong[run.name] for run in runs]}


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is missing: this test needs a browser")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, report):
    """Opens the page in a window of its own; nothing may be said on the console and nothing asked of a network."""
    said, asked, contexts = [], [], []

    def open_page(width=1280, height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report["page"].as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert {url for url in asked if not url.startswith(("data:", "blob:"))} == {report["page"].as_uri()}


def show(page, section):
    page.evaluate("id => document.getElementById(id).scrollIntoView()", section)


def wait_until(page, condition, argument=None):
    """Waits for a JavaScript function to hold; Playwright's own way evaluates text, which the page's policy forbids."""
    deadline = time.monotonic() + 20
    while not page.evaluate(condition, argument):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)


def plotted(page, plot):
    """Shows a chart and returns its traces."""
    show(page, plot.removesuffix("-plot"))
    wait_until(page, "id => document.getElementById(id).data?.length > 0", plot)
    return page.evaluate("id => document.getElementById(id).data", plot)


def labels(report):
    return [f"{row.group.label}, seed {score.run.seed}" for row in report["comparison"].rows for score in row.runs]


def test_names_are_shown_as_they_are_typed(opened, report):
    page = opened()
    assert page.title() == f"Does it help? {EVIL}" == page.inner_text("h1")
    assert page.locator("img[src=x]").count() == 0
    assert page.inner_text("table.heat th:last-child >> nth=0") == EVIL
    assert page.inner_text(".heading p").replace("\n", "").startswith("20")
    assert "cut interrupted" in page.inner_text(".notice >> nth=0")


def test_the_network_is_out_of_reach(browser, report):
    page = browser.new_page()
    page.goto(report["page"].as_uri())
    sent = "fetch('data:,x').then(() => 'sent', () => 'refused')"
    assert page.evaluate(sent) == "refused"
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'stranger = 1'}))"
    )
    assert page.evaluate("typeof stranger") == "undefined"
    page.close()


def test_the_leaderboard_sorts_by_every_column(opened, report):
    page, rows = opened(), report["comparison"].rows
    order = lambda: page.locator(".leaderboard tbody th").evaluate_all(  # noqa: E731
        "cells => cells.map(cell => cell.dataset.value)"
    )
    best_first = [row.group.label for row in rows]
    assert order() == best_first
    header = page.locator(".leaderboard th", has=page.get_by_role("button", name="mIoU", exact=True))
    header.get_by_role("button").click()
    assert (header.get_attribute("aria-sort"), order()) == ("descending", best_first)
    header.get_by_role("button").press("Enter")
    assert (header.get_attribute("aria-sort"), order()) == ("ascending", best_first[::-1])
    page.locator(".leaderboard").get_by_role("button", name="optimizer.lr").press("Space")
    by_rate = sorted(rows, key=lambda row: row.group.values["optimizer.lr"])
    assert order() == [row.group.label for row in by_rate]
    assert page.locator(".leaderboard [aria-sort]").count() == 1
    page.locator(".heat:not(.confusion)").get_by_role("button", name="cat").click()
    means = [np.mean([score.run.evaluation().metrics["iou"]["cat"] for score in row.runs]) for row in rows]
    first = page.locator(".heat:not(.confusion) tbody th").first.get_attribute("data-value")
    assert first == best_first[int(np.argmax(means))]


def test_the_choice_of_runs_governs_every_section(opened, report):
    page, rows = opened(), report["comparison"].rows
    assert len(plotted(page, "curves-plot")) == 6 * 4
    groups = lambda table: page.locator(f"{table} tbody tr:visible").count()  # noqa: E731
    page.locator("#chooser li").first.locator("[data-all]").uncheck()
    assert page.inner_text("#chooser .chosen-count") == "4 of 6"
    assert {trace["meta"] for trace in plotted(page, "curves-plot")} == {2, 3, 4, 5}
    assert groups(".leaderboard") == 3 and groups(".heat:not(.confusion)") == 2
    assert groups(".forest") == 2 - (rows[0].difference is not None)
    assert page.locator("details.run:visible").count() == 4
    show(page, "confusion")
    wait_until(page, "() => document.querySelectorAll('#confusion-run option').length == 4")

    page.locator("#chooser li").nth(1).locator("[data-run]").first.uncheck()
    state = page.locator("#chooser li").nth(1).locator("[data-all]").evaluate("box => [box.checked, box.indeterminate]")
    assert state == [False, True]
    page.fill("#filter", "LR=" + str(rows[2].group.values["optimizer.lr"])[:5])
    assert page.locator("#chooser li:visible").count() == 1
    page.click("#choose-none")
    assert page.inner_text("#chooser .chosen-count") == "1 of 6"
    page.fill("#filter", "nothing like it")
    assert page.is_visible("#nothing-listed")
    page.fill("#filter", "")
    page.click("#choose-none")
    assert page.locator(".nothing-chosen:visible").count() == 6 and page.locator(".of-chosen:visible").count() == 0
    page.click("#choose-all")
    assert len(plotted(page, "curves-plot")) == 6 * 4 and page.locator("details.run:visible").count() == 6


def test_curves_switch_axis_and_runs_and_say_values_and_stand_out(opened, report):
    page = opened()
    traces = plotted(page, "curves-plot")
    assert [trace["x"] for trace in traces[:4]] == [[1, 2, 3, 4, 5, 6]] * 4
    history = report["runs"][0].history
    assert traces[0]["y"] == pytest.approx([100 * row["val/miou"] for row in history], rel=1e-4)
    assert traces[3]["y"] == pytest.approx([row["train/loss"] for row in history], rel=1e-4)
    same = [(trace["line"]["color"], trace["line"]["width"]) for trace in traces[:8:4]]
    assert same[0][0] == same[1][0] and same[0][1] > same[1][1]
    page.check("[name=curve-axis][value=images]")
    assert plotted(page, "curves-plot")[0]["x"] == [12, 24, 36, 48, 60, 72]

    button = page.locator("#curves-legend button").first
    button.press("Space")
    assert button.get_attribute("aria-pressed") == "false" and button.evaluate("b => b === document.activeElement")
    assert {trace["meta"] for trace in plotted(page, "curves-plot")} == {2, 3, 4, 5}
    button.click()
    assert len(plotted(page, "curves-plot")) == 24

    page.focus("#curves-plot")
    page.keyboard.press("ArrowRight")
    said = page.inner_text("#curves-said")
    assert said.startswith(f"{labels(report)[0]}, images seen 24: validation mIoU")
    assert f"{100 * history[1]['val/miou']:.4g}"[:4] in said
    assert page.locator("#curves-plot .hovertext").count() == 4
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#curves-said").startswith(labels(report)[1])

    page.locator("#curves-plot").blur()
    page.check("[name=curve-axis][value=epoch]")
    place = page.evaluate("""() => {
        const plot = document.getElementById("curves-plot"), {xaxis, yaxis} = plot._fullLayout;
        const box = plot.getBoundingClientRect(), {x, y} = plot.data[8];
        return [box.left + xaxis._offset + xaxis.d2p(x[2]), box.top + yaxis._offset + yaxis.d2p(y[2])];
    }""")
    page.mouse.move(place[0] - 5, place[1])
    page.mouse.move(*place, steps=3)
    page.wait_for_selector("#curves-plot .hovertext")
    assert labels(report)[2] in page.locator("#curves-plot .hovertext").first.text_content()
    assert page.locator("#curves-plot .trace.faded").count() == 20
    page.mouse.move(5, 5)
    wait_until(page, "() => document.querySelectorAll('#curves-plot .trace.faded').length == 0")


def test_confusion_of_a_run_and_less_another(opened, report):
    page = opened()
    show(page, "confusion")
    page.wait_for_selector("table.confusion td")
    shares = []
    for run in report["runs"][1:3]:
        total = run.evaluation().confusion.sum(0)
        shares.append(100 * total / total.sum(1, keepdims=True))
    cells = lambda: page.locator("table.confusion td").evaluate_all("all => all.map(cell => cell.textContent)")  # noqa: E731
    page.select_option("#confusion-run", "1")
    assert np.allclose([float(cell) for cell in cells()], shares[0].ravel(), atol=0.56)
    page.select_option("#confusion-less", "2")
    found = [float(cell.replace("−", "-")) for cell in cells()]
    assert np.allclose(found, (shares[0] - shares[1]).ravel(), atol=1.1)
    assert page.locator("table.confusion .gain").count() + page.locator("table.confusion .loss").count() > 0


def test_the_pareto_front_is_of_the_chosen_runs(opened, report):
    page, runs = opened(), report["runs"]
    plotted(page, "cost-plot")
    for kind in ("seconds", "parameters"):
        page.select_option("#cost-kind", kind)
        points = [(run.summary[kind], -run.evaluation().metrics["miou"]) for run in runs]
        front = [
            name
            for name, own in zip(labels(report), points, strict=True)
            if not any(other != own and other[0] <= own[0] and other[1] <= own[1] for other in points)
        ]
        assert set(re.findall(r"(lr=\S+, seed \d)", page.inner_text("#cost-front"))) == set(front)
    page.focus("#cost-plot")
    page.keyboard.press("ArrowRight")
    assert "parameters" in page.inner_text("#cost-said")


def shown_images(page):
    return [int(name.split()[1]) for name in page.locator("#images h3").all_text_contents()]


def test_the_gallery_sorts_by_where_two_runs_differ_most(opened, report):
    page, wrong = opened(), report["wrong"]
    show(page, "gallery")
    page.wait_for_selector("#images article.ready")
    assert shown_images(page) == list(range(IMAGES))
    page.select_option("#run-a", "5")
    page.select_option("#run-b", "1")
    assert page.input_value("#order") == "differ"  # choosing two runs asks for it
    gap = np.round(wrong[5], 4) - np.round(wrong[1], 4)
    assert shown_images(page) == sorted(range(IMAGES), key=lambda i: (-round(abs(gap[i]), 6), i))
    first = shown_images(page)[0]
    article = page.locator("#images article").first
    assert f"A {100 * wrong[5][first]:.1f} % wrong, B {100 * wrong[1][first]:.1f} % wrong" in article.inner_text()
    article.locator("figure[data-run]").first.wait_for()
    order = article.locator("figure[data-run]").evaluate_all("all => all.map(one => Number(one.dataset.run))")
    assert order == [5, 1, 0, 2, 4]  # A, B, then one seed of each configuration
    page.select_option("#order", "a")
    assert shown_images(page) == sorted(range(IMAGES), key=lambda i: (round(gap[i], 6), i))
    page.select_option("#order", "hardest")
    mean = np.mean(np.round(wrong, 4), 0)
    assert shown_images(page) == sorted(range(IMAGES), key=lambda i: (-round(mean[i], 9), i))
    page.select_option("#with-class", "2")
    assert sorted(shown_images(page)) == list(range(0, IMAGES, 5))
    assert page.inner_text("#images-said") == "5 images"


def test_pictures_are_the_predictions_and_their_errors(opened, report):
    page = opened()
    show(page, "gallery")
    figure = page.locator("#images article").first.locator("figure[data-run='0']")
    figure.locator("canvas").nth(1).wait_for()
    count = """canvas => {
        const bytes = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data, counts = {};
        for (let i = 0; i < bytes.length; i += 4) {
            const color = [...bytes.slice(i, i + 4)].join();
            counts[color] = (counts[color] ?? 0) + 1;
        }
        return counts;
    }"""
    prediction, errors = figure.locator("canvas").all()
    preds = next(predictions_of(0.9, report["runs"][0].seed))
    colors = [color["color"] for color in json.loads(page.locator("#data").text_content())["classes"]]
    expected = {
        ",".join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5)) + ",255": int((preds == index).sum())
        for index, color in enumerate(colors)
    }
    assert prediction.evaluate(count) == expected
    label = label_of(0)
    wrong = int(((preds != label) & (label < 3)).sum())
    assert sorted(errors.evaluate(count).values()) == sorted([2 * WIDTH, wrong, (HEIGHT - 2) * WIDTH - wrong])
    figure.locator("canvas").first.hover(position={"x": 80, "y": 4})
    assert page.inner_text("#tip").startswith("label not scored, predicted ")
    page.locator("#palette button", has_text="cat").click()
    faint = """() => {
        const canvas = document.querySelector("#images figure[data-run='0'] canvas");
        const bytes = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return bytes.some((value, i) => i % 4 === 3 && value > 0 && value < 60);
    }"""
    wait_until(page, faint)
    page.select_option("#kinds", "error")
    pictures = "() => document.querySelectorAll(`#images article:first-child [data-run='0'] canvas`).length"
    wait_until(page, f"{pictures} === 1")


def test_the_gallery_is_drawn_as_it_comes_into_view(opened):
    page = opened()
    show(page, "gallery")
    page.wait_for_selector("#images article.ready")
    page.wait_for_timeout(300)
    assert page.locator("#images article.ready").count() < IMAGES
    page.locator("#images article").last.scroll_into_view_if_needed()
    wait_until(page, "() => document.querySelector('#images article:last-child.ready') !== null")
    wait_until(page, "() => document.querySelector('#images article:first-child.ready') === null")


def test_the_theme_follows_the_system_and_the_button(opened):
    page = opened(color_scheme="dark")
    brightness = (
        "sum = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0)"
    )
    brightness = brightness.removeprefix("sum = ")
    assert page.evaluate(brightness) < 150 and page.get_attribute("#theme", "aria-pressed") == "true"
    dark = plotted(page, "cost-plot")[1]["marker"]["color"][0]
    page.click("#theme")
    assert page.evaluate(brightness) > 700 and page.get_attribute("#theme", "aria-pressed") == "false"
    assert plotted(page, "cost-plot")[1]["marker"]["color"][0] != dark
    page.reload()
    assert page.evaluate(brightness) > 700


def test_everything_is_reached_by_tab_and_seen(opened):
    page = opened()
    for section in SECTIONS:
        show(page, section)
        page.wait_for_timeout(100)
    page.wait_for_selector("#images article.ready")
    page.evaluate("scrollTo(0, 0)")
    wanted = page.evaluate("""() => [...document.querySelectorAll(
        "a, button, input, select, summary, [tabindex='0']")].filter((node) => node.checkVisibility()).length""")
    seen, unseen = set(), []
    for _ in range(wanted + 20):
        page.keyboard.press("Tab")
        place, outline, name = page.evaluate("""() => {
            const node = document.activeElement, style = getComputedStyle(node);
            return [[...document.querySelectorAll("*")].indexOf(node), style.outlineStyle, node.outerHTML.slice(0, 60)];
        }""")
        if name.startswith("<body") or place in seen:
            break  # once around
        seen.add(place)
        if outline == "none":
            unseen.append(name)
    assert unseen == []
    radios = 1  # a group of radio buttons is one stop
    assert len(seen) >= wanted - radios
    unnamed = page.evaluate("""() => [...document.querySelectorAll("button, input, select")]
        .filter((node) => !(node.textContent.trim() || node.ariaLabel || node.labels?.[0]?.textContent.trim()))
        .map((node) => node.outerHTML)""")
    assert unnamed == []


def test_space_and_enter_operate_what_tab_reaches(opened, report):
    page = opened()
    page.focus("#chooser [data-run='0']")
    page.keyboard.press("Space")
    assert page.inner_text("#chooser .chosen-count") == "5 of 6"
    page.focus("details.run:visible summary")
    page.keyboard.press("Enter")
    assert page.locator("details.run[open] pre").is_visible()
    copy = page.locator("details.run[open] .copy")
    copy.press("Enter")
    copy.get_by_text("Copied").wait_for()
    page.focus("#filter")
    page.keyboard.press("Control+V")
    assert page.input_value("#filter") == report["runs"][1].summary["command"]


def test_a_phone_has_room_for_all(opened):
    page = opened(width=360, height=780, has_touch=True)
    for section in SECTIONS:
        show(page, section)
        page.wait_for_timeout(150)
        assert page.evaluate("document.documentElement.scrollWidth") == 360, section
        top, head = page.evaluate(
            """id => [document.querySelector(`#${id} h2`).getBoundingClientRect().top,
            document.querySelector(".top").getBoundingClientRect().bottom]""",
            section,
        )
        assert top >= head, section
    assert not page.is_visible("#chooser")
    page.click("#open-chooser")
    assert page.is_visible("#chooser") and page.get_attribute("#open-chooser", "aria-expanded") == "true"
    page.locator("#chooser [data-all]").first.uncheck()
    page.keyboard.press("Escape")
    assert not page.is_visible("#chooser") and page.evaluate("document.activeElement.id") == "open-chooser"
    assert page.inner_text("#open-chooser") == "Runs 4 of 6"


def test_paper_shows_all_in_light_colours(opened):
    page = opened(color_scheme="dark")
    wait_until(page, "() => document.querySelectorAll('#images article.ready').length >= 4")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("['curves-plot', 'cost-plot'].every((id) => document.getElementById(id).data.length)")
    assert page.locator("table.confusion td").count() == 9
    for control in ("nav", "#chooser", ".controls >> nth=0", "#theme"):
        assert not page.is_visible(control)
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") is None
    assert page.pdf().startswith(b"%PDF")


@pytest.mark.skipif("SEGLAB_SCREENSHOTS" not in os.environ, reason="SEGLAB_SCREENSHOTS names no folder for pictures")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")])
def test_every_view_has_its_picture(opened, width, scheme):
    folder = Path(os.environ["SEGLAB_SCREENSHOTS"])
    page = opened(width=width, height=900 if width > 500 else 780, color_scheme=scheme)
    for section in SECTIONS:
        show(page, section)
        if section in ("curves", "cost"):
            plotted(page, f"{section}-plot")
        if section == "gallery":
            page.wait_for_selector("#images article.ready")
        page.screenshot(path=folder / f"{section}-{width}-{scheme}.png")
        assert page.locator(f"#{section} h2").is_visible()
