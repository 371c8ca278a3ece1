"""What the commands on a dataset share: the composed `data` group and the datamodule on it."""

import argparse

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from seglab.cli.mistakes import CONF
from seglab.cli.resolvers import register_resolvers


def parser(description: str) -> argparse.ArgumentParser:
    """Returns an argument parser that takes config overrides behind its own options."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="config keys as for train.py: data=voc9 data.root=PATH data.crop=five ...",
    )
    return result


def compose_data(overrides: list[str]) -> DictConfig:
    """Returns the training config with these overrides."""
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides)
    return cfg
