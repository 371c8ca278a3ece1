"""`python -m seglab COMMAND` is `seglab COMMAND`."""

from seglab.cli.main import main

main()
