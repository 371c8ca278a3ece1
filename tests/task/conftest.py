from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from datamodules import make_datamodule
from pytorch_lightning.callbacks import Checkpoint

from seglab.data.augment import Augmentation
from seglab.data.shapes import Shapes
from seglab.models import ConvDecoder, ConvEncoder, Segmenter
from seglab.task import AtomicCheckpointIO, CrossEntropy, SegmentationTask


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A cache of the test's own, and one thread, so that sums have one order."""
    monkeypatch.setenv("SEGLAB_CACHE_DIR", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_data():
    def make(train=8, val=7, test=5, size=24, **kwargs):
        defaults = {"crop_size": size, "batch_size": 4, "augment": Augmentation([], 9)}
        return make_datamodule(Shapes(size=size, train=train, val=val, test=test), **defaults | kwargs)

    return make


@pytest.fixture
def make_task():
    def make(num_classes=9, lr=3e-3, loss=None, **kwargs):
        torch.manual_seed(0)
        encoder = ConvEncoder([8, 16])
        decoder = ConvDecoder(encoder.channels, encoder.strides, [16, 8])
        model = Segmenter(encoder, decoder, num_classes, dropout=0.1)
        optimizer = partial(torch.optim.Adam, lr=lr)
        return SegmentationTask(model, loss or CrossEntropy(9), Shapes.class_names, 9, optimizer, **kwargs)

    return make


@pytest.fixture
def make_trainer(tmp_path):
    def make(callbacks=(), max_epochs=1, **kwargs):
        defaults = {
            "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
            "plugins": [AtomicCheckpointIO()],
            "num_sanity_val_steps": 1,
        }
        return pl.Trainer(
            max_epochs=max_epochs,
            accelerator="cpu",
            callbacks=list(callbacks),
            default_root_dir=tmp_path,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            **defaults | kwargs,
        )

    return make
