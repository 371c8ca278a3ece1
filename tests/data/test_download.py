import hashlib
import io
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from seglab.data.download import fetch_and_unpack
from seglab.data.voc import VocFolder
from seglab.errors import InputError


class Site:
    """A server of one archive on the loopback; `breaks` connections close halfway through what was asked for."""

    def __init__(self, data, breaks=0, ranges=True, status=None):
        self.data, self.breaks, self.ranges, self.status = data, breaks, ranges, status
        self.asked = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                site.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/small.tar"

    def answer(self, handler):
        asked = handler.headers.get("Range")
        self.asked.append(asked)
        start = int(asked[len("bytes=") : -1]) if asked and self.ranges else 0
        if self.status or (start and start >= len(self.data)):
            handler.send_response(self.status or 416)
            handler.send_header("Content-Range", f"bytes */{len(self.data)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        body = self.data[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if self.breaks:
            self.breaks -= 1
            body = body[: len(body) // 2]
        handler.wfile.write(body)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def pack(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def md5(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


FILES = {"VOCdevkit/VOC2012/a.bin": np.random.default_rng(0).bytes(3_000_000), "VOCdevkit/readme.txt": b"hello"}


def unpacked(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".tar", ".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("breaks", [0, 1, 3])
def test_a_broken_download_goes_on_where_it_stopped(tmp_path, breaks):
    data = pack(FILES)
    with Site(data, breaks) as site:
        fetch_and_unpack(site.url, md5(data), tmp_path)
    assert unpacked(tmp_path) == FILES
    assert len(site.asked) == breaks + 1 and site.asked[0] is None
    starts = [int(asked[len("bytes=") : -1]) for asked in site.asked[1:]]
    assert starts == sorted(set(starts)) and all(0 < start < len(data) for start in starts)


def test_a_download_goes_on_in_the_next_run(tmp_path):
    data = pack(FILES)
    (tmp_path / "small.tar.part").write_bytes(data[:1_000_000])
    with Site(data) as site:
        fetch_and_unpack(site.url, md5(data), tmp_path)
    assert site.asked == ["bytes=1000000-"] and unpacked(tmp_path) == FILES


def test_a_part_that_is_complete_is_only_checked(tmp_path):
    data = pack(FILES)
    (tmp_path / "small.tar.part").write_bytes(data)
    with Site(data) as site:
        fetch_and_unpack(site.url, md5(data), tmp_path)
    assert len(site.asked) == 1 and unpacked(tmp_path) == FILES


def test_a_part_longer_than_the_archive_is_thrown_away(tmp_path):
    data = pack(FILES)
    (tmp_path / "small.tar.part").write_bytes(bytes(len(data) + 10))
    with Site(data) as site:
        fetch_and_unpack(site.url, md5(data), tmp_path)
    assert site.asked[1:] == [None] and unpacked(tmp_path) == FILES


def test_a_server_without_ranges_sends_all_again(tmp_path):
    data = pack(FILES)
    with Site(data, breaks=1, ranges=False) as site:
        fetch_and_unpack(site.url, md5(data), tmp_path)
    assert unpacked(tmp_path) == FILES


def test_a_wrong_checksum_is_refused_and_not_kept(tmp_path):
    data = pack(FILES)
    with Site(data) as site:
        with pytest.raises(InputError, match=r"small\.tar: .*hash.*start again"):
            fetch_and_unpack(site.url, "0" * 32, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["small.tar.lock"]
        fetch_and_unpack(site.url, md5(data), tmp_path)
    assert unpacked(tmp_path) == FILES


@pytest.mark.parametrize("name", ["../outside.txt", "a/../../outside.txt"])
def test_a_member_outside_the_folder_is_refused(tmp_path, name):
    data = pack({"inside.txt": b"good", name: b"evil"})
    folder = tmp_path / "data"
    with Site(data) as site, pytest.raises(InputError, match=r"small\.tar: refused to unpack it .*outside"):
        fetch_and_unpack(site.url, md5(data), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert {path.name for path in folder.iterdir()} == {"small.tar", "small.tar.lock"}


def test_what_is_no_archive_is_refused(tmp_path):
    data = b"<html>moved</html>" * 100
    with Site(data) as site, pytest.raises(InputError, match="is not a tar archive"):
        fetch_and_unpack(site.url, md5(data), tmp_path)


def test_an_address_that_is_gone_is_named(tmp_path):
    with (
        Site(b"", status=404) as site,
        pytest.raises(InputError, match=r"small\.tar: the download failed \(404.*yourself"),
    ):
        fetch_and_unpack(site.url, "0" * 32, tmp_path)
    assert len(site.asked) == 1


def test_an_archive_brought_by_hand_needs_no_network(tmp_path):
    data = pack(FILES)
    (tmp_path / "small.tar").write_bytes(data)
    fetch_and_unpack("http://127.0.0.1:9/small.tar", md5(data), tmp_path)
    assert unpacked(tmp_path) == FILES


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        fetch_and_unpack("http://127.0.0.1:9/small.tar", "0" * 32, tmp_path / "file" / "data")


def test_files_beside_the_new_ones_stay(tmp_path):
    (tmp_path / "VOCdevkit" / "VOC2007").mkdir(parents=True)
    (tmp_path / "VOCdevkit" / "VOC2007" / "mine.txt").write_text("mine")
    data = pack(FILES)
    with Site(data) as site:
        fetch_and_unpack(site.url, md5(data), tmp_path)
    assert unpacked(tmp_path) == FILES | {"VOCdevkit/VOC2007/mine.txt": b"mine"}


def test_voc_is_downloaded_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGLAB_CACHE_DIR", str(tmp_path / "cache"))
    photo, labels = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (9, 7)).save(photo, "JPEG")
    Image.new("L", (9, 7), 8).save(labels, "PNG")
    top = "VOCdevkit/VOC2012"
    data = pack(
        {
            f"{top}/JPEGImages/x.jpg": photo.getvalue(),
            f"{top}/SegmentationClass/x.png": labels.getvalue(),
            f"{top}/ImageSets/Segmentation/train.txt": b"x\n",
        }
    )
    settings = {"root": tmp_path / "voc", "classes": ["background", "cat"], "ignore_index": 2}
    with Site(data, breaks=1) as site:
        source = VocFolder(**settings, download=True, url=site.url, md5=md5(data))
        source.check(["train"])
        asked = len(site.asked)
        VocFolder(**settings, download=True, url=site.url, md5=md5(data))
    assert len(site.asked) == asked == 2
    assert (source.read("train", 0)[1] == 1).all()


def test_of_several_at_a_time_one_downloads(tmp_path):
    data = pack({"a/b.txt": b"1" * 300_000})
    with Site(data) as site, ThreadPoolExecutor(3) as pool:  # each opens the lock's file anew, as a process does
        there = (tmp_path / "a" / "b.txt").exists
        jobs = [pool.submit(fetch_and_unpack, site.url, md5(data), tmp_path, there) for _ in range(3)]
        assert [job.result(60) for job in jobs] == [None] * 3
    assert len(site.asked) == 1 and (tmp_path / "a" / "b.txt").stat().st_size == 300_000
