"""What counts as a number where a user gives one: True and False do not, though Python takes them for 1 and 0."""

from typing import Any


def is_whole(value: Any) -> bool:
    """Returns whether a value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Returns whether a value is a number, whole or not."""
    return isinstance(value, int | float) and not isinstance(value, bool)
