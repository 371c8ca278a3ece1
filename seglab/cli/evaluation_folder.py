"""Where an evaluation goes: its split's name below RUN/evaluation, followed by whatever differs from the run's own."""

import hashlib
import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from seglab.cli.network_options import OVERLAP


def several(value: Any) -> list[str]:
    """Returns the values of a key that takes one or a list."""
    return [str(each) for each in value] if isinstance(value, list | tuple | ListConfig) else [str(value)]


def inference_settings(runs: Sequence[Path], options: Namespace | DictConfig) -> dict[str, Any]:
    """Returns what differs from one pass of whole images through a run's best checkpoint; empty if nothing does.

    Args:
        runs: the folders of the runs, whose mean is taken.
        options: checkpoint, flip, scales, window and overlap.
    """
    checkpoints, scales = several(options.checkpoint), list(options.scales)
    found = {
        "checkpoint": checkpoints if checkpoints != ["best"] else None,
        "runs": [str(run.resolve()) for run in runs] if len(runs) > 1 else None,
        "flip": options.flip or None,
        "scales": scales if scales != [1] else None,
        "window": options.window or None,
        "overlap": options.overlap if options.window and options.overlap != OVERLAP else None,
    }
    return {key: value for key, value in found.items() if value is not None}


def settings_name(settings: dict[str, Any]) -> Iterator[str]:
    """Yields words for `inference_settings`; a mean has some digits of where its runs lie from the first one on."""
    for key, value in settings.items():
        match key:
            case "checkpoint":
                yield from (each if each in ("best", "last") else _name_of_file(Path(each)) for each in value)
            case "runs":
                beside = (os.path.relpath(run, Path(value[0]).parent) for run in value)  # the same once all are moved
                yield f"mean-of-{len(value)}-{_digits(*sorted(beside))}"
            case "flip":
                yield "flip"
            case "data":
                yield value
            case "scales":
                yield "-".join(["scales", *(f"{scale:g}" for scale in value)])
            case _:
                yield f"{key}-{value}"


def name_of_folder(folder: Path, splits: Any = None) -> str:
    """Returns a dataset's folder's name with some digits of where it is, and of its splits where they are given."""
    words = [str(folder.resolve()), *([] if splits is None else [str(splits)])]
    return f"{folder.resolve().name}-{_digits(*words)}"


def _name_of_file(path: Path) -> str:
    return f"{path.stem}-{_digits(str(path.resolve()))}"


def _digits(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:6]
