"""What the commands on a dataset share: their command line, and the training config that it composes."""

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from seglab.cli.command_line import CommandParser
from seglab.cli.conf_groups import CONF
from seglab.cli.mistakes import refuse_words
from seglab.cli.resolvers import register_resolvers
from seglab.cli.word_checks import check_kinds
from seglab.errors import InputError

KEYS = """\
keys, the same as for train.py:
  data={choices}
  data.root=PATH          the folder of the dataset
  data.resize=PIXELS      shorter side that each image is brought to; null, the default, keeps its size
  data.crop_size=PIXELS   side of a crop
{more}Any other key of the config is taken, too: data.classes=[...], data.other=background, data.download=true ...

example:
  {example}
"""


class DataParser(CommandParser):
    """Takes config overrides among its own options."""

    def __init__(self, command: str, description: str, example: str, more_keys: str = "") -> None:
        """Describes the command.

        Args:
            command: The word behind `seglab`.
            description: What it does.
            example: A command line to begin with.
            more_keys: Lines on the keys that matter to this command alone, each ended.
        """
        choices = "|".join(sorted(path.stem for path in (CONF / "data").glob("*.yaml") if path.stem != "base"))
        super().__init__(command, description, KEYS.format(choices=choices, more=more_keys, example=example))
        self.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="config keys, see below")


def compose_data(overrides: list[str]) -> DictConfig:
    """Returns the training config with these overrides.

    Raises:
        InputError: A word is no override or of another kind than its key, or a key that the dataset needs is not given.
    """
    for word in overrides:
        if "=" not in word and not word.startswith("~"):
            raise InputError(f"{word} is no key of the config: write KEY=VALUE, as in data=voc9 data.root=PATH")
    refuse_words(overrides, "train")
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides)
        check_kinds(cfg, overrides)
    if missing := [f"data.{key}" for key, value in cfg.data.items_ex(resolve=False) if value == "???"]:
        raise InputError(f"{' and '.join(missing)} must be given: add {' '.join(f'{key}=VALUE' for key in missing)}")
    return cfg
