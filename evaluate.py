"""Scores a run folder again: see `python evaluate.py --help`."""

from seglab.cli.main import evaluate

if __name__ == "__main__":
    evaluate()
