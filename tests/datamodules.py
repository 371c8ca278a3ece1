"""Datamodules from keys, as the command line gives them."""

from dataclasses import fields

from seglab.data import SegmentationDataModule, TrainSamples


def make_datamodule(source, **options):
    """A datamodule whose training samples take those of the options that are theirs."""
    own = {field.name: options.pop(field.name) for field in fields(TrainSamples) if field.name in options}
    return SegmentationDataModule(source, TrainSamples(**own), **options)
