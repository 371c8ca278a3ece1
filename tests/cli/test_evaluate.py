"""What evaluate.py says of a run, against the figures recomputed from its own files and the raw label images."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

VOC_VALUES = [0, 8, 9, 10, 12, 13, 15, 17, 18]  # background, cat, chair, cow, dog, horse, person, sheep, sofa


@pytest.fixture(scope="module")
def voc_subset(voc9_288, tmp_path_factory):
    """Some of the real photographs: 8 to train, 5 to validate, 9 to test."""
    root = tmp_path_factory.mktemp("voc") / "voc9_subset"
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split, count in (("train", 8), ("val", 5), ("test", 9)):
        names = (voc9_288 / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()[:count]
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for folder, suffix in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png")):
            (root / folder).mkdir(exist_ok=True)
            for name in names:
                shutil.copy(voc9_288 / folder / f"{name}{suffix}", root / folder)
    return root


@pytest.fixture(scope="module")
def run(command, voc_subset, tmp_path_factory):
    """A pocket network trained for an epoch on shrunk photographs, scored at the labels' own size."""
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    words = ["data=voc9", f"data.root={voc_subset}", "data.resize=72", "data.crop_size=64", "data.batch_size=4"]
    words += ["model=unet4", "model.width=0.05", "trainer.max_epochs=1", "logger=csv", f"hydra.run.dir={folder}"]
    done = command("train.py", *words)
    assert done.returncode == 0, done.stderr
    return folder


def recomputed_miou(predictions, root):
    """mIoU from the PNGs of predictions and of VOC's labels alone."""
    confusion = np.zeros((9, 9), int)
    for path in predictions.glob("*.png"):
        preds = np.array(Image.open(path))
        raw = np.array(Image.open(root / "SegmentationClass" / path.name))
        assert preds.shape == raw.shape
        for label, value in enumerate(VOC_VALUES):
            for predicted in range(9):
                confusion[label, predicted] += int(((raw == value) & (preds == predicted)).sum())
    union = confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    return np.mean(np.diag(confusion)[union > 0] / union[union > 0])


@pytest.mark.parametrize("protocol", ["full", "center_crop"])
def test_miou_is_that_of_the_written_predictions_and_the_same_for_any_batch_size(call, run, voc_subset, protocol):
    found = []
    for batch_size in (1, 7):
        status, out, err = call("evaluate", f"run={run}", f"protocol={protocol}", f"data.batch_size={batch_size}")
        assert status == 0, err
        folder = run / "evaluation" / ("test" if protocol == "full" else "test-center_crop")
        assert out.splitlines()[-1] == str(folder)
        result = json.loads((folder / "metrics.json").read_text())
        assert (result["protocol"], result["split"], result["num_images"]) == (protocol, "test", 9)
        found.append(result["miou"])
        assert result["miou"] == pytest.approx(recomputed_miou(folder / "predictions", voc_subset), abs=1e-6)
        stored = np.load(folder / "confusion.npz")
        assert stored["confusion"].shape == (9, 9, 9) and len(stored["names"]) == 9
        assert len(list((folder / "overlays").glob("*.png"))) == 9
        assert Image.open(folder / "confusion.png").size[0] > 300
        for name, iou in result["iou"].items():
            assert f"{name}" in out and (iou is None or f"{iou:.4f}" in out)
    assert found[0] == found[1]
    left_out = (np.array(Image.open(next((folder / "predictions").glob("*.png")))) == 255).any()
    assert left_out == (protocol == "center_crop")


def test_evaluating_again_gives_the_figure_of_the_end_of_training(call, run):
    summary = json.loads((run / "summary.json").read_text())
    status, _, err = call("evaluate", f"run={run}", "overlays=false")
    assert status == 0, err
    again = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    assert again["miou"] == pytest.approx(summary["test_miou"], abs=1e-9)


def test_another_dataset_and_checkpoint_go_to_folders_of_their_own(call, run, voc_subset, tmp_path):
    before = (run / "evaluation" / "test" / "metrics.json").read_text()
    other = shutil.copytree(voc_subset, tmp_path / "other")
    status, out, err = call("evaluate", f"run={run}", f"data.root={other}", "split=val", "checkpoint=last")
    assert status == 0 and out.splitlines()[-1] == str(run / "evaluation" / "val-last"), err  # it has only moved
    photo = other / "JPEGImages" / f"{(other / 'ImageSets' / 'Segmentation' / 'train.txt').read_text().split()[0]}.jpg"
    Image.open(photo).rotate(180).save(photo)
    status, _, err = call("evaluate", f"run={run}", f"data.root={other}", "split=val", "checkpoint=last")
    assert status == 0 and "warning" not in err, err
    (folder,) = (run / "evaluation").glob("val-last-other-*")
    result = json.loads((folder / "metrics.json").read_text())
    assert (result["split"], result["num_images"]) == ("val", 5)
    assert (run / "evaluation" / "test" / "metrics.json").read_text() == before


def test_a_dataset_that_has_changed_is_another_one(call, run, voc_subset, tmp_path):
    before = (run / "evaluation" / "test" / "metrics.json").read_text()
    moved = shutil.copytree(run, tmp_path / "run")
    other = shutil.copytree(voc_subset, tmp_path / "other")
    config = moved / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace(str(voc_subset), str(other)))
    lists = other / "ImageSets" / "Segmentation"
    (lists / "test.txt").write_text((lists / "test.txt").read_text() + (lists / "train.txt").read_text())
    status, _, err = call("evaluate", f"run={moved}", "overlays=false")
    assert status == 2 and f"data.root={other} has changed since {moved} was trained on it" in err
    assert (moved / "evaluation" / "test" / "metrics.json").read_text() == before
    status, _, err = call("evaluate", f"run={moved}", f"data.root={other}", "overlays=false")
    assert status == 0 and "was trained on images that are scored here" in err
    assert (moved / "evaluation" / "test" / "metrics.json").read_text() == before
    (other / "JPEGImages" / f"{(lists / 'val.txt').read_text().split()[0]}.jpg").unlink()
    status, _, err = call("evaluate", f"run={moved}", f"data.root={other}", "overlays=false")
    assert status == 0, err  # what is not scored need not be there


def test_a_test_split_that_is_the_val_split_is_said(call, voc_subset, tmp_path):
    words = ["data=voc9", f"data.root={voc_subset}", "data.splits.test=val", "data.resize=72", "data.crop_size=64"]
    words += ["logger=csv", "trainer.max_epochs=1"]
    status, _, err = call("train", "model=unet4", "model.width=0.02", *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert status == 0, err
    said = "the test split is the val split"
    assert said in (tmp_path / "run" / "train.log").read_text()
    status, out, err = call("compare", tmp_path / "run")
    assert status == 0 and "The test split is the val split (data.splits)" in out + err


def test_another_dataset_is_split_as_it_is_told_and_fits_no_temperature(call, run, voc_subset, tmp_path):
    other = shutil.copytree(voc_subset, tmp_path / "other")
    status, _, err = call("evaluate", f"run={run}", f"data.root={other}", "overlays=false", "data.splits={test: train}")
    assert status == 0, err
    assert f"warning: {run} was trained on images that are scored here" in err
    (folder,) = (run / "evaluation").glob("test-other-*")
    listed = (other / "ImageSets" / "Segmentation" / "train.txt").read_text().split()
    assert sorted(path.stem for path in (folder / "predictions").iterdir()) == sorted(listed)
    status, _, err = call("evaluate", f"run={run}", "data.splits={test: train}")
    assert (status, err.startswith("error: data.splits is of another dataset: add data.root=PATH")) == (2, True)

    fit = ["split=val", "temperature=fit", "overlays=false"]
    status, _, err = call("evaluate", f"run={run}", f"data.root={other}", *fit)  # the same data in another place
    assert status == 0, err
    fitted = (run / "evaluation" / "val" / "temperature.json").read_text()
    photo = next((other / "JPEGImages").iterdir())
    Image.open(photo).rotate(180).save(photo)
    status, _, err = call("evaluate", f"run={run}", f"data.root={other}", *fit)
    assert status == 2 and "temperature=fit: data.root is another dataset than the run's" in err
    status, _, err = call("evaluate", f"run={run}", "trainer.limit_test_batches=1", *fit)
    assert status == 2 and "temperature=fit is that of the whole val split" in err
    assert (run / "evaluation" / "val" / "temperature.json").read_text() == fitted


def test_another_precision_goes_to_a_folder_of_its_own(call, run):
    own = (run / "evaluation" / "test" / "metrics.json").read_text()
    used = json.loads((run / "summary.json").read_text())["precision"]
    other = "32-true" if used == "bf16-mixed" else "bf16-mixed"
    status, _, err = call("evaluate", f"run={run}", f"trainer.precision={other}", "overlays=false")
    assert status == 0, err
    result = json.loads((run / "evaluation" / f"test-precision-{other}" / "metrics.json").read_text())
    assert result["inference"] == {"precision": other}
    assert (run / "evaluation" / "test" / "metrics.json").read_text() == own
