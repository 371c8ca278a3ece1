"""`python -m seglab COMMAND` is `seglab COMMAND`."""

from seglab.cli.main import main

__spec__ = None  # so that Lightning starts its other processes from train.py and not from here
main()
