"""A laboratory for semantic segmentation of photographs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seglab.cli.network import Network

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations asks the network for updates at import

__version__ = "0.1.0"


def load(
    *runs: str | Path,
    checkpoint: str | Sequence[str] = "best",
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    window: int | None = 1024,
    overlap: float = 0.5,
    temperature: str | float | None = None,
    device: str = "auto",
) -> "Network":
    """Loads a trained network, or the mean of several, to predict photographs with: what `seglab predict` does.

    Args:
        runs: the folder of a run, or of several of the same classes.
        checkpoint: best, last or a path; of several the mean is taken.
        flip: whether the mirrored photograph counts, too.
        scales: factors of the photograph's size, over which the mean is taken.
        window: side in pixels of the windows that larger photographs go through in; None for whole ones.
        overlap: share of a window's side that it has in common with the next, at least.
        temperature: divides the logits where they become probabilities; "fitted" for what evaluate.py has found.
        device: auto, cpu, cuda, cuda:1 and so on.

    Returns:
        A network whose `predict(image)` gives the classes uint8 (h, w) of an image uint8 (h, w, 3), and whose
        `class_names` names them.

    Raises:
        InputError: There is no such run, checkpoint or device, or the runs do not go together.
    """
    from argparse import Namespace

    from seglab.cli.network import load_network
    from seglab.errors import InputError

    if not runs:
        raise InputError("seglab.load() names no run: give the folder of one, or of several")
    options = Namespace(checkpoint=checkpoint, flip=flip, scales=scales, window=window, overlap=overlap, device=device)
    return load_network([Path(run) for run in runs], options, temperature)
