"""Training and scoring: the LightningModule, its losses, metrics and callbacks."""

from seglab.task.calibration import TemperatureFit
from seglab.task.checkpoint_io import AtomicCheckpointIO, RunCheckpoint, WithinEpochCheckpoint
from seglab.task.early_stopping import EarlyStopping
from seglab.task.evaluation import EvaluationWriter
from seglab.task.fine_tuning import FineTuning
from seglab.task.losses import (
    BoundaryCrossEntropy,
    CrossEntropy,
    Dice,
    Focal,
    Lovasz,
    OhemCrossEntropy,
    WeightedSum,
)
from seglab.task.metrics_table import MetricsTable
from seglab.task.prediction_strips import PredictionStrips
from seglab.task.progress_bar import ProgressBar
from seglab.task.random_state import RandomState
from seglab.task.schedules import WarmupCosineLR, WarmupPolynomialLR
from seglab.task.segmentation import SegmentationTask
from seglab.task.throughput import Throughput, peak_memory
from seglab.task.weight_averaging import ExponentialMovingAverage, StochasticWeightAveraging

__all__ = [
    "AtomicCheckpointIO",
    "BoundaryCrossEntropy",
    "CrossEntropy",
    "Dice",
    "EarlyStopping",
    "EvaluationWriter",
    "ExponentialMovingAverage",
    "FineTuning",
    "Focal",
    "Lovasz",
    "MetricsTable",
    "OhemCrossEntropy",
    "PredictionStrips",
    "ProgressBar",
    "RandomState",
    "RunCheckpoint",
    "SegmentationTask",
    "StochasticWeightAveraging",
    "TemperatureFit",
    "Throughput",
    "WarmupCosineLR",
    "WarmupPolynomialLR",
    "WeightedSum",
    "WithinEpochCheckpoint",
    "peak_memory",
]
