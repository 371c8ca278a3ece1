"""`seglab demo RUN ...`: a page in the browser that shows the classes of the photographs dropped on it."""

from seglab.cli.demo.command import main

__all__ = ["main"]
