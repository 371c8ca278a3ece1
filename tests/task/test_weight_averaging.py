"""Averages of weights: against the same by hand, wherever the network holds them, and exact where a run goes on."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from cut import Cut
from torch import nn

from seglab.data.shapes import Shapes
from seglab.errors import InputError
from seglab.models import ConvBlock, ConvDecoder, ConvEncoder, Segmenter
from seglab.task import (
    CrossEntropy,
    ExponentialMovingAverage,
    RandomState,
    RunCheckpoint,
    SegmentationTask,
    StochasticWeightAveraging,
)

DATA = {"train": 8, "val": 2, "test": 1, "size": 16}
AVERAGES = [partial(ExponentialMovingAverage, 0.7), partial(StochasticWeightAveraging, 0.3)]


def make_task(dropout=0.0, norm=nn.BatchNorm2d):
    torch.manual_seed(0)
    block = partial(ConvBlock, norm_layer=norm)
    encoder = ConvEncoder([8, 8], block=block)
    model = Segmenter(encoder, ConvDecoder(encoder.channels, encoder.strides, [8, 8], block=block), 9, dropout)
    return SegmentationTask(model, CrossEntropy(9), Shapes.class_names, 9, partial(torch.optim.Adam, lr=0.03))


def copied(task):
    return {name: value.clone() for name, value in task.model.state_dict().items()}


class Weights(pl.Callback):
    """Keeps the network's weights after each batch, as each epoch validates them, and as it is left."""

    def __init__(self):
        self.batches, self.validations, self.epochs = [], [], []

    def on_train_batch_end(self, trainer, task, *args):
        self.batches.append(copied(task))

    def on_validation_end(self, trainer, task):
        if not trainer.sanity_checking:
            self.validations.append(copied(task))

    def on_train_epoch_end(self, trainer, task):
        self.epochs.append(copied(task))


@pytest.fixture
def fit(make_data, make_trainer):
    """Trains a network for three epochs of two batches; returns what its weights were, and the task."""

    def run(callbacks=(), dropout=0.0, max_epochs=3, norm=nn.BatchNorm2d, **kwargs):
        weights, task = Weights(), make_task(dropout, norm)
        trainer_options = {key: kwargs.pop(key) for key in list(kwargs) if key != "ckpt_path"}
        trainer = make_trainer([RandomState(), *callbacks, weights], max_epochs=max_epochs, **trainer_options)
        trainer.fit(task, datamodule=make_data(**DATA), **kwargs)
        return weights, task

    return run


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_moving_average_is_the_one_by_hand_and_is_what_is_validated(fit):
    weights, task = fit([ExponentialMovingAverage(0.3)])
    expected = {name: value.double() for name, value in weights.batches[0].items()}
    for steps, batch in enumerate(weights.batches[1:], start=1):
        keep = min(0.3, (1 + steps) / (10 + steps))
        for name, value in batch.items():
            is_count = not value.is_floating_point()
            expected[name] = value if is_count else keep * expected[name] + (1 - keep) * value.double()
        if steps % 2 == 1:
            validated = weights.validations[steps // 2]
            assert same(validated, weights.epochs[steps // 2])
            for name, value in validated.items():
                torch.testing.assert_close(value.double(), expected[name].double(), rtol=1e-5, atol=1e-6)
    assert same(copied(task), weights.epochs[-1])


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("options", [{"check_val_every_n_epoch": 1}, {"check_val_every_n_epoch": 2}])
def test_the_weights_that_are_trained_are_those_of_a_run_without_it(fit, average, options):
    options |= {"dropout": 0.3}
    plain, averaged = fit(**options)[0], fit([average()], **options)[0]
    assert len(plain.batches) == 6
    for first, second in zip(plain.batches, averaged.batches, strict=True):
        assert same(first, second)
    assert not same(plain.epochs[-1], averaged.epochs[-1])


def test_the_mean_of_epochs_is_the_one_by_hand_and_its_batch_norms_are_measured_anew(fit, make_data):
    weights, task = fit([StochasticWeightAveraging(0.3)])
    assert same(weights.validations[0], weights.batches[1]) and same(weights.validations[0], weights.epochs[0])
    for name, parameter in task.model.named_parameters():
        later = (weights.batches[3][name].double() + weights.batches[5][name].double()) / 2
        torch.testing.assert_close(weights.validations[1][name], weights.batches[3][name])
        torch.testing.assert_close(parameter.detach().double(), later, rtol=1e-5, atol=1e-6)
    # the first norm sees nothing but the image and the convolution before it
    data = make_data(**DATA)
    data.setup("fit")
    loader = data.train_dataloader()
    loader.sampler.set_epoch(3)
    conv, norm, _ = task.model.encoder.stages[0][0]
    with torch.no_grad():
        maps = [conv(task.model.prepare(batch["image"])) for batch in loader]
    assert len(maps) == 2
    for buffer, moment in (("running_mean", torch.mean), ("running_var", torch.var)):
        expected = torch.stack([moment(each, dim=(0, 2, 3)) for each in maps]).mean(0)
        torch.testing.assert_close(getattr(norm, buffer), expected, rtol=1e-4, atol=1e-6)
        assert not torch.allclose(expected, weights.batches[-1][f"encoder.stages.0.0.1.{buffer}"], rtol=1e-2)


def test_only_steps_of_the_optimizer_count(fit):
    average = ExponentialMovingAverage()
    fit([average], accumulate_grad_batches=2, max_epochs=2)
    assert average.state_dict()["average"]["n_averaged"] == 2  # two batches an epoch


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("step", [1, 4, 5])
def test_a_run_that_goes_on_ends_as_the_uncut_one(fit, tmp_path, average, step):
    """Cut inside the first epoch, between two, and inside the last."""
    whole, again = average(), average()
    uncut, _ = fit([whole, Cut(tmp_path / "cut.ckpt", step)], dropout=0.2)
    resumed, _ = fit([again], dropout=0.2, ckpt_path=tmp_path / "cut.ckpt")
    for name in ("batches", "validations", "epochs"):
        ends = getattr(resumed, name)
        assert ends and all(map(same, ends, getattr(uncut, name)[-len(ends) :])), name
    assert same(whole.state_dict()["average"], again.state_dict()["average"])


@pytest.mark.parametrize("average", AVERAGES)
def test_checkpoints_hold_the_average_and_load_as_plain_weights(fit, tmp_path, average):
    best = RunCheckpoint(
        tmp_path, "best", monitor="val/miou", mode="max", save_weights_only=True, save_on_train_epoch_end=True
    )
    last = RunCheckpoint(tmp_path, "last", save_on_train_epoch_end=True)
    weights, _ = fit([average(), best, last])
    for path, epoch in ((tmp_path / "best.ckpt", None), (tmp_path / "last.ckpt", 2)):
        checkpoint = torch.load(path, weights_only=True)
        state = {name[6:]: value for name, value in checkpoint["state_dict"].items() if name.startswith("model.")}
        assert same(state, weights.validations[checkpoint["epoch"] if epoch is None else epoch])
    assert "callbacks" not in torch.load(tmp_path / "best.ckpt", weights_only=True)


def test_an_average_can_begin_where_a_run_without_it_goes_on(fit, tmp_path):
    plain, _ = fit([Cut(tmp_path / "cut.ckpt", 4)])
    average = ExponentialMovingAverage()
    resumed, _ = fit([average], ckpt_path=tmp_path / "cut.ckpt")
    assert all(map(same, resumed.batches, plain.batches[-2:]))
    assert average.state_dict()["average"]["n_averaged"] == 2


def test_a_mean_that_was_begun_goes_on_in_a_longer_run(fit, tmp_path):
    fit([StochasticWeightAveraging(0.3), Cut(tmp_path / "cut.ckpt", 6)])
    average = StochasticWeightAveraging(0.9)
    fit([average], max_epochs=5, ckpt_path=tmp_path / "cut.ckpt")
    assert average.state_dict()["average"]["n_averaged"] == 4


def test_counts_and_indices_are_never_averaged():
    class Indexed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))
            self.register_buffer("index", torch.arange(1000))

    model, average = Indexed(), ExponentialMovingAverage()
    average._average = average.new_average(model)
    for _ in range(5):
        average._average.update_parameters(model)
    assert torch.equal(average._average.module.index, torch.arange(1000))


@pytest.mark.parametrize("decay", [0, 1, 1.5, -0.1])
def test_a_decay_that_makes_no_sense(decay):
    with pytest.raises(InputError, match=f"averaging.decay={decay}: give"):
        ExponentialMovingAverage(decay)


@pytest.mark.parametrize("start", [1, 20, -0.1])
def test_a_start_that_makes_no_sense(start):
    with pytest.raises(InputError, match=f"averaging.start={start}: give"):
        StochasticWeightAveraging(start)


def test_the_last_epoch_counts_at_least_and_a_run_that_ends_before_says_so(fit, caplog):
    average = StochasticWeightAveraging(0.75)
    fit([average], max_epochs=2)
    assert average._average.n_averaged == 1 and "averaging=swa" not in caplog.text
    stop = pl.callbacks.LambdaCallback(on_train_epoch_end=lambda trainer, _: setattr(trainer, "should_stop", True))
    fit([StochasticWeightAveraging(0.75), stop], max_epochs=4)
    assert "averaging=swa: the run ended before 0.75 of its epochs, so no weights were averaged" in caplog.text


def test_a_mean_needs_the_end_of_the_run(fit):
    with pytest.raises(InputError, match="trainer.max_epochs=-1"):
        fit([StochasticWeightAveraging()], max_epochs=-1)


def test_without_a_batch_norm_nothing_is_measured_anew(fit):
    read = []

    class Norms(StochasticWeightAveraging):
        def refresh(self, trainer, task):
            before = trainer.datamodule.train_dataloader
            trainer.datamodule.train_dataloader = lambda: read.append("again") or before()
            super().refresh(trainer, task)
            trainer.datamodule.train_dataloader = before

    for norm, expected in ((nn.BatchNorm2d, ["again"] * 3), (None, [])):
        read.clear()
        fit([Norms(0.0)], norm=norm)
        assert read == expected
