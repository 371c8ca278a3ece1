"""Every yaml of conf/loss and every command of docs/losses.md, down to a gradient."""

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir

from seglab.cli.build import build_task
from seglab.cli.build_loss import class_weights
from seglab.cli.resolvers import register_resolvers
from seglab.data.statistics import Statistics
from seglab.errors import InputError
from seglab.task import WeightedSum, losses

ROOT = Path(__file__).resolve().parents[3]
NAMES = sorted(path.stem for path in (ROOT / "conf" / "loss").glob("*.yaml"))
DOCS = (ROOT / "docs" / "losses.md").read_text()
COMMANDS = re.findall(r"^python train\.py (.*)$", DOCS, re.MULTILINE)
SMALL = ["model=unet4", "model.width=0.02"]


def build(*words):
    """Builds the loss of a command as training does, on made statistics."""
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", [*SMALL, *words])
    areas = {name: 1000 * (index + 1) for index, name in enumerate(cfg.data.class_names)}
    statistics = Statistics((0.5,) * 3, (0.5,) * 3, areas, dict.fromkeys(areas, 100_000))
    weights = class_weights(cfg, SimpleNamespace(statistics=statistics))
    return build_task(cfg, statistics.mean, statistics.std, weights).loss


def assert_teaches(loss, num_classes=9):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, num_classes, 8, 8, generator=generator, requires_grad=True)
    value = loss(logits, torch.randint(0, num_classes + 1, (2, 8, 8), generator=generator))
    value.backward()
    assert value.isfinite() and value > 0 and logits.grad.isfinite().all() and logits.grad.any()


@pytest.mark.parametrize("count", [2, 10])
def test_a_term_with_weights_of_its_own_has_one_for_each_class(count):
    with pytest.raises(InputError, match=f"loss.terms.dice.class_weights has {count} weights for 9 classes: give one"):
        build("loss=cross_entropy_dice", f"loss.terms.dice.class_weights={[1] * count}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weights", ["null", "inverse_area", "median_frequency", "effective_number", "{ring: 2}"])
def test_every_config_builds_and_teaches(name, weights):
    loss = build(f"loss={name}", f"loss.class_weights={weights}")
    assert_teaches(loss)
    assert (weights == "null") == (not loss.state_dict())


def test_every_loss_has_a_config():
    built = [build(f"loss={name}") for name in NAMES]
    terms = [term for loss in built if isinstance(loss, WeightedSum) for term in loss.terms.values()]
    assert {type(loss).__name__ for loss in built + terms} == set(losses.__all__)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_documentation(command):
    assert_teaches(build(*shlex.split(command)))


def test_the_documentation_has_a_command_for_every_config():
    assert {re.search(r"loss=(\w+)", command)[1] for command in COMMANDS} == set(NAMES)
    assert all(f"`{name}`" in DOCS for name in NAMES)


def test_keys_of_the_command_line():
    assert build("loss=cross_entropy_dice", "loss.weights.dice=0.5").weights == {"cross_entropy": 1.0, "dice": 0.5}
    assert build("loss=cross_entropy", "loss.label_smoothing=0.1").label_smoothing == 0.1
    loss = build("loss=cross_entropy_lovasz", "+loss@loss.terms.boundary=boundary", "+loss.weights.boundary=0.3")
    assert set(loss.terms) == {"cross_entropy", "lovasz", "boundary"}
    loss = build("loss=cross_entropy_dice", f"loss.terms.dice.class_weights={[1, 2, 3] * 3}")
    assert list(loss.state_dict()) == ["terms.dice.class_weights"]


def test_a_run_with_weights_by_name_is_evaluated_with_them(call, tmp_path):
    run = tmp_path / "run"
    words = [*SMALL, "data.crop_size=32", *(f"data.source.{split}=4" for split in ("train", "val", "test"))]
    words += ["loss=cross_entropy_dice", "loss.class_weights={ring: 4}", "logger=csv", "trainer.max_epochs=1"]
    status, _, said = call("train", *words, f"hydra.run.dir={run}")
    assert status == 0, said
    metrics = run / "evaluation" / "test" / "metrics.json"
    trained = json.loads(metrics.read_text())
    metrics.unlink()
    status, _, said = call("evaluate", f"run={run}")
    assert status == 0, said
    assert json.loads(metrics.read_text())["loss"] == pytest.approx(trained["loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("loss=focal loss.gamma=-1", "loss: gamma=-1: give a number of 0 or more"),
        ("loss=cross_entropy_dice loss.weights.dice=-1", "loss: weights.dice=-1: give a number of 0 or more"),
        ("loss=cross_entropy_dice loss.weights.dise=1", "the config has no key loss.weights.dise"),
        ("loss.class_weights={rin: 2}", "loss.class_weights: rin is no class: did you mean ring?"),
    ],
)
def test_a_mistake_is_told_in_a_line(call, tmp_path, word, said):
    words = [*SMALL, "data.source.train=4", "data.crop_size=32", "logger=csv", f"hydra.run.dir={tmp_path / 'run'}"]
    status, _, err = call("train", *words, *re.split(r" (?=loss\.)", word))
    assert status == 2 and err.strip().startswith(f"error: {said}") and "\n" not in err.strip()
