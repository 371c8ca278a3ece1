"""The one exception for a user's mistake."""


class InputError(Exception):
    """A mistake in what the user gave: a file, a key or a value.

    The message is shown without a stack trace, so it names the file, key or value, says what is wrong with it and what
    to do. Several faults stand in one message, a line each.
    """
