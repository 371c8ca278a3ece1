"""Text files that whoever is cut while writing leaves whole."""

import os
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Writes a file over an older one as a whole, and to the disk: what stays after a power cut is one of both.

    Line ends are written as they are.

    Raises:
        OSError: It cannot be written; the older one stays.
    """
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
