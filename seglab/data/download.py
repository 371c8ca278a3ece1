"""Downloading a data set: resumed where it broke off, checked by its checksum, unpacked safely."""

import os
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pooch
import requests
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from seglab.errors import InputError

VOC2012_URL = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
VOC2012_MD5 = "6cd6e144f989b92b3379bac3b3de84fd"

_ATTEMPTS = 4
_TIMEOUT = 30  # seconds without a byte


def fetch_and_unpack(url: str, md5: str, folder: Path, is_there: Callable[[], bool] = lambda: False) -> None:
    """Download a tar archive into `folder` and unpack it there; the archive stays beside what it held.

    A complete archive that is already there is used as it is: it can be brought by hand to a machine without network.
    Of several processes one does it; the others wait, and find it done.

    Args:
        url: address of the archive.
        md5: its checksum.
        folder: where it goes; made if need be.
        is_there: whether what it holds is there, asked when no other process is at it.

    Raises:
        InputError: if the download fails, its checksum is wrong, or the archive holds what must not be unpacked.
    """
    archive = folder / url.rsplit("/", 1)[-1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{archive}.lock"):
            if not is_there():
                _fetch(url, md5, archive)
                _unpack(archive, folder)
    except OSError as error:
        raise InputError(f"{folder}: the download cannot be written ({error}); give another data.root") from None


def _fetch(url: str, md5: str, archive: Path) -> None:
    try:
        pooch.retrieve(url, f"md5:{md5}", archive.name, archive.parent, downloader=_ResumingDownloader(archive))
    except requests.RequestException as error:
        raise InputError(
            f"{url}: the download failed ({error}); start again and it goes on where it stopped, "
            f"or put the archive at {archive} yourself"
        ) from None
    except ValueError as error:  # pooch's wrong checksum
        raise InputError(f"{url}: {error}; start again, or put the right archive at {archive}") from None


class _ResumingDownloader:
    """A downloader for pooch that keeps what has arrived in `<archive>.part` and asks for the rest."""

    def __init__(self, archive: Path) -> None:
        self.part = archive.with_name(f"{archive.name}.part")

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        console = Console(stderr=True)
        with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task(f"downloading {url.rsplit('/', 1)[-1]}", total=None)
            failures = 0  # in a row, without a byte gained
            while True:
                before = self._have()
                try:
                    self._fetch_rest(url, lambda have, total: progress.update(task, completed=have, total=total))
                    break
                except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                    failures = 0 if self._have() > before else failures + 1
                    if failures == _ATTEMPTS:
                        raise
                    time.sleep(failures)
        os.replace(self.part, output_file)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _fetch_rest(self, url: str, report: Callable[[int, int | None], None]) -> None:
        have = self._have()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == 416:  # nothing is left to ask for, or the archive has changed
                if response.headers.get("Content-Range") == f"bytes */{have}":
                    return
                self.part.unlink()
                raise requests.ConnectionError("the archive has changed since the download began")
            response.raise_for_status()
            if response.status_code != 206:
                have = 0  # the server sends all of it again
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            with open(self.part, "ab" if have else "wb") as file:
                for chunk in response.iter_content(1 << 18):
                    file.write(chunk)
                    have += len(chunk)
                    report(have, total)
            if total is not None and have < total:
                raise requests.ConnectionError(f"{have} of {total} bytes arrived")


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack beside the archive, then move in place: half a data set is never taken for all of it."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as temporary:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(temporary, filter="data")
        except tarfile.FilterError as error:
            raise InputError(f"{archive}: refused to unpack it ({error}); get the archive from its publisher") from None
        except (tarfile.TarError, EOFError) as error:
            raise InputError(f"{archive}: is not a tar archive that can be read ({error}); download it again") from None
        except OSError as error:
            raise InputError(f"{folder}: cannot be unpacked into ({error}); make room or give another folder") from None
        for entry in Path(temporary).iterdir():
            _merge(entry, folder / entry.name)


def _merge(source: Path, target: Path) -> None:
    """Move a file or folder; into a folder of that name, entry by entry."""
    if source.is_dir() and target.is_dir():
        for entry in source.iterdir():
            _merge(entry, target / entry.name)
    else:
        os.replace(source, target)
