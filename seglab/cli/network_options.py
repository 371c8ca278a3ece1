"""The options of every command that predicts photographs: checkpoint, test-time augmentation, windows, device."""

from argparse import ArgumentTypeError
from collections.abc import Sequence

from seglab.cli.command_line import CommandParser
from seglab.errors import InputError
from seglab.numeric import is_number

WINDOW = 1024
LARGEST_SCALE = 8
OVERLAP = 0.5  # of windows, where none is given


def add_network_options(parser: CommandParser) -> None:
    """Adds what `load_network` reads."""
    parser.add_argument("--checkpoint", default="best", type=lambda word: word.split(","),
                        help="best (default), last or a path; several between commas are their mean")  # fmt: skip
    parser.add_argument("--flip", action="store_true", help="mean with the mirrored photograph")
    parser.add_argument("--scales", type=factors, default=(1.0,), help="mean over these sizes, such as 0.75,1,1.25 (1)")
    parser.add_argument("--window", type=int, default=WINDOW, metavar="PIXELS", help="larger photographs go through in "
                        f"windows of this side, which bounds the memory ({WINDOW}); 0: always whole")  # fmt: skip
    parser.add_argument("--overlap", type=float, default=OVERLAP, metavar="SHARE",
                        help=f"of neighbouring windows ({OVERLAP})")  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1 ...")


def check_scales(scales: Sequence[float]) -> None:
    """Refuses what no photograph is resized by.

    Raises:
        InputError: One is no factor, or there is none.
    """
    is_list = isinstance(scales, Sequence) and not isinstance(scales, str)
    if not is_list or not scales or not all(is_number(scale) and 0 < scale <= LARGEST_SCALE for scale in scales):
        raise InputError(f"scales={scales}: give factors above 0 and up to {LARGEST_SCALE}, such as [0.75,1,1.25]")


def factors(word: str) -> tuple[float, ...]:
    """Returns numbers between commas.

    Raises:
        ArgumentTypeError: One of them is no factor.
    """
    try:
        values = tuple(map(float, word.split(",")))
    except ValueError:
        values = ()
    if not values or not all(0 < value <= LARGEST_SCALE for value in values):
        raise ArgumentTypeError(
            f"{word} are no factors: give numbers above 0 and up to {LARGEST_SCALE}, such as 0.75,1,1.25"
        )
    return values
