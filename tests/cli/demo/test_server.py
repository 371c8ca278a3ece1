"""`seglab demo` as a user types it, and what its server answers."""

import http.client
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import requests
from omegaconf import OmegaConf
from PIL import Image

from seglab.cli.demo.command import find_examples


def test_several_at_once_and_what_is_refused(served, post, predicted, photo, expected):
    with ThreadPoolExecutor(6) as threads:
        masks = list(threads.map(lambda _: predicted(photo.read_bytes()), range(6)))
    assert all(np.array_equal(mask, expected) for mask in masks)
    wide = BytesIO()
    Image.new("L", (10_001, 1)).save(wide, "PNG")
    refused = post(wide.getvalue()[:50], "wide.png")  # whose size is read before its pixels
    assert refused.status_code == 422 and refused.text.startswith("wide.png: is 10001 x 1 pixels")
    assert post(b"", "empty.png").text.startswith("empty.png: is empty")
    connection = http.client.HTTPConnection("127.0.0.1", served.port)
    connection.request("POST", "/predict?name=huge.tif", b"", {"Content-Length": "100000001"})
    assert connection.getresponse().read() == b"huge.tif: has more than 100 MB; save it smaller"
    connection.close()
    assert post(photo.read_bytes(), **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert post(photo.read_bytes(), Origin="http://elsewhere.example").status_code == 403
    assert post(photo.read_bytes(), Origin=served.address).status_code == 200
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


def test_ctrl_c_ends_it_without_a_word(served):
    assert served.said == f"Ctrl-C ends it; open in a browser: {served.address}\n"
    os.kill(served.process.pid, signal.SIGINT)
    assert served.process.wait(60) == 130
    assert served.process.stdout.read() == served.process.stderr.read() == ""
