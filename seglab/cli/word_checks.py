"""Mistakes in the words of a command line, which the composed config does not show."""

from collections.abc import Sequence
from functools import lru_cache

from hydra import compose
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seglab.cli.conf_groups import CONF
from seglab.cli.mistakes import hint
from seglab.cli.run_folder import resolved
from seglab.errors import InputError
from seglab.lab.result_config import config_of_result, flat
from seglab.numeric import is_number

_OR_A_WORD = ("trainer.devices", "trainer.deterministic")  # keys whose number, true or false may be a word, too


def check_words(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuses what `check_without`, `check_kinds` and `check_added` refuse.

    Raises:
        InputError: The first of these.
    """
    check_without(cfg, overrides)
    check_kinds(cfg, overrides)
    check_added(cfg, overrides)


def check_kinds(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuses a word where the config has a number, and what is neither true nor false where it has one of these.

    Args:
        cfg: The composed config.
        overrides: The words of the command line that it was composed of.

    Raises:
        InputError: Naming every such key.
    """
    own = [word.split("=", 1)[0].lstrip("+") for word in overrides]
    groups = {key for key in own if (CONF / key).is_dir()}
    choices = tuple(word for word, key in zip(overrides, own, strict=True) if key in groups)
    keys = [key for key in own if key not in groups and key not in _OR_A_WORD]
    values = {key: OmegaConf.select(cfg, key, throw_on_missing=False) for key in keys}
    suspects = {key: value for key, value in values.items() if value is not None}
    before = _without_values(choices) if suspects else None
    faults = []
    for key, value in suspects.items():
        try:
            default = OmegaConf.select(before, key, throw_on_missing=False)
        except OmegaConfBaseException:  # it hangs on a key that has no default
            continue
        if is_number(default) and not is_number(value):
            faults.append(f"{key}={value}: give a number, such as {default}")
        elif isinstance(default, bool) and not isinstance(value, bool):
            faults.append(f"{key}={value}: give true or false")
    if faults:
        raise InputError("\n".join(faults))


@lru_cache(maxsize=8)  # a tenth of a second, and jobs of a sweep have few choices among them
def _without_values(choices: tuple[str, ...]) -> DictConfig:
    """Returns the config of these choices alone; it is not to be changed."""
    return compose("train", list(choices))


def check_added(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuses a key that + adds where nothing reads it.

    A part, which has a `_target_`, refuses what it does not take when it is built; elsewhere a mistyped key would
    change nothing.

    Args:
        cfg: The composed config.
        overrides: The words of the command line that it was composed of.

    Raises:
        InputError: Naming the first such key.
    """
    for word in overrides:
        key = word.partition("=")[0].lstrip("+")
        if not word.startswith("+") or (CONF / key.partition("@")[0]).is_dir():
            continue
        names = key.split(".")
        above = [OmegaConf.select(cfg, ".".join(names[:count])) for count in range(1, len(names) + 1)]
        if any(isinstance(node, DictConfig) and "_target_" in node for node in above):
            continue
        before = flat(OmegaConf.to_container(compose("train", [other for other in overrides if other != word])))
        if not any(f"{key}.".startswith(f"{known}.") for known, value in before.items() if value != {}):
            raise InputError(f"{word}: nothing reads such a key; {hint(key, 'train')}leave it out")


def check_without(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuses a part of an ablation that is not there, or that other words set again: the run is not what it is called.

    Args:
        cfg: The composed config.
        overrides: The words of the command line that it was composed of.

    Raises:
        InputError: Naming the first of these.
    """
    words = dict(word.lstrip("+~").partition("=")[::2] for word in overrides)
    path = CONF / "without" / f"{words.get('without')}.yaml"
    if not path.is_file():
        return
    part = OmegaConf.to_container(OmegaConf.load(path))
    groups = [key.removeprefix("override /") for entry in part.pop("defaults", []) for key in entry]
    keys = set(flat(part)) if part else set()
    for key, value in words.items():
        if any(f"{key}.".startswith(f"{taken}.") for taken in (*groups, *keys)):
            raise InputError(f"without={path.stem} takes out what {key}={value} sets: leave one of them out")
    whole = compose("train", [word for word in overrides if not word.startswith("without=")])
    whole.run_dir = cfg.run_dir
    before = resolved(whole)
    known = [f"{key}." for key in flat(before)]
    absent = not all(any(key.startswith(f"{taken}.") for key in known) for taken in keys)
    absent = absent or config_of_result(before) == config_of_result(resolved(cfg))
    if path.stem != "nothing" and absent:
        raise InputError(f"without={path.stem} takes nothing out of this config, which has no such part: leave it out")
