"""A temperature fitted on val mends the calibration of later evaluations and of predicted probabilities."""

import json
import shutil

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from seglab.cli.resolvers import register_resolvers
from seglab.cli.temperature import write_temperature
from seglab.task import TemperatureFit

FACTOR = 16.0


@pytest.fixture(scope="module")
def overconfident(trained, tmp_path_factory):
    """A run whose logits are sixteen times those of the trained one."""
    run = tmp_path_factory.mktemp("overconfident") / "run"
    shutil.copytree(trained, run)
    path = run / "checkpoints" / "best.ckpt"
    saved = torch.load(path, weights_only=True)
    for key in ("model.head.weight", "model.head.bias"):
        saved["state_dict"][key] *= FACTOR
    torch.save(saved, path)
    return run


def metrics(run, name):
    return json.loads((run / "evaluation" / name / "metrics.json").read_text())


def test_it_is_fitted_on_val_and_used_where_asked(call, trained, overconfident):
    found = {}
    for run in (trained, overconfident):
        copy = run if run is overconfident else shutil.copytree(run, overconfident.parent / "trained")
        status, out, err = call("evaluate", f"run={copy}", "split=val", "temperature=fit", "overlays=false")
        assert status == 0, err
        path = copy / "evaluation" / "val" / "temperature.json"
        found[run] = json.loads(path.read_text())
        assert f"temperature {found[run]['temperature']:.4f}: NLL {found[run]['nll']:.4f}" in out
        assert found[run]["nll"] == pytest.approx(metrics(copy, "val")["nll"], rel=1e-3)
    assert found[overconfident]["temperature"] == pytest.approx(FACTOR * found[trained]["temperature"], rel=0.02)

    before = (overconfident / "evaluation" / "val" / "metrics.json").read_bytes()
    status, out, err = call("evaluate", f"run={overconfident}", "split=val", "temperature=fitted", "overlays=false")
    assert status == 0, err
    plain, scaled = metrics(overconfident, "val"), metrics(overconfident, "val-temperature-fitted")
    assert scaled["inference"] == {"temperature": found[overconfident]["temperature"]}
    assert scaled["nll"] == pytest.approx(found[overconfident]["nll_with_it"], rel=1e-3)
    assert scaled["nll"] < plain["nll"] and scaled["ece"] < plain["ece"]
    for key in ("miou", "iou", "boundary_iou", "pixel_accuracy", "loss"):
        assert scaled[key] == plain[key]
    assert (
        f"{scaled['ece']:.4f}" in out and (overconfident / "evaluation" / "val" / "metrics.json").read_bytes() == before
    )


def test_predicted_probabilities_have_it(call, overconfident, tmp_path):
    register_resolvers()
    source = instantiate(OmegaConf.load(overconfident / ".hydra" / "config.yaml").data.source, _convert_="all")
    Image.fromarray(source.read("test", 0)[0]).save(tmp_path / "photo.png")
    found = []
    for words in ([], ["--temperature", 2]):
        arguments = [overconfident, tmp_path / "photo.png", "-o", tmp_path / "out", "--probabilities", *words]
        status, _, err = call("predict", *arguments)
        assert (status, err) == (0, "")
        probabilities = np.load(tmp_path / "out" / "probabilities" / "photo.npy").astype(np.float64)
        found.append((probabilities, np.asarray(Image.open(tmp_path / "out" / "masks" / "photo.png"))))
    (sharp, preds), (soft, soft_preds) = found
    assert np.array_equal(preds, soft_preds)
    expected = sharp**0.5
    np.testing.assert_allclose(soft, expected / expected.sum(0), atol=5e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["temperature=fit"], "temperature=fit: add split=val, whose images no score of the test split has seen"),
        (["temperature=warm"], "temperature=warm: give a number from 0.01 to 100, or fitted"),
        (["temperature=1e-40"], "temperature=1e-40: give a number from 0.01 to 100, or fitted"),
        (
            ["temperature=fitted", "flip=true", "window=20", "checkpoint=[best,last]", "scales=[0.5,1]"],
            "temperature=fitted: {run}/evaluation/val-best-last-flip-scales-0.5-1/temperature.json is missing: python "
            "evaluate.py run={run} 'checkpoint=[best,last]' flip=true 'scales=[0.5,1]' split=val temperature=fit "
            "writes it",
        ),
    ],
)
def test_a_mistake_is_one_line(call, trained, words, message):
    status, out, err = call("evaluate", f"run={trained}", *words)
    assert (status, out, err) == (2, "", f"error: {message.format(run=trained)}\n")


def test_a_temperature_beyond_those_that_are_tried_is_said(tmp_path, capsys):
    fit = TemperatureFit(9)
    logits = 200 * torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))
    fit.update(logits, torch.randint(3, (16, 16), generator=torch.Generator().manual_seed(1)))
    write_temperature(fit, tmp_path / "temperature.json", {"split": "val", "num_images": 1, "protocol": "full"})
    assert "the best temperature lies beyond 16, the last that is tried" in capsys.readouterr().out
