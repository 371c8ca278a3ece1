"""The demo's command, started once for the tests of a file."""

import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import requests
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]


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
def post(served):
    """Sends a photograph's bytes to the page's server."""

    def send(content, name="my photo.jpg", **headers):
        return requests.post(f"{served.address}/predict", params={"name": name}, data=content, headers=headers)

    return send


@pytest.fixture(scope="module")
def predicted(post):
    """The mask that the server answers with."""

    def mask(content):
        answer = post(content)
        assert answer.status_code == 200, answer.text
        part = answer.content.split(b'filename="mask.png"')[1]
        return np.asarray(Image.open(BytesIO(part[part.index(b"\x89PNG") :])))

    return mask


@pytest.fixture(scope="module")
def expected(predicted, photo):
    """The classes uint8 (44, 30) of the photograph."""
    return predicted(photo.read_bytes())
