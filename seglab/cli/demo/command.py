"""The command line of `seglab demo`: listens, loads the network, opens the browser, and predicts until Ctrl-C."""

import os
import socket
import sys
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from seglab.cli.command_line import CommandParser
from seglab.cli.mistakes import told_in_a_line
from seglab.cli.network_options import add_network_options
from seglab.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from seglab.data.source import Source

DESCRIPTION = """\
Serves a page to drop photographs on: each is shown with its classes laid over, the area of each class, and a slider
for the opacity; mask and overlay can be saved. The classes are those of a run's best checkpoint, or of the mean of
several runs, as `seglab predict` writes them.

The page needs no network and is served to this machine alone; photographs stay in memory, nothing is written."""
EXAMPLES = """\
examples:
  seglab demo runs/2026-01-31/12-00-00-abcdef
  seglab demo RUN RUN RUN --flip --scales 0.75,1,1.25
  seglab demo RUN --port 0 --no-browser

Ctrl-C ends it.
"""
HOST, PORT = "127.0.0.1", 7860
NUM_EXAMPLES = 8


def main() -> None:
    """Runs the command line; a user's mistake ends in one line and status 2."""
    with told_in_a_line("train"):
        demo(parser().parse_intermixed_args())


def parser() -> CommandParser:
    """Returns the command's options."""
    made = CommandParser("demo", DESCRIPTION, EXAMPLES)
    made.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder; several of the same classes: mean")
    made.add_argument("--port", type=int, default=PORT, help=f"of the page's address ({PORT}); 0: any that is free")
    made.add_argument("--host", default=HOST, help=f"who is served: {HOST} (default) this machine alone, 0.0.0.0 "
                      "everyone who reaches it, without a password")  # fmt: skip
    made.add_argument("--no-browser", action="store_true", help="open no browser")
    add_network_options(made)
    return made


def demo(arguments: Namespace) -> None:
    """Serves the page until Ctrl-C.

    Raises:
        InputError: The address cannot be had, a run cannot be loaded, or the runs do not go together.
    """
    with listen(arguments.host, arguments.port) as listener:
        from seglab.cli.demo.server import Page, serve
        from seglab.cli.network import load_network
        from seglab.cli.run_folder import shown

        network = load_network(arguments.runs, arguments)
        page = Page(
            network,
            title=", ".join(shown(run.resolve()) for run in arguments.runs),
            examples=find_examples(arguments.runs[0]),
            hosts=[HOST, "localhost"] if arguments.host in (HOST, "localhost") else None,
        )
        serve(page, listener)
        host, port = listener.getsockname()
        address = f"http://{HOST if host == '0.0.0.0' else host}:{port}"
        print(f"Ctrl-C ends it; open in a browser: {address}", flush=True)
        if not arguments.no_browser:
            open_browser(address)
        page.predict_forever()


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens, so that an address that cannot be had is known before anything is loaded.

    Raises:
        InputError: It cannot be had.
    """
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error).split(" (while")[0]  # it repeats the address
        raise InputError(
            f"{host}:{port} cannot be listened on ({reason}): give another --port, 0 for any that is free, or --host"
        ) from None


def find_examples(run: Path) -> "dict[str, Callable[[], np.ndarray]]":
    """Returns what reads some of a run's test images; nothing, with a warning, where the dataset is not there."""
    import numpy as np
    from hydra.errors import HydraException

    from seglab.cli.mistakes import explain
    from seglab.cli.report import source_of
    from seglab.cli.run_folder import forbid_download, load_config

    data = load_config(run).data
    forbid_download(data)
    try:
        source, places = source_of(data, "test")
    except (InputError, HydraException) as error:
        print(f"warning: no examples are shown, since the dataset is not there ({explain(error, 'train')})",
              file=sys.stderr)  # fmt: skip
        return {}
    names = list(places)
    picked = np.linspace(0, len(names) - 1, min(NUM_EXAMPLES, len(names))).round().astype(int)
    return {names[i]: partial(read_example, source, places[names[i]]) for i in picked}


def read_example(source: "Source", place: int) -> "np.ndarray":
    """Returns a test image uint8 (h, w, 3).

    Raises:
        InputError: It cannot be read any more.
    """
    return source.read("test", place)[0]


def open_browser(address: str) -> None:
    """Opens the page, but not in a browser of the terminal, which would take it from the command."""
    import webbrowser

    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(address)
