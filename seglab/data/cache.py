"""Small results kept between runs, in one folder of the user's.

Losing an entry costs time and nothing else: a damaged entry counts as absent, and a folder that cannot be written gives
a warning.
"""

import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import platformdirs

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder that $SEGLAB_CACHE_DIR names, else the user's own cache folder; it need not exist yet."""
    return Path(os.environ.get("SEGLAB_CACHE_DIR") or platformdirs.user_cache_dir("seglab"))


def load_json(key: str) -> Any | None:
    """The value stored under `key`, or None."""
    try:
        return json.loads((cache_folder() / f"{key}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def store_json(key: str, value: Any) -> None:
    """Store a value of plain containers under `key`."""
    _store(f"{key}.json", lambda file: file.write(json.dumps(value).encode()))


def load_arrays(key: str) -> dict[str, np.ndarray] | None:
    """The arrays stored under `key`, or None."""
    try:
        with open(cache_folder() / f"{key}.npz", "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception:  # of many kinds: a damaged entry may fail in the archive, its compression or an array's header
        return None


def store_arrays(key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Store named arrays under `key`."""
    _store(f"{key}.npz", lambda file: np.savez_compressed(file, **arrays))


def _store(name: str, write: Callable[[IO[bytes]], Any]) -> None:
    path = cache_folder() / name
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
            temporary = file.name
            write(file)
        os.replace(temporary, path)  # a reader sees the whole entry or none
    except OSError as error:
        _log.warning("%s cannot be written (%s): set SEGLAB_CACHE_DIR to a folder that can be", path, error)
        if temporary:
            Path(temporary).unlink(missing_ok=True)
