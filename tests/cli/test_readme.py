"""Every command of the README runs: the two of setting up in CI, all others here, shortened."""

import json
import math
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"(<!-- ci: \w+ -->\n)?```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for marked, block in BLOCKS if not marked for line in block.splitlines()]
SHORT = ["model=unet4", "model.width=0.02", "data.crop_size=32", "data.batch_size=2", "logger=csv", "seed=1"]
SHORT += ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1"]
SHORT += ["trainer.limit_test_batches=1"]
SCENES = ["data.source.train=4", "data.source.val=2", "data.source.test=2"]


def write_pairs(root, images, masks, suffix, encode):
    for number in range(12):
        mask = np.random.default_rng(number).integers(0, 3, (4, 6), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
        for folder in (images, masks):
            (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.dstack([mask * 90] * 3)).save(root / images / f"p{number:02d}.jpg")
        encode(mask).save(root / masks / f"p{number:02d}{suffix}")


@pytest.fixture
def place(tmp_path):
    """What the README's words stand for: photos/ with index masks or RGB ones, VOC in the devkit's layout."""
    colors = np.array([[0, 0, 0], [64, 0, 0], [64, 0, 128]], np.uint8)
    write_pairs(tmp_path / "photos", "images", "masks", ".png", Image.fromarray)
    write_pairs(tmp_path / "rgb", "images", "masks", ".png", lambda mask: Image.fromarray(colors[mask]))
    voc_values = np.array([0, 8, 12], np.uint8)
    write_pairs(
        tmp_path / "VOC", "JPEGImages", "SegmentationClass", ".png", lambda mask: Image.fromarray(voc_values[mask])
    )
    lists = tmp_path / "VOC" / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for start, split in enumerate(("train", "val", "test")):
        (lists / f"{split}.txt").write_text("".join(f"p{n:02d}\n" for n in range(4 * start, 4 * start + 4)))
    return tmp_path


def test_the_readme_holds_the_commands_of_the_promise():
    assert "python train.py model=unet6 augment=albu" in COMMANDS
    assert "python train.py -m optimizer.weight_decay=1e-2,1e-4,1e-6" in COMMANDS
    assert len(COMMANDS) >= 12


@pytest.mark.parametrize("line", [line for line in COMMANDS if " -m " not in line and "sweep=" not in line])
def test_command_runs(line, place, call, trained):
    first, *words = shlex.split(line)
    if first == "python":
        first, words = words[0].removesuffix(".py"), words[1:]
    else:
        assert first == "seglab"
        first, words = words[0], words[1:]
    run = place / "copied"
    if "RUN" in line:
        shutil.copytree(trained, run)
    root = place / ("rgb" if "{background" in line else "photos")
    if "SWEEP" in line:
        for seed in (0, 1):
            shutil.copytree(trained, place / "sweep" / f"seed={seed}")
            config = place / "sweep" / f"seed={seed}" / ".hydra" / "resolved.json"
            config.write_text(json.dumps(json.loads(config.read_text()) | {"seed": seed}))
    words = [word.replace("SWEEP", str(place / "sweep")) for word in words]
    words = [
        place / word if word in ("comparison.md", "report.html", "samples.png", "predictions") else word
        for word in words
    ]
    words = [place / "photos" / "images" if word == "new_photos" else word for word in words]
    words = [str(word).replace("RUN", str(run)).replace("=VOC", f"={place / 'VOC'}") for word in words]
    words = [word.replace("root=photos", f"root={root}").replace("crops", str(place / "crops")) for word in words]
    words = [word for word in words if not word.startswith("trainer.max_epochs")] + (
        ["trainer.max_epochs=3"] if "trainer.max_epochs" in line else []
    )
    if first == "train" and "resume" not in line:
        given = {word.split("=")[0] for word in words}
        if "experiment=pretrained" in words:  # its network stays, and its weights are not fetched
            torch.save(timm.create_model("tf_efficientnet_lite2").state_dict(), place / "weights.pth")
            words += [f"model.encoder.weights={place / 'weights.pth'}", "trainer.check_val_every_n_epoch=1"]
            given.add("model")
        words += [word for word in SHORT if word.split("=")[0] not in given]
        words += [f"hydra.run.dir={run}", *([] if "data=" in line else SCENES)]
        words += ["model.width=0.02"]
    if "crop_size=128" in line:
        words = ["data.crop_size=32" if word == "data.crop_size=128" else word for word in words]
    status, out, err = call(first, *dict.fromkeys(words))
    assert status == 0, err
    if first == "train":
        assert (run / "summary.json").read_text().count('"status": "finished"') == 1
    elif first == "samples":
        assert Image.open(place / "samples.png").width > 100
    elif first == "stats":
        assert all(name in out for name in ("background", "cat", "dog"))
    elif words[0] == "predict":
        assert len(list((place / "predictions" / "masks").rglob("*.png"))) == 12
    elif first == "crop":
        assert len(list((place / "crops" / "images" / "train").iterdir())) % 5 == 0


@pytest.mark.parametrize("line", [line for line in COMMANDS if " -m " in line or "sweep=" in line])
def test_sweep_starts_each_job(line, place, call):
    """What a job does is tests/cli/test_sweep.py's; here each is planned, started and refused with its data at hand."""
    words = [word.replace("=VOC", f"={place / 'VOC'}") for word in shlex.split(line)[2:]]
    words = [word.replace("root=photos", f"root={place / 'photos'}") for word in words]
    words += [] if "crop_size=" in line else ["data.crop_size=32"]
    status, _, err = call("train", *words, "trainer.limit_val_batches=1e-6", f"hydra.sweep.dir={place / 'sweep'}")
    assert status == 1, err
    lists = [word.split("=")[1] for word in words if "," in word and "[" not in word]
    varied = [values.split(",") for values in lists] or [range(5)]  # sweep=dropout has five
    jobs = [place / "sweep" / job["folder"] for job in json.loads((place / "sweep" / "sweep.json").read_text())]
    assert len(set(jobs)) == math.prod(map(len, varied))
    for job in jobs:
        assert "trainer.limit_val_batches=1e-06 of" in (job / "output.log").read_text()
        assert f"{job.name}: failed" in err


def test_the_python_example_runs(place, trained):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    exec(code.replace("RUN", str(trained)).replace("photo.jpg", str(place / "photos/images/p00.jpg")), names)
    assert names["classes"].shape == (40, 60) and names["classes"].max() < len(names["network"].class_names)
