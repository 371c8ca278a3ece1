"""Schedules with a warm-up: against torch's own, stepped with the optimizer, and exact where a run goes on."""

import math
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, PolynomialLR, SequentialLR

from seglab.errors import InputError
from seglab.task import RandomState, WarmupCosineLR, WarmupPolynomialLR


def optimizer(*rates):
    return torch.optim.SGD([{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in rates])


def rates_of(scheduler, steps):
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in scheduler.optimizer.param_groups])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


class Rates(pl.Callback):
    """Notes the learning rate of each step, and the one logged for each epoch."""

    def __init__(self):
        self.steps, self.epochs = {}, []

    def on_before_optimizer_step(self, trainer, task, optimizer):
        self.steps[trainer.global_step] = optimizer.param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer, task):
        self.epochs.append(trainer.callback_metrics["lr"].item())


class Cut(Checkpoint):
    """Writes a checkpoint after so many batches, or after an epoch."""

    def __init__(self, path, batches=None, epoch=None):
        self.path, self.batches, self.epoch = path, batches, epoch

    def on_train_batch_end(self, trainer, *args):
        if trainer.fit_loop.epoch_loop.total_batch_idx + 1 == self.batches:
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer, *args):
        if trainer.current_epoch == self.epoch:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize(
    ("ours", "torchs"),
    [(WarmupCosineLR, CosineAnnealingLR), (partial(WarmupPolynomialLR, power=2), partial(PolynomialLR, power=2))],
)
def test_it_is_torchs_linear_warm_up_followed_by_its_decay(ours, torchs):
    scheduler, reference = ours(optimizer(0.1, 0.003), warmup=0.2), optimizer(0.1, 0.003)
    scheduler.begin(20, 4)
    parts = [LinearLR(reference, 1 / 5, total_iters=4), torchs(reference, 16)]
    expected = rates_of(SequentialLR(reference, parts, milestones=[4]), 20)
    torch.testing.assert_close(torch.tensor(rates_of(scheduler, 20)), torch.tensor(expected))
    assert max(expected)[0] == pytest.approx(0.1) and expected[-1][0] < 0.01


@pytest.mark.parametrize("kind", [WarmupCosineLR, WarmupPolynomialLR])
def test_it_ends_at_its_end_factor_and_stays_there(kind):
    scheduler = kind(optimizer(2.0), warmup=0.0, end_factor=0.25)
    scheduler.begin(5, 5)
    rates = [rate for [rate] in rates_of(scheduler, 8)]
    assert rates[0] == 2.0 and rates[5:] == [0.5] * 3
    assert all(earlier > later for earlier, later in zip(rates[:6], rates[1:6], strict=False))


@pytest.mark.parametrize(
    ("options", "steps"),
    [({}, 12), ({"accumulate_grad_batches": 3}, 6), ({"limit_train_batches": 3}, 9), ({"max_epochs": 1}, 4)],
)
def test_the_trainer_says_how_many_steps_there_are(make_task, make_data, make_trainer, options, steps):
    rates = Rates()
    scheduler = partial(WarmupPolynomialLR, warmup=1 / 3, power=1)
    make_trainer([rates], **{"max_epochs": 3} | options).fit(
        make_task(lr=0.01, scheduler=scheduler), datamodule=make_data(batch_size=2)
    )
    expected = WarmupPolynomialLR(optimizer(0.01), warmup=1 / 3, power=1)
    expected.begin(steps, len(rates.epochs))
    assert list(rates.steps.values()) == [rate for [rate] in rates_of(expected, steps)]
    assert max(rates.steps.values()) == 0.01
    per_epoch = steps // len(rates.epochs)
    assert rates.epochs == pytest.approx(list(rates.steps.values())[per_epoch - 1 :: per_epoch])


@pytest.mark.parametrize("cut", [{"batches": 2}, {"batches": 6}, {"epoch": 0}, {"epoch": 1}])
def test_a_run_that_goes_on_ends_as_the_uncut_one(make_task, make_data, make_trainer, tmp_path, cut):
    """Four batches an epoch, two of them a step; cut inside the first and a later epoch, and between epochs."""

    def fit(callbacks, **kwargs):
        rates, task = Rates(), make_task(lr=0.01, scheduler=partial(WarmupCosineLR, warmup=0.3))
        trainer = make_trainer([RandomState(), rates, *callbacks], max_epochs=3, accumulate_grad_batches=2)
        trainer.fit(task, datamodule=make_data(batch_size=2), **kwargs)
        return rates, task, trainer.optimizers[0].state_dict(), task.lr_schedulers().state_dict()

    path = tmp_path / "cut.ckpt"
    whole, task, state, schedule = fit([Cut(path, **cut)])
    rates, resumed, state_again, schedule_again = fit([], ckpt_path=path)
    assert rates.steps and rates.steps.items() <= whole.steps.items()
    assert rates.epochs == whole.epochs[-len(rates.epochs) :]
    assert schedule_again == schedule and state_again["param_groups"] == state["param_groups"]
    for name, value in task.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_run_of_more_epochs_goes_on_with_their_schedule(make_task, make_data, make_trainer, tmp_path):
    def fit(callbacks, max_epochs, **kwargs):
        rates = Rates()
        task = make_task(lr=0.01, scheduler=WarmupCosineLR)
        make_trainer([rates, *callbacks], max_epochs=max_epochs).fit(task, datamodule=make_data(), **kwargs)
        return rates.steps

    path = tmp_path / "end.ckpt"
    short = fit([Cut(path, epoch=1)], 2)
    longer = fit([], 4, ckpt_path=path)
    whole = fit([], 4)
    assert list(short) == [0, 1, 2, 3] and list(longer) == [4, 5, 6, 7]
    assert longer == {step: whole[step] for step in longer}
    assert short[3] < longer[4]


@pytest.mark.parametrize(("epochs", "steps"), [(4, 2), (6, 2), (4, 8)])
def test_epochs_of_other_steps_go_on_where_the_schedule_stood(epochs, steps):
    """As of a run that more or fewer processes go on with, or as many to another end."""
    begun, whole, resumed = (WarmupCosineLR(optimizer(0.1), warmup=0.1) for _ in range(3))
    begun.begin(4 * 4, 4)
    rates_of(begun, 2 * 4)  # two epochs of four steps
    resumed.load_state_dict(begun.state_dict())
    resumed.begin(epochs * steps, epochs)
    whole.begin(epochs * steps, epochs)
    assert rates_of(resumed, 2) == rates_of(whole, 2 * steps + 2)[-2:]


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (WarmupCosineLR, {"warmup": -0.1}),
        (WarmupCosineLR, {"warmup": 1}),
        (WarmupCosineLR, {"end_factor": 2}),
        (WarmupPolynomialLR, {"power": 0}),
        (WarmupPolynomialLR, {"warmup": 5}),
    ],
)
def test_values_that_make_no_sense(kind, wrong):
    [(name, value)] = wrong.items()
    with pytest.raises(InputError, match=f"scheduler.{name}={value}: give"):
        kind(optimizer(0.1), **wrong)


def test_a_run_without_an_end_has_no_such_schedule():
    with pytest.raises(InputError, match="trainer.max_epochs=-1"):
        WarmupCosineLR(optimizer(0.1)).begin(math.inf, -1)
