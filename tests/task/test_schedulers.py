"""The learning rate: one step an epoch, also on a plateau and on resuming."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint


def last(folder):
    return ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)


class Rates(pl.Callback):
    """Notes the learning rate of each epoch and what the scheduler counts."""

    def __init__(self):
        self.rates, self.steps = [], []

    def on_train_epoch_start(self, trainer, task):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_end(self, trainer, task):
        if not trainer.sanity_checking:
            self.steps.append(task.lr_schedulers().last_epoch)


def plateau(**kwargs):
    # nothing is ever good enough: a cut after each epoch but the first
    return partial(
        torch.optim.lr_scheduler.ReduceLROnPlateau,
        factor=0.5,
        patience=0,
        threshold=100,
        threshold_mode="abs",
        **kwargs,
    )


def test_a_scheduler_on_a_plateau_steps_once_an_epoch_and_goes_on(make_task, make_data, make_trainer, tmp_path):
    uncut, first, second = Rates(), Rates(), Rates()
    make_trainer([uncut], max_epochs=5).fit(make_task(lr=0.01, scheduler=plateau()), datamodule=make_data())
    assert uncut.rates == [0.01, 0.01, 0.005, 0.0025, 0.00125]
    assert uncut.steps == [0, 1, 2, 3, 4]
    make_trainer([first, last(tmp_path)], max_epochs=3).fit(
        make_task(lr=0.01, scheduler=plateau()), datamodule=make_data()
    )
    make_trainer([second, last(tmp_path)], max_epochs=5).fit(
        make_task(lr=0.01, scheduler=plateau()), datamodule=make_data(), ckpt_path=tmp_path / "last.ckpt"
    )
    assert first.rates + second.rates == uncut.rates and first.steps + second.steps == uncut.steps


def test_a_plateau_is_one_of_validations(make_task, make_data, make_trainer):
    rates = Rates()
    make_trainer([rates], max_epochs=5, check_val_every_n_epoch=2).fit(
        make_task(lr=0.01, scheduler=plateau()), datamodule=make_data()
    )
    assert rates.rates == [0.01, 0.01, 0.01, 0.01, 0.005]


def test_a_plateau_of_the_training_loss_needs_no_validation(make_task, make_data, make_trainer):
    rates = Rates()
    make_trainer([rates], max_epochs=3, check_val_every_n_epoch=3).fit(
        make_task(lr=0.01, scheduler=plateau(), monitor="train/loss"), datamodule=make_data()
    )
    assert rates.rates == [0.01, 0.01, 0.005]


def test_other_schedulers_step_once_an_epoch(make_task, make_data, make_trainer):
    rates = Rates()
    scheduler = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.1)
    make_trainer([rates], max_epochs=3).fit(make_task(lr=0.01, scheduler=scheduler), datamodule=make_data())
    assert rates.rates == pytest.approx([0.01, 0.001, 0.0001])
