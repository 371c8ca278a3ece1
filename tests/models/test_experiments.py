"""The ladder and the sweeps, composed with the whole configuration and compared with the report's table."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from seglab.cli.resolvers import register_resolvers
from seglab.cli.word_checks import check_without
from seglab.errors import InputError
from seglab.lab.result_config import config_of_result, flat

CONF = Path(__file__).resolve().parents[2] / "conf"

# model, crop, crop_size, batch_size, normalize, dropout, weight_decay
LADDER = {
    "phase1": ("conv5", "center", 128, 10, False, 0.0, 0.0),
    "phase2": ("encdec5", "center", 256, 32, False, 0.0, 0.0),
    "phase3": ("encdec6", "center", 256, 50, False, 0.0, 0.0),
    "phase4": ("encdec6", "five", 256, 50, True, 0.0, 0.0),
    "phase5": ("encdec6_bn", "five", 256, 50, True, 0.5, 1e-6),
    "phase6": ("encdec6_double", "five", 256, 50, True, 0.5, 1e-6),
    "phase6_1": ("encdec6_double", "five", 256, 50, True, 0.0, 0.0),
    "phase7": ("unet6_wide", "five", 256, 50, True, 0.0, 1e-8),
    "phase7_1": ("unet6_wide", "five", 256, 50, True, 0.0, 0.0),
    "phase7_3": ("unet4", "five", 256, 50, True, 0.0, 0.0),
    "phase7_4": ("unet6", "five", 256, 40, True, 0.0, 0.0),
    "phase7_5": ("unet6", "five", 256, 40, True, 0.0, 0.0),
    "phase7_6": ("unet6", "five", 256, 50, True, 0.0, 0.0),
    "phase7_7": ("unet6", "five", 256, 40, True, 0.0, 0.0),
    "phase8": ("resunet6", "five", 256, 50, True, 0.0, 0.0),
    "phase9": ("resunet6", "five", 256, 50, True, 0.0, 0.0),
    "phase9_1": ("resunet6", "five", 256, 50, True, 0.0, 0.0),
}
SWEEPS = {
    "weight_decay": ("phase5", {"optimizer.weight_decay": "1e-2,1e-3,1e-4,1e-5,1e-6"}),
    "dropout": ("phase5", {"model.dropout": "0.2,0.3,0.4,0.5,0.7"}),
    "batch_size": ("phase7_4", {"data.batch_size": "40,50,60"}),
    "optimizer": ("phase7_4", {"optimizer": "adam,sgd,rmsprop"}),
    "ladder": (None, {"experiment": ",".join(LADDER)}),
    "search_unet6": ("phase7_4", {"search.worker": "range(0,16)"}),
    "ablation_pretrained": (
        "pretrained",
        {"without": "nothing,augment,scale,mix,balance,lovasz,context,output_stride,frozen_stages,lr_factor,averaging"},
    ),
    "ablation_scratch": (
        "scratch",
        {
            "without": "nothing,augment,scale,mix,balance,lovasz,context,output_stride,object_classifier,"
            "progressive_resize,averaging"
        },
    ),
}
RECIPES = ("pretrained", "scratch")
LACKS = {  # the parts that a recipe does not have
    "pretrained": {"object_classifier", "progressive_resize"},
    "scratch": {"frozen_stages", "lr_factor", "pretraining"},
}
PARTS = {  # the keys that without= changes
    "augment": "augment.transforms.",
    "scale": "data.scale",
    "mix": "mix",
    "balance": "data.repeat_threshold",
    "lovasz": "loss.",
    "context": "model.decoder.",
    "output_stride": "model.encoder.output_stride",
    "object_classifier": "model.object_classifier",
    "progressive_resize": "data.progressive_resize",
    "frozen_stages": "model.encoder.frozen_stages",
    "lr_factor": "model.fine_tuning.lr_factor",
    "averaging": "averaging",
    "pretraining": ("model.encoder.", "model.fine_tuning."),
}


def composed(*overrides):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=list(overrides), return_hydra_config=True)


def chosen(config, group):
    return config.hydra.runtime.choices[group]


def test_every_experiment_and_sweep_is_held_here():
    assert {path.stem for path in (CONF / "experiment").glob("*.yaml")} == {*LADDER, "quickstart", *RECIPES}
    assert {path.stem for path in (CONF / "sweep").glob("*.yaml")} == set(SWEEPS)


@pytest.mark.parametrize("name", LADDER)
def test_rung_is_the_reports(name):
    config = composed(f"experiment={name}", "data=voc9")
    data = config.data
    assert (
        config.model.name,
        data.crop,
        data.crop_size,
        data.batch_size,
        data.normalize,
        config.model.dropout,
        config.optimizer.weight_decay,
    ) == LADDER[name]
    assert chosen(config, "data") == "voc9"
    assert chosen(config, "model") == config.model.name
    albu = name.startswith("phase7_") and name >= "phase7_4"
    assert chosen(config, "augment") == ("none" if name == "phase1" else "albu" if albu else "sharpen_flip")
    assert chosen(config, "optimizer") == ("rmsprop" if name == "phase7_7" else "adam")
    assert chosen(config, "scheduler") == {"phase7_5": "step", "phase9": "plateau"}.get(name, "none")
    assert chosen(config, "loss") == ("weighted_cross_entropy" if name == "phase9_1" else "cross_entropy")
    assert config.optimizer.lr == 1e-3
    assert config.trainer.max_epochs == (150 if name == "phase7_5" else 100)


def test_optimizers_and_schedules_are_the_reports():
    step, plateau = composed("experiment=phase7_5").scheduler, composed("experiment=phase9").scheduler
    assert (list(step.milestones), step.gamma) == ([100], 0.1)
    assert (plateau.mode, plateau.patience, plateau.monitor) == ("min", 4, "val/loss")
    assert composed("experiment=phase7_7").optimizer.momentum == 0.9


def test_the_command_line_wins_over_an_experiment():
    config = composed("experiment=phase7_4", "model=unet4", "data.batch_size=3", "optimizer=sgd")
    assert (config.model.name, config.data.batch_size, chosen(config, "optimizer")) == ("unet4", 3, "sgd")


@pytest.mark.parametrize("name", SWEEPS)
def test_sweep_starts_from_its_experiment(name):
    config = composed(f"sweep={name}")
    experiment, params = SWEEPS[name]
    assert config.sweep.name == name
    assert chosen(config, "experiment") == experiment
    assert config.hydra.mode.name == "MULTIRUN"
    assert {key: values.replace(" ", "") for key, values in config.hydra.sweeper.params.items()} == params


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_ablation_takes_out_each_part_of_its_recipe_but_its_pretraining(recipe):
    parts = {path.stem for path in (CONF / "without").glob("*.yaml")} - {"pretraining"} - LACKS[recipe]
    assert set(SWEEPS[f"ablation_{recipe}"][1]["without"].split(",")) == parts
    assert plain(f"experiment={recipe}", "without=nothing") == plain(f"experiment={recipe}")


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("part", PARTS)
def test_what_is_without_a_part_differs_in_that_part_alone(recipe, part):
    whole, without = (flat(plain(f"experiment={recipe}", *words)) for words in ([], [f"without={part}"]))
    changed = {key for key in whole.keys() | without.keys() if whole.get(key) != without.get(key)}
    assert all(key.startswith(PARTS[part]) for key in changed)
    assert bool(changed) == (part not in LACKS[recipe])
    assert all(without.get(key) is None for key in changed if part in ("scale", "mix", "balance", "averaging"))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_the_recipe_does_not_have_is_refused_and_no_other(recipe, part):
    words = [f"experiment={recipe}", f"without={part}", "data=voc9", "data.root=VOC", "run_dir=run"]
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        expected = pytest.raises(InputError, match=f"without={part} takes nothing out")
        with expected if part in LACKS[recipe] else nullcontext():
            check_without(compose("train", words), words)


def plain(*overrides):
    config = composed(*overrides, "data=voc9", "data.root=VOC", "run_dir=run")
    OmegaConf.set_readonly(config, False)
    OmegaConf.set_struct(config, False)
    config.pop("hydra")
    return config_of_result(OmegaConf.to_container(config, resolve=True))


def test_augmentation_that_is_off_leaves_the_config_of_a_result_as_it_was():
    config = composed("experiment=phase7_4", "data=voc9", "data.root=VOC")
    assert "mix" not in config
    result = config_of_result({"data": OmegaConf.to_container(config.data, resolve=True)})
    assert not {"scale", "crop_sizes", "repeat_threshold"} & result["data"].keys()
