"""From files to samples: layouts, label table, crops, augmentation, statistics and the datamodule."""

from seglab.data.augment import Augmentation
from seglab.data.datamodule import SegmentationDataModule
from seglab.data.folder import ImageFolder
from seglab.data.mix import ClassMix, CopyPaste, CutMix
from seglab.data.shapes import Shapes
from seglab.data.train_samples import TrainSamples
from seglab.data.voc import VocFolder

__all__ = [
    "Augmentation",
    "ClassMix",
    "CopyPaste",
    "CutMix",
    "ImageFolder",
    "SegmentationDataModule",
    "Shapes",
    "TrainSamples",
    "VocFolder",
]
