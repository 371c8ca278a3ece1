"""Averages of weights, accumulated and clipped gradients, and stochastic depth, from the command line."""

import pytest
import torch
from conftest import SMALL_SHAPES
from hydra import compose, initialize_config_dir

from seglab.cli.build import build_datamodule, build_task, build_trainer
from seglab.cli.conf_groups import CONF
from seglab.cli.resolvers import register_resolvers

NETWORK = ["model=resunet6", "model.width=0.02", "model.encoder.widths=[8,8]", "model.decoder.widths=[8,8]"]
TINY = [*SMALL_SHAPES, "data.source.train=4", "data.source.val=2", "data.source.test=2", "data.crop_size=16"]
TINY += [*NETWORK, "logger=csv"]
GRADIENT = ["data=folder", "data.classes=[a,b,c]", "data.crop_size=16", "data.batch_size=4", "model.norm_layer=null"]
GRADIENT += ["optimizer=sgd", "optimizer.lr=1", "optimizer.momentum=0", "trainer.max_epochs=1"]
GRADIENT += ["+trainer.enable_progress_bar=false", "+trainer.enable_checkpointing=false"]


def flat(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.fixture
def gradient(tmp_path, folder, environment, monkeypatch):
    """Trains one step of learning rate 1 as a command line says; returns by what the weights moved, as a vector.

    Of four photographs of the same size, whose every pixel is scored.
    """
    monkeypatch.setenv("SEGLAB_CACHE_DIR", environment["SEGLAB_CACHE_DIR"])
    register_resolvers()
    for split, names in {"train": "p00 p01 p02 p03", "val": "p04", "test": "p05"}.items():
        (folder / f"{split}.txt").write_text(names.replace(" ", "\n"))

    def step(*words):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", [*NETWORK, *GRADIENT, f"data.root={folder}", f"run_dir={tmp_path}", *words])
        torch.manual_seed(0)
        task, datamodule = build_task(cfg, [0.5] * 3, [0.3] * 3, None), build_datamodule(cfg)
        before = flat(task.model)
        trainer = build_trainer(cfg, task.model, [], [])
        trainer.fit(task, datamodule=datamodule)
        assert trainer.global_step == 1
        return before - flat(task.model)

    return step


@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-5), ("bf16-mixed", 0.02)])
def test_two_batches_of_two_step_as_one_of_four_and_clipping_bounds_the_norm(gradient, precision, tolerance):
    whole = gradient(f"trainer.precision={precision}")
    accumulated = gradient(f"trainer.precision={precision}", "data.batch_size=2", "trainer.accumulate_grad_batches=2")
    assert (accumulated - whole).norm() < tolerance * whole.norm()
    clipped = gradient(f"trainer.precision={precision}", f"trainer.gradient_clip_val={whole.norm() / 4}")
    torch.testing.assert_close(clipped, whole / 4, rtol=1e-3, atol=1e-6)


def test_all_of_it_in_a_run_that_is_evaluated_and_lengthened(call, tmp_path):
    run = tmp_path / "run"
    words = ["averaging=ema", "scheduler=warmup_poly", "model.encoder.drop_path_rate=0.3", "data.batch_size=2"]
    words += ["trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=1", "trainer.max_epochs=2"]
    status, _, err = call("train", *TINY, *words, f"hydra.run.dir={run}")
    assert status == 0, err
    scores = (run / "evaluation" / "test" / "metrics.json").read_text()
    status, _, err = call("evaluate", f"run={run}")
    assert status == 0, err
    assert (run / "evaluation" / "test" / "metrics.json").read_text() == scores

    status, _, err = call("train", f"resume={run}", "averaging=none")
    assert status == 2 and "its checkpoints hold an average of weights" in err
    status, _, err = call("train", f"resume={run}", "trainer.max_epochs=3")
    assert status == 0, err
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 3 and last["lr_schedulers"][0]["total_steps"] == 3
    assert last["callbacks"]["ExponentialMovingAverage"]["average"]["n_averaged"] == 3


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches=0: give a whole number"),
        ("trainer.accumulate_grad_batches=1.5", "trainer.accumulate_grad_batches=1.5: give a whole number"),
        ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val=-1: give the largest norm"),
        ("trainer.gradient_clip_val=0", "trainer.gradient_clip_val=0: give the largest norm"),
        ("trainer.gradient_clip_val=true", "trainer.gradient_clip_val=True: give the largest norm"),
        ("model.encoder.drop_path_rate=1", "model.encoder: drop_path must be a probability below 1, got 1"),
        ("averaging.decay=2", "averaging.decay=2: give"),
        ("scheduler.warmup=1", "scheduler.warmup=1: give"),
    ],
)
def test_values_that_make_no_sense(call, tmp_path, word, said):
    words = [*TINY, "scheduler=warmup_cosine", "averaging=ema", f"hydra.run.dir={tmp_path / 'run'}"]
    status, _, err = call("train", *words, word)
    assert status == 2 and err.strip().splitlines()[-1].startswith(f"error: {said}"), err
    assert "Traceback" not in err and not (tmp_path / "run" / "checkpoints").exists()
