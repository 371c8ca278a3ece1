"""A training of two processes that is cut inside an epoch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIT = """
import json, sys
from functools import partial

import pytorch_lightning as pl
import torch
from cut import Cut
from datamodules import make_datamodule
from seglab.data.augment import Augmentation
from seglab.data.shapes import Shapes
from seglab.models import ConvDecoder, ConvEncoder, Segmenter
from seglab.task import CrossEntropy, RandomState, SegmentationTask

torch.set_num_threads(1)


def fit(callbacks, **kwargs):
    torch.manual_seed(0)
    encoder = ConvEncoder([8, 16])
    model = Segmenter(encoder, ConvDecoder(encoder.channels, encoder.strides, [16, 8]), 9, dropout=0.2)
    task = SegmentationTask(model, CrossEntropy(9), Shapes.class_names, 9, partial(torch.optim.Adam, lr=0.01))
    scenes, augment = Shapes(size=24, train=12, val=5, test=1), Augmentation([], 9)
    data = make_datamodule(scenes, crop_size=24, batch_size=2, augment=augment)
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", devices=2, strategy="ddp_fork", callbacks=[RandomState(), *callbacks],
        logger=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(task, datamodule=data, **kwargs)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


uncut = fit([Cut("cut.ckpt", 4)])  # three steps an epoch
print(json.dumps([uncut, fit([], ckpt_path="cut.ckpt")]))
"""


def test_two_processes_go_on_inside_an_epoch_with_the_sums_of_both(environment, tmp_path):
    variables = environment | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FIT]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    uncut, resumed = json.loads(done.stdout.splitlines()[-1])
    assert {"train/loss", "train/miou", "val/loss", "val/miou"} <= set(uncut)
    assert resumed == pytest.approx(uncut, rel=1e-6, nan_ok=True)
