"""The page of `seglab demo` in a browser, which may say nothing on its console and ask nothing elsewhere."""

import base64
import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from seglab.data.labels import colormap

CLASSES = ["background", "disc", "ring", "square", "triangle", "star", "cross", "crescent", "blob"]


@pytest.fixture
def opened(watched, served):
    """Opens the page in a window of its own; nothing may be said on the console and nothing asked elsewhere."""
    own = (served.address, f"blob:{served.address}", "data:")
    yield lambda **options: watched.open(served.address, 20_000, **options)
    watched.close()
    assert [line for line in watched.said if "422" not in line] == []  # the status of a photograph that is not read
    assert {url for url in watched.asked if not url.startswith(own)} == set()


def upload(page, path):
    page.set_input_files("#file", path)
    page.locator("#name", has_text=path.name).wait_for()
    page.locator("#busy").wait_for(state="hidden")


def saved(page, button):
    with page.expect_download() as download:
        page.click(button)
    return download.value.suggested_filename, Image.open(download.value.path())


def place_of(page, row, column, shape):
    """Where in the window a pixel of the photograph is."""
    box = page.locator("#stage").bounding_box()
    return box["x"] + box["width"] * (column + 0.5) / shape[1], box["y"] + box["height"] * (row + 0.5) / shape[0]


def seen(page, row, column, shape):
    """The colour in which a pixel of the photograph is shown."""
    x, y = place_of(page, row, column, shape)
    picture = page.screenshot(clip={"x": int(x), "y": int(y), "width": 1, "height": 1})
    return np.asarray(Image.open(BytesIO(picture)).convert("RGB"))[0, 0].tolist()


def test_a_photograph_is_shown_as_predict_writes_it(call, opened, run, photo, expected, tmp_path):
    status, _, err = call("predict", run, photo, "-o", tmp_path)
    assert (status, err) == (0, "")
    written = Image.open(tmp_path / "masks" / "my photo.png")
    assert np.array_equal(np.asarray(written), expected) and len(np.unique(expected)) > 2
    page = opened()
    assert page.locator("#right").is_hidden() and "a & <b>" in page.inner_text("h1")
    upload(page, photo)
    name, mask = saved(page, "#save-mask")
    assert name == "my photo-mask.png" and mask.mode == "P" and mask.getpalette() == written.getpalette()
    assert np.array_equal(np.asarray(mask), expected) and expected.shape == (44, 30)
    assert re.fullmatch(r"30 × 44 pixels, predicted in \d+\.\d\d s", page.inner_text("#facts"))
    natural = page.locator("#photograph").evaluate("image => [image.naturalWidth, image.naturalHeight]")
    assert natural == [30, 44]
    shares = page.locator("#areas td").evaluate_all("cells => cells.map(cell => Number(cell.dataset.share))")
    names = page.locator("#areas tbody button").evaluate_all("all => all.map(button => button.textContent)")
    assert sum(shares) == pytest.approx(1) and shares == sorted(shares, reverse=True)
    assert shares == pytest.approx([(expected == CLASSES.index(name)).mean() for name in names])
    texts = page.locator("#areas td").all_inner_texts()
    assert texts == [f"{100 * share:.1f} %" if share >= 0.0005 else "< 0.1 %" for share in shares]
    absent = page.inner_text("#absent").removeprefix("Not found: ").split(", ")
    assert sorted([*names, *filter(None, absent)]) == sorted(CLASSES)


def test_slider_pointer_and_table_change_what_is_seen(opened, photo, expected):
    page = opened()
    upload(page, photo)
    shape, colors = expected.shape, colormap(9).tolist()
    label = int(np.bincount(expected[expected > 0]).argmax())
    row, column = np.argwhere(expected == label)[0].tolist()
    opacity = lambda percent: page.locator("#opacity").fill(str(percent))  # noqa: E731
    opacity(0)
    plain = seen(page, row, column, shape)
    opacity(100)
    assert page.inner_text("#opacity-said") == "100 %" and seen(page, row, column, shape) == colors[label] != plain
    opacity(50)
    half = [(a + b) / 2 for a, b in zip(plain, colors[label], strict=True)]
    assert seen(page, row, column, shape) == pytest.approx(half, abs=2)

    opacity(100)
    button = page.get_by_role("button", name=CLASSES[label], exact=True)
    button.press("Space")
    page.mouse.move(5, 5)
    assert button.get_attribute("aria-pressed") == "false" and seen(page, row, column, shape) == plain
    overlay = np.asarray(saved(page, "#save-overlay")[1].convert("RGB"))
    painted = (expected > 0) & (expected != label)
    assert overlay.shape[:2] == shape and np.array_equal(overlay[painted], np.array(colors)[expected[painted]])
    assert overlay[row, column].tolist() == pytest.approx(plain, abs=2)
    button.hover()
    assert seen(page, row, column, shape) == colors[label]  # alone, while the pointer is on its row

    for row, column in ((0, 0), (20, 7), (43, 29)):
        page.mouse.move(*place_of(page, row, column, shape))
        assert page.inner_text("#tip") == CLASSES[expected[row, column]]
    page.mouse.move(5, 5)
    assert page.locator("#pointer").is_hidden()
    page.focus("#stage")
    for key in ("ArrowUp", "ArrowLeft"):
        page.keyboard.press(key)
    assert page.inner_text("#said") == CLASSES[expected[42, 28]]  # a fortieth of the picture from the last pixel


def test_drop_and_examples_and_a_bad_file(opened, photo, expected):
    page = opened()
    drop = """([name, content]) => {
        const transfer = new DataTransfer(), bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
        transfer.items.add(new File([bytes], name));
        document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
    }"""
    page.evaluate(drop, ["notes.txt", base64.b64encode(b"no photograph").decode()])
    page.locator("#fault").wait_for()
    assert page.inner_text("#fault") == "notes.txt: is not an image that can be read; give another file"
    page.evaluate(drop, ["taken back.txt", base64.b64encode(b"no photograph").decode()])
    page.evaluate(drop, ["dropped.jpg", base64.b64encode(photo.read_bytes()).decode()])
    page.locator("#name", has_text="dropped.jpg").wait_for()
    assert page.locator("#fault").is_hidden() and page.locator("#busy").is_hidden()
    assert np.array_equal(np.asarray(saved(page, "#save-mask")[1]), expected)
    assert page.locator("#examples img").count() == 4
    page.get_by_role("button", name="test_00002").press("Enter")
    page.locator("#name", has_text="test_00002").wait_for()
    assert page.inner_text("#facts").startswith("32 × 32 pixels") and saved(page, "#save-mask")[1].size == (32, 32)
    large = photo.with_name("large.jpg")
    with large.open("wb") as file:
        file.truncate(100_000_001)
    page.set_input_files("#file", large)
    page.locator("#fault").wait_for()
    assert page.inner_text("#fault") == "large.jpg: has more than 100 MB; save it smaller"
    assert page.locator("#busy").is_hidden()


def test_by_keyboard_on_a_phone_in_the_dark(opened, photo):
    page = opened(width=360, height=740, color_scheme="dark")
    upload(page, photo)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    background = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((sum, part) => sum + +part, 0)"
    assert page.evaluate(background) < 150
    reached = set()
    page.evaluate("document.activeElement.blur()")
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
    controls = page.locator("a, button, input, [tabindex='0']")
    assert len(reached) >= controls.count()
    unnamed = """all => all.filter((node) => !(node.textContent.trim() || node.ariaLabel || node.querySelector("[alt]")
        || node.labels?.[0]?.textContent.trim())).map((node) => node.outerHTML)"""
    assert controls.evaluate_all(unnamed) == []
    page.click("#theme")
    assert page.evaluate(background) > 700
