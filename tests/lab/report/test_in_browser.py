"""The report in a browser: what is clicked, sorted, chosen and typed, with an empty console and no request."""

import re

import numpy as np
import pytest


def test_names_are_shown_as_they_are_typed(opened, report):
    window = opened()
    page = window.page
    assert page.title() == report.title == page.inner_text("h1")
    assert page.locator("img[src=x]").count() == 0
    assert page.inner_text("table.heat th:last-child >> nth=0") == report.title.removeprefix("Does it help? ")
    assert page.inner_text(".heading p").replace("\n", "").startswith("20")
    assert "cut interrupted" in page.inner_text(".notice >> nth=0")


def test_the_network_is_out_of_reach(browser, report):
    page = browser.new_page()
    page.goto(report.page.as_uri())
    sent = "fetch('data:,x').then(() => 'sent', () => 'refused')"
    assert page.evaluate(sent) == "refused"
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'stranger = 1'}))"
    )
    assert page.evaluate("typeof stranger") == "undefined"
    page.close()


def test_the_leaderboard_sorts_by_every_column(opened, report):
    window, rows = opened(), report.rows
    page = window.page
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
    window, rows = opened(), report.rows
    page = window.page
    assert len(window.plotted("curves-plot")) == 6 * 4
    groups = lambda table: page.locator(f"{table} tbody tr:visible").count()  # noqa: E731
    page.locator("#chooser li").first.locator("[data-all]").uncheck()
    assert page.inner_text("#chooser .chosen-count") == "4 of 6"
    assert {trace["meta"] for trace in window.plotted("curves-plot")} == {2, 3, 4, 5}
    assert groups(".leaderboard") == 3 and groups(".heat:not(.confusion)") == 2
    assert groups(".forest") == 2 - (rows[0].difference is not None)
    assert page.locator("details.run:visible").count() == 4
    window.show("confusion")
    window.wait_until("() => document.querySelectorAll('#confusion-run option').length == 4")

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
    assert len(window.plotted("curves-plot")) == 6 * 4 and page.locator("details.run:visible").count() == 6


def test_curves_switch_axis_and_runs_and_say_values_and_stand_out(opened, report):
    window = opened()
    page = window.page
    traces = window.plotted("curves-plot")
    assert [trace["x"] for trace in traces[:4]] == [[1, 2, 3, 4, 5, 6]] * 4
    history = report.runs[0].history
    assert traces[0]["y"] == pytest.approx([100 * row["val/miou"] for row in history], rel=1e-4)
    assert traces[3]["y"] == pytest.approx([row["train/loss"] for row in history], rel=1e-4)
    same = [(trace["line"]["color"], trace["line"]["width"]) for trace in traces[:8:4]]
    assert same[0][0] == same[1][0] and same[0][1] > same[1][1]
    page.check("[name=curve-axis][value=images]")
    assert window.plotted("curves-plot")[0]["x"] == [12, 24, 36, 48, 60, 72]

    button = page.locator("#curves-legend button").first
    button.press("Space")
    assert button.get_attribute("aria-pressed") == "false" and button.evaluate("b => b === document.activeElement")
    assert {trace["meta"] for trace in window.plotted("curves-plot")} == {2, 3, 4, 5}
    button.click()
    assert len(window.plotted("curves-plot")) == 24

    page.focus("#curves-plot")
    page.keyboard.press("ArrowRight")
    said = page.inner_text("#curves-said")
    assert said.startswith(f"{report.names[0]}, images seen 24: validation mIoU")
    assert f"{100 * history[1]['val/miou']:.4g}"[:4] in said
    assert page.locator("#curves-plot .hovertext").count() == 4
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#curves-said").startswith(report.names[1])

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
    assert report.names[2] in page.locator("#curves-plot .hovertext").first.text_content()
    assert page.locator("#curves-plot .trace.faded").count() == 20
    page.mouse.move(5, 5)
    window.wait_until("() => document.querySelectorAll('#curves-plot .trace.faded').length == 0")


def test_confusion_of_a_run_and_less_another(opened, report):
    window = opened()
    page = window.page
    window.show("confusion")
    page.wait_for_selector("table.confusion td")
    shares = []
    for run in report.runs[1:3]:
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
    window, runs = opened(), report.runs
    page = window.page
    window.plotted("cost-plot")
    for kind in ("seconds", "parameters"):
        page.select_option("#cost-kind", kind)
        points = [(run.summary[kind], -run.evaluation().metrics["miou"]) for run in runs]
        front = [
            name
            for name, own in zip(report.names, points, strict=True)
            if not any(other != own and other[0] <= own[0] and other[1] <= own[1] for other in points)
        ]
        assert set(re.findall(r"(lr=\S+, seed \d)", page.inner_text("#cost-front"))) == set(front)
    page.focus("#cost-plot")
    page.keyboard.press("ArrowRight")
    assert "parameters" in page.inner_text("#cost-said")
