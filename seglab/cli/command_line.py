"""What every command line of seglab shares: its errors are one line, and values are quoted as Hydra reads them."""

import argparse
import difflib
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Never

from seglab.errors import InputError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

_PLAIN = re.compile(r"[./]*[A-Za-z_][\w/.-]*", re.ASCII)  # what Hydra reads as text without quotes
_OF_ANOTHER_KIND = {"null", "true", "false", "nan", "inf"}


class CommandParser(argparse.ArgumentParser):
    """The options of `seglab COMMAND`, never abbreviated; its errors are one line, like any other mistake."""

    def __init__(self, command: str, description: str, epilog: str | None = None, **options: Any) -> None:
        """Describes the command.

        Args:
            command: The words behind `seglab`.
            description: What it does.
            epilog: Keys and examples; where there are any, the lines stay as they are written.
            options: of argparse's parser.
        """
        if epilog is not None:
            options["formatter_class"] = argparse.RawDescriptionHelpFormatter
        super().__init__(f"seglab {command}", description=description, epilog=epilog, allow_abbrev=False, **options)

    def error(self, message: str) -> Never:
        """Raises what argparse would print behind its usage.

        Raises:
            InputError: Always.
        """
        raise InputError(f"{message}; `{self.prog} --help` says more")


def positive(word: str) -> int:
    """Returns a whole number above zero.

    Raises:
        ArgumentTypeError: It is none.
    """
    if not word.isdecimal() or not int(word):
        raise argparse.ArgumentTypeError(f"{word} is not a whole number above 0")
    return int(word)


def did_you_mean(word: str, valid: Iterable[str], count: int = 1) -> str:
    """Returns `did you mean X? ` for a mistyped word, with so many of the nearest valid ones, or nothing."""
    near = difflib.get_close_matches(word, list(valid), n=count)
    return f"did you mean {' or '.join(near)}? " if near else ""


def parse_values(values: Mapping[str, Any]) -> "dict[str, Override]":
    """Returns what a config lists for each key, parsed as on the command line."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return {key: OverridesParser.create().parse_override(f"{key}={text}") for key, text in values.items()}


def quoted(value: str) -> str:
    """Returns a text as Hydra's command line reads it back, in quotes where it needs them."""
    if _PLAIN.fullmatch(value) and value.lower() not in _OF_ANOTHER_KIND:
        return value
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', value)  # Hydra: a backslash counts only before a quote, or at the end
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f'"{escaped}"'


def typed(key: str, value: Any) -> str:
    """Returns KEY=VALUE as a user types it: a shell and then Hydra read the value back, be it a list, too."""
    return shlex.quote(f"{key}={_written(value)}")


def _written(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return str(value).lower() if isinstance(value, bool | int | float) else quoted(value)
