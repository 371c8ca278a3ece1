"""The gallery in a browser: its order, its pictures pixel by pixel, and what is drawn when."""

import json

import numpy as np

IMAGES, HEIGHT, WIDTH = 24, 30, 40


def shown_images(page):
    return [int(name.split()[1]) for name in page.locator("#images h3").all_text_contents()]


def test_the_gallery_sorts_by_where_two_runs_differ_most(opened, report):
    window, wrong = opened(), report.wrong
    page = window.page
    window.show("gallery")
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
    window = opened()
    page = window.page
    window.show("gallery")
    figure = page.locator("#images article").first.locator("figure[data-run='0']")
    figure.locator("canvas").nth(1).wait_for()
    count = """canvas => {
        const copy = new OffscreenCanvas(canvas.width, canvas.height);
        const context = copy.getContext("2d", {willReadFrequently: true});
        context.drawImage(canvas, 0, 0);
        const bytes = context.getImageData(0, 0, canvas.width, canvas.height).data, counts = {};
        for (let i = 0; i < bytes.length; i += 4) {
            const color = [...bytes.slice(i, i + 4)].join();
            counts[color] = (counts[color] ?? 0) + 1;
        }
        return counts;
    }"""
    prediction, errors = figure.locator("canvas").all()
    preds, label = report.predictions[0][0], report.labels[0]
    colors = [color["color"] for color in json.loads(page.locator("#data").text_content())["classes"]]
    expected = {
        ",".join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5)) + ",255": int((preds == index).sum())
        for index, color in enumerate(colors)
    }
    assert prediction.evaluate(count) == expected
    wrong = int(((preds != label) & (label < 3)).sum())
    assert sorted(errors.evaluate(count).values()) == sorted([2 * WIDTH, wrong, (HEIGHT - 2) * WIDTH - wrong])
    figure.locator("canvas").first.hover(position={"x": 80, "y": 4})
    assert page.inner_text("#tip").startswith("label not scored, predicted ")
    page.locator("#palette button", has_text="cat").click()
    faint = """() => {
        const canvas = document.querySelector("#images figure[data-run='0'] canvas");
        const copy = new OffscreenCanvas(canvas.width, canvas.height);
        const context = copy.getContext("2d", {willReadFrequently: true});
        context.drawImage(canvas, 0, 0);
        const bytes = context.getImageData(0, 0, canvas.width, canvas.height).data;
        return bytes.some((value, i) => i % 4 === 3 && value > 0 && value < 60);
    }"""
    window.wait_until(faint)
    page.select_option("#kinds", "error")
    pictures = "() => document.querySelectorAll(`#images article:first-child [data-run='0'] canvas`).length"
    window.wait_until(f"{pictures} === 1")


def test_the_gallery_is_drawn_as_it_comes_into_view(opened):
    window = opened()
    page = window.page
    window.show("gallery")
    page.wait_for_selector("#images article.ready")
    page.wait_for_timeout(300)
    assert page.locator("#images article.ready").count() < IMAGES
    page.locator("#images article").last.scroll_into_view_if_needed()
    window.wait_until("() => document.querySelector('#images article:last-child.ready') !== null")
    window.wait_until("() => document.querySelector('#images article:first-child.ready') === null")
