"""The report for everybody: by keyboard, on a phone, in the dark, on paper."""

import os
from pathlib import Path

import pytest

SECTIONS = ("leaderboard", "differences", "curves", "classes", "confusion", "cost", "gallery", "runs")


def test_the_theme_follows_the_system_and_the_button(opened):
    window = opened(color_scheme="dark")
    page = window.page
    brightness = (
        "sum = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0)"
    )
    brightness = brightness.removeprefix("sum = ")
    assert page.evaluate(brightness) < 150 and page.get_attribute("#theme", "aria-pressed") == "true"
    dark = window.plotted("cost-plot")[1]["marker"]["color"][0]
    page.click("#theme")
    assert page.evaluate(brightness) > 700 and page.get_attribute("#theme", "aria-pressed") == "false"
    assert window.plotted("cost-plot")[1]["marker"]["color"][0] != dark
    page.reload()
    assert page.evaluate(brightness) > 700


def test_everything_is_reached_by_tab_and_seen(opened):
    window = opened()
    page = window.page
    for section in SECTIONS:
        window.show(section)
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
        if name.startswith("<body"):
            continue  # between the last and the first: the browser may start anywhere
        if place in seen:
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
    window = opened()
    page = window.page
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
    assert page.input_value("#filter") == report.runs[1].summary["command"]


def test_a_phone_has_room_for_all(opened):
    window = opened(width=360, height=780, has_touch=True)
    page = window.page
    for section in SECTIONS:
        window.show(section)
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
    window = opened(color_scheme="dark")
    page = window.page
    window.wait_until("() => document.querySelectorAll('#images article.ready').length >= 4")
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
    window = opened(width=width, height=900 if width > 500 else 780, color_scheme=scheme)
    page = window.page
    for section in SECTIONS:
        window.show(section)
        if section in ("curves", "cost"):
            window.plotted(f"{section}-plot")
        if section == "gallery":
            page.wait_for_selector("#images article.ready")
        page.screenshot(path=folder / f"{section}-{width}-{scheme}.png")
        assert page.locator(f"#{section} h2").is_visible()
