"""`seglab predict`: photographs of any kind become masks, and what cannot be read is said."""

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch.nn import functional as F

import seglab
from seglab.data.files import read_image
from seglab.data.reader import resize_image
from seglab.errors import InputError


@pytest.fixture
def resized(trained, tmp_path):
    """Makes a copy of the run `trained` whose config has a `data.resize`."""

    def copy(resize):
        run = shutil.copytree(trained, tmp_path / f"run{resize}")
        config = OmegaConf.load(run / ".hydra" / "config.yaml")
        config.data.resize = resize
        OmegaConf.save(config, run / ".hydra" / "config.yaml")
        return run

    return copy


def test_masks_are_those_of_the_evaluation(call, trained, photographs, tmp_path):
    out = tmp_path / "out"
    status, said, err = call("predict", trained, photographs, "-o", out)
    assert (status, err) == (0, "") and said == f"{out}: 4 of 4 photographs predicted\n"
    for path in (trained / "evaluation" / "test" / "predictions").iterdir():
        expected, found = Image.open(path), Image.open(out / "masks" / path.name)
        assert found.mode == "P" and found.getpalette() == expected.getpalette()
        assert np.array_equal(np.asarray(found), np.asarray(expected))
    assert len(list((out / "overlays").iterdir())) == 4 and not (out / "probabilities").exists()
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][:5] == ["photograph", "mask", "height", "width", "background"] and len(rows) == 5
    for row in rows[1:]:
        mask = np.asarray(Image.open(out / row[1]))
        assert (int(row[2]), int(row[3])) == mask.shape
        assert [float(share) for share in row[4:]] == pytest.approx([(mask == k).mean() for k in range(9)], abs=1e-6)


def test_any_photograph_goes_and_a_bad_one_is_skipped(call, trained, tmp_path):
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (23, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(pixels).save(photos / "turned.jpg", exif=exif)
    Image.fromarray(pixels[..., 0]).save(photos / "turned.png")
    Image.fromarray(pixels[:1, :1]).save(photos / "more" / "dot.tif")
    (photos / "broken.jpg").write_bytes(b"no photograph")
    (photos / "notes.txt").write_text("no photograph either")
    out = tmp_path / "out"
    status, said, err = call("predict", trained, photos, photos / "turned.png", "-o", out, "--no-overlays")
    assert status == 1 and said.endswith("4 of 5 photographs predicted\n")
    skipped, left_out = err.splitlines()
    assert skipped == (
        f"skipped: {photos / 'broken.jpg'}: is not an image that can be read; replace the file or leave it out"
    )
    assert left_out == "left out for their suffix: 1 (1 .txt); save photographs among them as JPEG or PNG"
    sizes = {str(path.relative_to(out / "masks")): Image.open(path).size for path in (out / "masks").rglob("*.png")}
    assert sizes == {
        "turned.png": (23, 40),
        "turned.png.png": (40, 23),
        "turned.png-2.png": (40, 23),
        "more/dot.png": (1, 1),
    }
    assert not (out / "overlays").exists()


def test_a_name_of_dots_and_a_view_of_an_image_are_predicted(call, trained, photographs, tmp_path):
    photo = next(photographs.iterdir())
    shutil.copy(photo, tmp_path / "...png")
    status, _, err = call("predict", trained, tmp_path / "...png", "-o", tmp_path / "out")
    assert (status, err) == (0, "") and len(list((tmp_path / "out" / "overlays").iterdir())) == 1
    network, image = replace(seglab.load(trained, device="cpu"), resize=None), read_image(photo)
    assert np.array_equal(network.predict(image[..., ::-1])[0], network.predict(image[..., ::-1].copy())[0])
    with pytest.raises(InputError, match=r"give RGB as uint8"):
        network.predict(image[:0])


def test_files_left_out_are_counted(call, trained, photographs, tmp_path):
    photos = shutil.copytree(photographs, tmp_path / "photos")
    for name in ("a.heic", "b.HEIC", "c.txt", "d", "e.md", "f.csv", "g.json", "h.xml", ".DS_Store", ".git/config"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).touch()
    for _ in range(2):  # its own files do not count
        status, _, err = call("predict", trained, photos, "-o", photos, "--probabilities")
        assert status == 0 and err.startswith("left out for their suffix: 8 (2 .heic, ") and err.count("\n") == 1
        assert ", ...); save photographs among them as JPEG or PNG" in err
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "a.heic").touch()
    status, _, err = call("predict", trained, tmp_path / "phone", "-o", tmp_path / "out")
    assert status == 2 and "no photograph is given" in err and "1 (1 .heic)" in err and err.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode here")
def test_a_name_may_be_any_bytes(command, trained, photographs, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / os.fsdecode(b"caf\xe9")
    photos.mkdir()
    shutil.copy(next(photographs.iterdir()), photos / os.fsdecode(b"caf\xe9.png"))
    (photos / os.fsdecode(b"\xe9.jpg")).touch()
    (photos / os.fsdecode(b"notes.\xe9")).touch()
    code = f"import sys; from seglab.cli.main import run; run('predict', {[str(trained)]} + sys.argv[1:])"
    line = [sys.executable, "-c", code, photos, "-o", out]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert done.stdout == os.fsencode(f"{out}: 1 of 2 photographs predicted\n")
    assert b"is empty (zero bytes)" in done.stderr and done.stderr.count(b"\n") == 2
    assert Image.open(out / "masks" / os.fsdecode(b"caf\xe9.png")).mode == "P"
    row = (out / "predictions.csv").read_bytes().splitlines()[1]
    assert row.startswith(os.fsencode(photos / os.fsdecode(b"caf\xe9.png")) + b",masks/caf\xe9.png,")


def test_several_runs_augmentation_and_probabilities(call, trained, photographs, tmp_path):
    out = tmp_path / "out"
    words = ["--flip", "--scales", "0.75,1", "--window", "20", "--probabilities"]
    status, _, err = call("predict", trained, trained, photographs, "-o", out, *words)
    assert (status, err) == (0, "")
    for path in (out / "probabilities").iterdir():
        probabilities = np.load(path)
        assert probabilities.dtype == np.float16 and probabilities.shape == (9, 32, 32)
        assert probabilities.astype(np.float64).sum(0) == pytest.approx(np.ones((32, 32)), abs=5e-3)
        mask = np.asarray(Image.open(out / "masks" / f"{path.stem}.png"))
        best = np.take_along_axis(probabilities, mask[None].astype(np.int64), 0)[0]
        assert (best >= probabilities.max(0) - 1e-3).all()


def test_a_shrunk_photograph_is_predicted_at_its_own_size(call, resized, tmp_path):
    run = resized(16)
    Image.fromarray(np.zeros((40, 64, 3), np.uint8)).save(tmp_path / "photo.png")
    for words in ([], ["--probabilities"]):
        status, _, err = call("predict", run, tmp_path / "photo.png", "-o", tmp_path / "out", *words)
        assert (status, err) == (0, "") and Image.open(tmp_path / "out" / "masks" / "photo.png").size == (64, 40)
    assert np.load(tmp_path / "out" / "probabilities" / "photo.npy").shape == (9, 40, 64)


def test_a_network_is_loaded_in_python(call, trained, photographs, tmp_path):
    status, _, err = call("predict", trained, photographs, "-o", tmp_path / "out", "--flip", "--probabilities")
    assert status == 0, err
    network = seglab.load(trained, flip=True)
    assert network.class_names[0] == "background"
    for path in photographs.iterdir():
        preds, probabilities = network.predict(read_image(path), with_probabilities=True)
        assert np.array_equal(preds, np.asarray(Image.open(tmp_path / "out" / "masks" / path.name)))
        assert np.array_equal(probabilities, np.load(tmp_path / "out" / "probabilities" / f"{path.stem}.npy"))
    assert len(seglab.load(trained, checkpoint=("best", "last")).inference.models) == 2
    for runs, said in (([tmp_path], "is not a run folder"), ([], "names no run")):
        with pytest.raises(InputError, match=said):
            seglab.load(*runs)
    wrong = {"scales": 1.25, "temperature": True, "device": "cuda:7"}
    for key, said in {"scales": "give factors", "temperature": "give a number", "device": "cannot be used"}.items():
        with pytest.raises(InputError, match=rf"{key}=.*{said}"):
            seglab.load(trained, **{key: wrong[key]})
    for image in (np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(InputError, match="give RGB as uint8"):
            network.predict(image)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{photos}"], "no run folder is given"),
        (
            ["{run}/checkpoints/best.ckpt", "{photos}"],
            "best.ckpt is a checkpoint: give its run's folder, and --checkpoint",
        ),
        (["{tmp}/nope", "{photos}"], "nope does not exist: give a run folder, a photograph or a folder"),
        (["{run}"], "no photograph is given"),
        (["{run}", "{tmp}/nothing.jpg"], "nothing.jpg does not exist"),
        (["{run}", "{photos}", "--scales", "0,1"], "argument --scales: 0,1 are no factors"),
        (["{run}", "{photos}", "--overlap", "1"], "overlap=1.0: give a share"),
        (["{run}", "{photos}", "--device", "warp"], "warp"),
        (["{run}", "{photos}", "--checkpoint", "beast"], "checkpoint=beast"),
        (["{run}", "{other}", "{photos}"], "have another data.class_names"),
        (["{run}", "{photos}", "-o", "{file}"], "cannot be written ([Errno 17] File exists"),
        (["{run}", "{photos}", "-o", "{file}/below"], "cannot be written ([Errno 20] Not a directory"),
    ],
)
def test_a_mistake_is_one_line(call, trained, photographs, tmp_path, words, message):
    other, file = tmp_path / "other", tmp_path / "file"
    shutil.copytree(trained, other)
    config = json.loads(json.dumps(OmegaConf.to_container(OmegaConf.load(other / ".hydra" / "config.yaml"))))
    config["data"]["class_names"] = [f"class {k}" for k in range(9)]
    OmegaConf.save(config, other / ".hydra" / "config.yaml")
    file.write_text("")
    words = [word.format(run=trained, photos=photographs, tmp=tmp_path, other=other, file=file) for word in words]
    status, out, err = call("predict", *words, *([] if "-o" in words else ["-o", tmp_path / "out"]))
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_logits_are_resized_in_bands_as_they_would_be_whole(resized):
    network = replace(seglab.load(resized(48), window=32), in_bf16=False)
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    preds, probabilities = network.predict(image, with_probabilities=True)
    small = torch.from_numpy(resize_image(image, 48)).permute(2, 0, 1)
    logits = F.interpolate(network.inference(small[None]), (60, 90), mode="bilinear")[0]
    assert (preds == logits.argmax(0).numpy()).mean() > 0.999
    np.testing.assert_allclose(probabilities, logits.softmax(0).numpy(), atol=1e-3)
    assert np.array_equal(network.predict(image)[0], preds)


# A process begins with the peak of the one that started it, and the tests' own is large.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize(("resize", "words"), [(None, ["--overlap", "0.1"]), (320, ["--probabilities"])])
def test_a_photograph_of_24_megapixels_takes_less_than_2_gb(resized, tmp_path, environment, resize, words):
    pixels = np.random.default_rng(0).integers(0, 256, (100, 150, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((6000, 4000)).save(tmp_path / "large.jpg")
    line = [sys.executable, "-m", "seglab", "predict", resized(resize), tmp_path / "large.jpg", "-o", tmp_path / "out"]
    command = [sys.executable, "-c", PEAK, *map(str, line), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) < 2 * 2**20  # KiB
    assert Image.open(tmp_path / "out" / "masks" / "large.png").size == (6000, 4000)
