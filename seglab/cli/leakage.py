"""Whether runs would be scored on images that they have learned."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig

from seglab.cli.run_folder import forbid_download, load_config, read_summary
from seglab.errors import InputError

if TYPE_CHECKING:
    from seglab.data.source import Source


def is_own_data(source: "Source", run: Path) -> bool:
    """Returns whether a dataset is the one that a run was trained on, split as it was, wherever it lies now."""
    try:
        return source.content_digest() == read_summary(run).get("data_fingerprint")
    except InputError:  # a file of a split that is not scored is not there
        return False


def refuse_changed_data(is_own: bool, run: Path, data: DictConfig) -> None:
    """Refuses to score a run anew on its dataset once that has changed, under the name of the scores before.

    Args:
        is_own: what `is_own_data` says of the dataset.
        run: the run's folder.
        data: the run's config of it; a dataset that is made has no folder to change in.

    Raises:
        InputError: It has changed.
    """
    if not is_own and "root" in data and "data_fingerprint" in read_summary(run):
        raise InputError(
            f"data.root={data.root} has changed since {run} was trained on it, files, labels or splits: put it back, "
            f"or give the word data.root={data.root} to score what is there now, under a name of its own"
        )


def warn_of_training_images(runs: Sequence[Path], source: "Source", split: str) -> None:
    """Says where another dataset has photographs that one of the runs was trained on.

    Args:
        runs: their folders.
        source: the other dataset.
        split: which of its images are scored.
    """
    places = {name: place for place, name in enumerate(source.names(split).tolist())}
    for run in runs:
        own = training_source(run)
        names = [] if own is None else own.names("train").tolist()
        for place, name in enumerate(names):
            if name in places and _same_photograph((own, "train", place), (source, split, places[name])):
                print(f"warning: {run} was trained on images that are scored here, {name} for one: the score flatters",
                      file=sys.stderr)  # fmt: skip
                break


def _same_photograph(*places: "tuple[Source, str, int]") -> bool:
    try:
        one, other = (source.read(split, place)[0] for source, split, place in places)
    except InputError:  # gone, or damaged
        return False
    return np.array_equal(one, other)


def training_source(run: Path) -> "Source | None":
    """Returns the dataset that a run was trained on, or None where that is not there any more."""
    data = load_config(run).data
    forbid_download(data)
    try:
        source = instantiate(data.source, _convert_="all")
        source.names("train")
    except (InputError, HydraException):
        return None
    return source


def refuse_training_images(runs: Sequence[Path], source: "Source", split: str) -> None:
    """Refuses a mean of runs on a split of the first one's dataset that another of them was trained on.

    Args:
        runs: their folders, the dataset being that of the first.
        source: that dataset.
        split: which of its images are scored.

    Raises:
        InputError: An image of that name was in the training split of a run.
    """
    scored = set(source.names(split).tolist())
    fingerprint = read_summary(runs[0]).get("data_fingerprint")
    for run in runs[1:]:
        if split == "train" or read_summary(run).get("data_fingerprint") == fingerprint:
            continue
        source_of_run = training_source(run)
        if source_of_run is None:
            print(f"warning: {run} had another dataset, which is not there: it may have learned this one's {split} "
                  "split", file=sys.stderr)  # fmt: skip
            continue
        if learned := sorted(scored.intersection(source_of_run.names("train").tolist())):
            raise InputError(
                f"{run} was trained on {len(learned)} of the {len(scored)} images of the {split} split of {runs[0]}, "
                f"{learned[0]} for one: leave it out, or score the mean on other images (data.root=PATH)"
            )
