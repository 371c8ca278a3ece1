"""Training and scoring: the LightningModule, its losses, metrics and callbacks."""

from seglab.task.checkpoint_io import AtomicCheckpointIO, RunCheckpoint, WithinEpochCheckpoint
from seglab.task.evaluation import EvaluationWriter
from seglab.task.losses import CrossEntropy
from seglab.task.metrics_table import MetricsTable
from seglab.task.prediction_strips import PredictionStrips
from seglab.task.random_state import RandomState
from seglab.task.segmentation import SegmentationTask
from seglab.task.throughput import Throughput, peak_memory

__all__ = [
    "AtomicCheckpointIO",
    "CrossEntropy",
    "EvaluationWriter",
    "MetricsTable",
    "PredictionStrips",
    "RandomState",
    "RunCheckpoint",
    "SegmentationTask",
    "Throughput",
    "WithinEpochCheckpoint",
    "peak_memory",
]
