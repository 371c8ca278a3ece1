"""Freezing and learning rates of a pretrained backbone."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from cut import Cut
from torch.optim.lr_scheduler import StepLR

from seglab.data.shapes import Shapes
from seglab.models import BilinearUpsample, ConvDecoder, Segmenter, TimmEncoder
from seglab.task import (
    CrossEntropy,
    ExponentialMovingAverage,
    FineTuning,
    RandomState,
    SegmentationTask,
    StochasticWeightAveraging,
)

BACKBONE = "encoder.backbone."


def network(name="test_resnet", **options):
    torch.manual_seed(0)
    encoder = TimmEncoder(name, **options)
    return Segmenter(encoder, ConvDecoder(encoder.channels, encoder.strides, [8] * 5, upsample=BilinearUpsample), 9)


def tuned(fine_tuning=None, scheduler=None, **options):
    optimizer = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)
    model = network(**options)
    return SegmentationTask(
        model, CrossEntropy(9), Shapes.class_names, 9, optimizer, scheduler, fine_tuning=fine_tuning
    )


class Epochs(pl.Callback):
    """Keeps the network's state and the logged learning rate after each epoch."""

    def __init__(self):
        self.states, self.rates = [], []

    def on_train_epoch_end(self, trainer, task):
        self.states.append({name: value.clone() for name, value in task.model.state_dict().items()})
        self.rates.append(trainer.callback_metrics["lr"].item())


def changed(before, after, part):
    return [not torch.equal(before[name], after[name]) for name in before if name.startswith(part)]


@pytest.mark.parametrize("average", [[], [StochasticWeightAveraging(0.0)]], ids=["plain", "swa"])
def test_the_backbone_stays_to_the_bit_while_it_is_frozen_and_trains_after(make_data, make_trainer, average):
    epochs, task = Epochs(), tuned(FineTuning(frozen_epochs=2))
    start = {name: value.clone() for name, value in task.model.state_dict().items()}
    make_trainer([*average, epochs], max_epochs=3).fit(task, datamodule=make_data(size=32))
    for state in epochs.states[:2]:
        assert not any(changed(start, state, BACKBONE))  # its BatchNorm's running statistics, too
    assert all(changed(start, epochs.states[0], "decoder."))
    assert all(changed(start, epochs.states[2], BACKBONE))


def test_a_transformers_pyramid_trains_while_its_backbone_is_frozen(make_data, make_trainer):
    epochs, task = Epochs(), tuned(FineTuning(frozen_epochs=1), name="test_vit")
    start = {name: value.clone() for name, value in task.model.state_dict().items()}
    make_trainer([epochs]).fit(task, datamodule=make_data(size=32))
    assert not any(changed(start, epochs.states[0], BACKBONE))
    assert all(changed(start, epochs.states[0], "encoder.pyramid."))


def test_a_frozen_batch_norm_stays_when_the_backbone_is_set_free(make_data, make_trainer):
    epochs, task = Epochs(), tuned(FineTuning(frozen_epochs=1), freeze_norm=True)
    start = {name: value.clone() for name, value in task.model.state_dict().items()}
    make_trainer([epochs], max_epochs=2).fit(task, datamodule=make_data(size=32))
    trained = {name for name, _ in task.model.named_parameters() if name.startswith(BACKBONE)}
    for name, value in start.items():
        if name.startswith(BACKBONE):
            assert torch.equal(value, epochs.states[1][name]) == (name not in trained), name


@pytest.mark.parametrize("average", [ExponentialMovingAverage, StochasticWeightAveraging, Epochs])
def test_frozen_stages_stay_to_the_bit_when_the_backbone_is_set_free(make_data, make_trainer, average):
    epochs, task = Epochs(), tuned(FineTuning(frozen_epochs=1), frozen_stages=2)
    for name, buffer in task.model.encoder.backbone.named_buffers():
        if "running" in name:
            buffer.add_(0.01)  # statistics that no reset brings back
    start = {name: value.clone() for name, value in task.model.state_dict().items()}
    make_trainer([average(), epochs], max_epochs=4).fit(task, datamodule=make_data(size=32))
    stage_of = task.model.encoder.depths(coarse=True)
    modules = {name.rpartition(".")[0]: stage for name, stage in stage_of.items()}
    for name, value in start.items():
        if name.startswith(BACKBONE):
            stays = modules[name.removeprefix(BACKBONE).rpartition(".")[0]] < 2
            assert torch.equal(value, epochs.states[-1][name]) == stays, name


def test_norms_behind_frozen_ones_are_measured_on_what_these_give(make_data, make_trainer):
    task = tuned(frozen_stages=2)
    norms = [module for module in task.model.encoder.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    frozen, free = ([norm for norm in norms if norm.training is state] for state in (False, True))
    assert frozen and free
    for norm in frozen:
        norm.running_mean.add_(0.3)  # as far from what its input has as those of other photographs are
        norm.running_var.mul_(0.04)
    data = make_data(size=32)
    make_trainer([StochasticWeightAveraging(0.0)]).fit(task, datamodule=data)
    measured, seen = free[0].running_mean.clone(), []
    free[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    task.model.train()
    with torch.no_grad():
        for batch in data.train_dataloader():
            task.model(batch["image"])
    mean = torch.stack([each.mean((0, 2, 3)) for each in seen]).mean(0)
    torch.testing.assert_close(measured, mean, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_a_run_that_goes_on_ends_as_the_uncut_one(make_data, make_trainer, tmp_path, step):
    """Four steps frozen, four free; cut within the frozen epochs, between two, as it thaws, and after."""

    def fit(callbacks, **kwargs):
        task = tuned(
            FineTuning(frozen_epochs=2, lr_factor=0.1, layer_decay=0.9, decay_norms=False),
            partial(StepLR, step_size=1, gamma=0.5),
            drop_path_rate=0.2,
            frozen_stages=1,
        )
        epochs = Epochs()
        trainer = make_trainer([RandomState(), epochs, *callbacks], max_epochs=4)
        trainer.fit(task, datamodule=make_data(size=32), **kwargs)
        return epochs, trainer.optimizers[0].state_dict()

    uncut, uncut_optimizer = fit([Cut(tmp_path / "cut.ckpt", step)])
    resumed, optimizer = fit([], ckpt_path=tmp_path / "cut.ckpt")
    for name, value in uncut.states[-1].items():
        assert torch.equal(value, resumed.states[-1][name]), name
    assert resumed.rates == uncut.rates[-len(resumed.rates) :]
    assert optimizer["param_groups"] == uncut_optimizer["param_groups"]
    for index, state in uncut_optimizer["state"].items():
        assert all(torch.equal(value, optimizer["state"][index][key]) for key, value in state.items())


def test_learning_rates_follow_factor_and_depth():
    task = tuned(FineTuning(lr_factor=0.1, layer_decay=0.5))
    groups = task.configure_optimizers()["optimizer"].param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    named = dict(task.model.named_parameters())
    assert len(rates) == len(named)
    depths = task.model.encoder.depths()
    last = max(depths.values())
    assert last >= 4
    for name, parameter in named.items():
        below = name.startswith(BACKBONE)
        factor = 0.1 * 0.5 ** (last + 1 - depths[name.removeprefix(BACKBONE)]) if below else 1
        assert rates[id(parameter)] == pytest.approx(0.01 * factor), name
    by_depth = sorted((depth, rates[id(named[BACKBONE + name])]) for name, depth in depths.items())
    assert [rate for _, rate in by_depth] == sorted(rate for _, rate in by_depth)
    assert groups[0]["lr"] == 0.01 and not any(p is named[BACKBONE + n] for p in groups[0]["params"] for n in depths)


def test_norms_and_biases_can_go_without_weight_decay():
    task = tuned(FineTuning(decay_norms=False))
    groups = task.configure_optimizers()["optimizer"].param_groups
    assert {group["weight_decay"] for group in groups} == {0.0, 0.1}
    assert {group["lr"] for group in groups} == {0.01}
    for group in groups:
        assert all((parameter.ndim > 1) == (group["weight_decay"] == 0.1) for parameter in group["params"])


def test_embeddings_of_positions_go_without_weight_decay_as_in_timm():
    task = tuned(FineTuning(decay_norms=False), name="test_vit")
    decays = {
        id(parameter): group["weight_decay"]
        for group in task.configure_optimizers()["optimizer"].param_groups
        for parameter in group["params"]
    }
    named = {name: decays[id(parameter)] for name, parameter in task.model.named_parameters()}
    assert named[f"{BACKBONE}pos_embed"] == named[f"{BACKBONE}cls_token"] == 0
    assert named[f"{BACKBONE}patch_embed.proj.weight"] == 0.1


def test_the_logged_learning_rate_is_the_decoders_and_schedules_keep_the_ratio(make_data, make_trainer):
    epochs = Epochs()
    task = tuned(FineTuning(lr_factor=0.1), partial(StepLR, step_size=1, gamma=0.5))
    trainer = make_trainer([epochs], max_epochs=3)
    trainer.fit(task, datamodule=make_data(size=32))
    assert epochs.rates == pytest.approx([0.01, 0.005, 0.0025])
    main, backbone = (group["lr"] for group in trainer.optimizers[0].param_groups)
    assert backbone == pytest.approx(0.1 * main)


def test_it_costs_nothing_where_it_is_off():
    for fine_tuning in (None, FineTuning(), FineTuning(frozen_epochs=3)):
        [group] = tuned(fine_tuning).configure_optimizers()["optimizer"].param_groups
        assert "lr_factor" not in group


@pytest.mark.parametrize("wrong", [{"frozen_epochs": -1}, {"lr_factor": 0}, {"layer_decay": 0}, {"layer_decay": 1.5}])
def test_values_that_make_no_sense(wrong):
    [(name, value)] = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value}: give"):
        FineTuning(**wrong)
