"""Whether a mean of runs would be scored on images that one of them has learned."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.errors import HydraException
from hydra.utils import instantiate

from seglab.cli.run_folder import forbid_download, load_config, read_summary
from seglab.errors import InputError

if TYPE_CHECKING:
    from seglab.data.source import Source


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
    own = read_summary(runs[0]).get("data_fingerprint")
    for run in runs[1:]:
        if split == "train" or read_summary(run).get("data_fingerprint") == own:
            continue
        data = load_config(run).data
        forbid_download(data)
        try:
            trained = set(instantiate(data.source, _convert_="all").names("train").tolist())
        except (InputError, HydraException):
            print(f"warning: {run} had another dataset, which is not there: it may have learned this one's {split} "
                  "split", file=sys.stderr)  # fmt: skip
            continue
        if learned := sorted(scored & trained):
            raise InputError(
                f"{run} was trained on {len(learned)} of the {len(scored)} images of the {split} split of {runs[0]}, "
                f"{learned[0]} for one: leave it out, or score the mean on other images (data.root=PATH)"
            )
