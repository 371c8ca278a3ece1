"""Every rung of the ladder trains two batches and validates one, at its full widths."""

import gc
import math

import pytest
import pytorch_lightning as pl
from hydra import compose, initialize_config_dir

from seglab.cli.build import build_callbacks, build_datamodule, build_task, build_trainer
from seglab.cli.build_loss import class_weights
from seglab.cli.conf_groups import CONF
from seglab.cli.resolvers import register_resolvers

RUNGS = sorted(path.stem for path in (CONF / "experiment").glob("phase*.yaml"))
# Crops of one deepest pixel and two images, since the widest networks have 340 million parameters.
SMALL = ["data.source.train=4", "data.source.val=2", "data.source.test=2", "data.crop_size=64", "data.batch_size=2"]
SHORT = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1"]
SHORT += ["trainer.num_sanity_val_steps=0"]
NO_FILES = ["callbacks.best=null", "callbacks.last=null", "callbacks.last_within_epoch=null", "callbacks.progress=null"]


@pytest.mark.parametrize("rung", RUNGS)
def test_rung_trains_and_validates(rung, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGLAB_CACHE_DIR", str(tmp_path))
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        words = [f"experiment={rung}", *SMALL, *SHORT, *NO_FILES, f"run_dir={tmp_path}", "trainer.accelerator=cpu"]
        cfg = compose("train", [*words, "callbacks.strips=null", "+trainer.enable_progress_bar=false"])
    pl.seed_everything(cfg.seed, verbose=False)
    datamodule = build_datamodule(cfg)
    statistics = datamodule.statistics
    mean, std = (statistics.mean, statistics.std) if cfg.data.normalize else ((0, 0, 0), (1, 1, 1))
    task = build_task(cfg, mean, std, class_weights(cfg, datamodule))
    trainer = build_trainer(cfg, task.model, build_callbacks(cfg), [])
    trainer.fit(task, datamodule=datamodule)
    assert trainer.global_step == 2
    scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert math.isfinite(scores["train/loss"]) and math.isfinite(scores["val/loss"])
    assert 0 <= scores["val/miou"] <= 1
    assert (tmp_path / "metrics.csv").read_text().count("\n") == 2
    del task, trainer
    gc.collect()
