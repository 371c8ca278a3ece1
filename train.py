"""Trains a network, tests it and writes its run folder: see `python train.py --help`."""

from seglab.cli.main import train

if __name__ == "__main__":
    train()
