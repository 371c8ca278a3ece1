"""`seglab demo`: the command as a user types it, and its page in a browser, which may say and ask nothing elsewhere."""

import base64
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import requests
import torch
from omegaconf import OmegaConf
from PIL import Image

from seglab.cli.demo.command import find_examples
from seglab.data.labels import colormap

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["background", "disc", "ring", "square", "triangle", "star", "cross", "crescent", "blob"]


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    """A run whose network finds every class somewhere."""
    run = tmp_path_factory.mktemp("demo") / "a & <b>"
    shutil.copytree(trained, run)
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    weight, bias = checkpoint["state_dict"]["model.head.weight"], checkpoint["state_dict"]["model.head.bias"]
    weight.normal_(generator=torch.Generator().manual_seed(0))
    bias.zero_()
    torch.save(checkpoint, run / "checkpoints" / "best.ckpt")
    return run


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A photograph of 44 x 30 pixels that is stored lying on its side."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    path = tmp_path_factory.mktemp("photo") / "my photo.jpg"
    Image.fromarray(pixels).resize((44, 30), Image.Resampling.BICUBIC).save(path, exif=exif)
    return path


@pytest.fixture(scope="module")
def served(run, environment):
    """The command, started: its process, address and port."""
    words = [sys.executable, "-m", "seglab", "demo", str(run), "--port", "0", "--no-browser", "--device", "cpu"]
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=-1, stderr=-1, text=True) as process:
        said = process.stdout.readline()
        address = said.split()[-1] if said else pytest.fail(process.stderr.read())
        yield SimpleNamespace(process=process, said=said, address=address, port=int(address.rpartition(":")[2]))
        process.kill()


@pytest.fixture(scope="module")
def expected(served, photo):
    """The classes uint8 (44, 30) of the photograph."""
    return mask_of(post(served, photo.read_bytes()))


@pytest.fixture
def opened(browser, served):
    """Opens the page in a window of its own; nothing may be said on the console and nothing asked elsewhere."""
    said, asked, contexts = [], [], []

    def open_page(width=1280, height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(served.address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [line for line in said if "422" not in line] == []  # the status of a photograph that cannot be read
    assert {url for url in asked if not url.startswith((served.address, f"blob:{served.address}", "data:"))} == set()


def post(served, content, name="my photo.jpg", **headers):
    return requests.post(f"{served.address}/predict", params={"name": name}, data=content, headers=headers)


def mask_of(answer):
    """The mask in the form that the server answers with."""
    assert answer.status_code == 200, answer.text
    part = answer.content.split(b'filename="mask.png"')[1]
    return np.asarray(Image.open(BytesIO(part[part.index(b"\x89PNG") :])))


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


def test_several_at_once_and_what_is_refused(served, photo, expected):
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: post(served, photo.read_bytes()), range(6)))
    assert all(np.array_equal(mask_of(answer), expected) for answer in answers)
    wide = BytesIO()
    Image.new("L", (10_001, 1)).save(wide, "PNG")
    refused = post(served, wide.getvalue()[:50], "wide.png")  # whose size is read before its pixels
    assert refused.status_code == 422 and refused.text.startswith("wide.png: is 10001 x 1 pixels")
    assert post(served, b"", "empty.png").text.startswith("empty.png: is empty")
    connection = http.client.HTTPConnection("127.0.0.1", served.port)
    connection.request("POST", "/predict?name=huge.tif", b"", {"Content-Length": "100000001"})
    assert connection.getresponse().read() == b"huge.tif: has more than 100 MB; save it smaller"
    connection.close()
    assert post(served, photo.read_bytes(), **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert post(served, photo.read_bytes(), Origin="http://elsewhere.example").status_code == 403
    assert post(served, photo.read_bytes(), Origin=served.address).status_code == 200
    assert requests.get(served.address, headers={"Host": "elsewhere.example"}).status_code == 400
    assert requests.get(f"{served.address}/thumbnails/9").status_code == 404
    policy = requests.get(served.address).headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy


def test_a_port_in_use_is_said_before_anything_is_loaded(call, run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, out, err = call("demo", run, "--port", port)
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert err.startswith(
        f"error: 127.0.0.1:{port} cannot be listened on (Address already in use): give another --port"
    )


def test_a_missing_run_is_said(call, tmp_path):
    status, _, err = call("demo", tmp_path / "nothing", "--port", 0)
    assert status == 2 and "nothing is not a run folder" in err and err.count("\n") == 1


def test_without_its_dataset_a_run_has_no_examples(trained, tmp_path, capfd):
    config = OmegaConf.load(trained / ".hydra" / "config.yaml")
    config.data.source.test = 0
    (tmp_path / ".hydra").mkdir()
    OmegaConf.save(config, tmp_path / ".hydra" / "config.yaml")
    assert find_examples(tmp_path) == {}
    assert capfd.readouterr().err.startswith("warning: no examples are shown, since the dataset is not there (shapes: ")


def test_ctrl_c_ends_it_without_a_word(served, photo):
    assert served.said == f"Ctrl-C ends it; open in a browser: {served.address}\n"
    os.kill(served.process.pid, signal.SIGINT)
    assert served.process.wait(60) == 130
    assert served.process.stdout.read() == served.process.stderr.read() == ""
