"""The small functions that the config files call as ${name:...}."""

import secrets
import string
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from seglab.cli.conf_groups import all_choices
from seglab.errors import InputError


def register_resolvers() -> None:
    """Makes length, names, either, share, letters and choices known to OmegaConf; calling it twice does no harm."""
    OmegaConf.register_new_resolver("choices", all_choices, replace=True)
    OmegaConf.register_new_resolver("length", len, replace=True)
    OmegaConf.register_new_resolver("names", names, replace=True)
    OmegaConf.register_new_resolver("either", either, replace=True)
    OmegaConf.register_new_resolver("share", share, replace=True)
    OmegaConf.register_new_resolver("letters", letters, use_cache=True, replace=True)


def names(classes: Mapping[str, Any] | Sequence[str]) -> ListConfig:
    """Returns class names given as a list, or as a table of name: raw value.

    Raises:
        InputError: They are neither.
    """
    if not isinstance(classes, ListConfig | DictConfig):
        example = classes if isinstance(classes, str) else "cat"
        raise InputError(
            f"data.classes={classes}: give a list of names, '[background,{example}]', or a table with their label "
            f"values, '{{background: 0, {example}: 1}}'"
        )
    return OmegaConf.create([str(name) for name in classes])


def either(value: Any, default: Any) -> Any:
    """Returns the value, or the default where it is null."""
    return default if value is None else value


def share(part: float, whole: int) -> int:
    """Returns a part, in [0, 1], of a whole number, rounded."""
    return round(part * whole)


def letters(count: int) -> str:
    """Returns random lower-case letters, so that two runs of one second get two folders."""
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(count))
