import ctypes
import gc
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from seglab.cli.memory import keep_freed_memory
from seglab.cli.stamp import cores

gc.set_threshold(10_000, 20, 50)  # as every command of seglab has it

# Each process of a parallel run, and what it starts, has its share of the cores.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
os.environ["OMP_NUM_THREADS"] = str(max(1, cores() // WORKERS))
keep_freed_memory()

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
BROWSERS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


def pytest_xdist_auto_num_workers():
    """What `-n auto` stands for: one process more than cores, since many tests wait for what they have started."""
    return cores() + 1


# A network that trains in a second: a width of a few channels and the four-stage U-Net.
POCKET = ["model=unet4", "model.width=0.02", "logger=csv"]
SMALL_SHAPES = [
    "data=shapes",
    "data.source.train=12",
    "data.source.val=4",
    "data.source.test=4",
    "data.crop_size=32",
    "data.batch_size=4",
]


@pytest.fixture(scope="module", autouse=True)
def small_process():
    """Gives back, after a file's tests, the memory that they have freed: processes are forked from this one."""
    yield
    if sys.platform == "linux":
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="session")
def voc9_288():
    """The 1000 photographs at 288 px, which are not part of the repository."""
    root = SHARED / "data" / "voc9_288"
    if not root.is_dir():
        pytest.skip(f"{root} is missing: this test needs real photographs")
    return root


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """The environment of a command: its own cache and no W&B key."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "HYDRA_"))}
    home = tmp_path_factory.mktemp("home")
    return variables | {
        "SEGLAB_CACHE_DIR": str(home / "cache"),
        "HOME": str(home),
        "COLUMNS": "200",
    }


@pytest.fixture(scope="session")
def command(environment):
    """Runs a command as a user types it in the checkout; returns the finished process."""

    def run(*words, cwd=ROOT, timeout=300, **variables):
        line, env = [sys.executable, *map(str, words)], environment | variables
        return subprocess.run(line, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)

    return run


@pytest.fixture
def call(environment, monkeypatch, capfd):
    """Runs a command in this process, which spares its imports; returns status, stdout and stderr."""
    from hydra.core.global_hydra import GlobalHydra

    from seglab.cli.main import run

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SEGLAB_CACHE_DIR", environment["SEGLAB_CACHE_DIR"])
    monkeypatch.setenv("COLUMNS", environment["COLUMNS"])
    monkeypatch.delenv("WANDB_API_KEY", raising=False)

    def run_here(name, *words):
        GlobalHydra.instance().clear()
        capfd.readouterr()
        status = 0
        try:
            run(name, [str(word) for word in words])
        except SystemExit as ended:
            status = ended.code
        said = capfd.readouterr()
        return status, said.out, said.err

    return run_here


@pytest.fixture(scope="session")
def once(command, tmp_path_factory):
    """Runs a command once for all processes of a parallel test run; returns its folder and the finished process."""

    def run(name, key, *words):
        base = tmp_path_factory.getbasetemp()
        folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
        with FileLock(f"{folder}.lock"):
            record = folder.with_suffix(".pickle")
            if not record.exists():
                record.write_bytes(pickle.dumps(command("train.py", *words, f"{key}={folder}")))
        return folder, pickle.loads(record.read_bytes())

    return run


@pytest.fixture(scope="session")
def trained(once):
    """A finished run of two epochs on shapes, for reading: tests that change it change a copy."""
    words = [*POCKET, *SMALL_SHAPES, "trainer.max_epochs=2", "callbacks.strips.every_n_epochs=1"]
    run, done = once("trained", "hydra.run.dir", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"
    return run


@pytest.fixture
def folder(tmp_path):
    """A dataset in the folder layout: 12 images of 40 x 48 with the classes 0, 1, 2."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
    for index in range(12):
        mask = rng.integers(0, 3, (4, 6), dtype=np.uint8).repeat(10, 0).repeat(8, 1)
        image = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "photos" / "images" / f"p{index:02d}.jpg")
        Image.fromarray(mask).save(tmp_path / "photos" / "masks" / f"p{index:02d}.png")
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def browser():
    """Chromium, without a window."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: this test needs a browser")
    chromium = next(filter(os.path.exists, BROWSERS), None)
    if chromium is None:
        pytest.skip("chromium is missing: this test needs a browser")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def watched(browser):
    """Opens pages in windows of their own, closes all, and has what they said on the console and asked for."""
    said, asked, contexts = [], [], []

    def open_page(address, timeout, width=1280, height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(timeout)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        return page

    def close():
        while contexts:
            contexts.pop(0).close()

    yield SimpleNamespace(open=open_page, close=close, said=said, asked=asked)
    close()


# Imported by the processes that test alone: the one that deals out the tests has no need of torch.
@pytest.fixture(scope="session")
def make_run():
    """Writes a run folder from arrays."""
    from run_folders import make_run

    return make_run


@pytest.fixture(scope="session")
def make_confusion():
    """Writes nothing: matrices of images whose labels are the same for any seed and accuracy."""
    from run_folders import random_confusion

    return random_confusion
