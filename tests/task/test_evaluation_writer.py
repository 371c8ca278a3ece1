"""What an evaluation writes: scores, a matrix for each image, predictions and overlays."""

import json
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torchmetrics.functional.classification import multiclass_calibration_error

from seglab.task import EvaluationWriter
from seglab.task.boundary import boundary_confusion
from seglab.task.metrics import iou_per_class


def evaluate(task, data, trainer, writer):
    trainer(callbacks=[writer]).test(task, data.eval_dataloader("test"), verbose=False)
    return json.loads((writer.folder / "metrics.json").read_text())


class Cut(pl.Callback):
    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        if batch_idx == 1:
            raise RuntimeError("cut")


def test_an_evaluation_that_is_cut_leaves_the_one_before_it(make_task, make_data, make_trainer, tmp_path):
    def files():
        return {path.relative_to(tmp_path): path.stat().st_ino for path in tmp_path.rglob("*") if path.is_file()}

    data, task, folder = make_data(batch_size=1), make_task(), tmp_path / "out"
    evaluate(task, data, make_trainer, EvaluationWriter(folder, "test", "full"))
    (folder / "temperature.json").touch()
    before = files()
    with pytest.raises(RuntimeError, match="cut"):
        loader = data.eval_dataloader("test")
        make_trainer(callbacks=[EvaluationWriter(folder, "test", "full"), Cut()]).test(task, loader, verbose=False)
    assert before.items() < files().items()  # what was begun lies beside it
    evaluate(task, data, make_trainer, EvaluationWriter(folder, "test", "full", overlays=False))
    after = files()
    assert {path for path in before if path.parts[1] != "overlays"} == set(after)
    same = [path for path in after if after[path] == before[path]]
    assert same == [Path("out/temperature.json")]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_what_is_written_equals_a_recomputation(make_task, make_data, make_trainer, tmp_path, batch_size):
    data, task = make_data(batch_size=batch_size), make_task()
    result = evaluate(task, data, make_trainer, writer := EvaluationWriter(tmp_path / "out", "test", "full"))
    assert result == writer.result
    with np.load(tmp_path / "out" / "confusion.npz") as archive:
        names, matrices = archive["names"], archive["confusion"]
    assert names.tolist() == [f"test_{index:05d}" for index in range(5)] == sorted(data.source.names("test"))
    assert matrices.shape == (5, 9, 9) and matrices.dtype == np.int64
    unions, hits, right, scored = np.zeros(9), np.zeros(9), 0, 0
    images_with = np.zeros(9, dtype=int)
    for index, name in enumerate(names):
        with Image.open(tmp_path / "out" / "predictions" / f"{name}.png") as picture:
            assert picture.mode == "P"
            preds = np.asarray(picture)
        mask = data.source.read("test", index)[1]
        assert preds.shape == mask.shape
        use = mask != 9
        for label in range(9):
            hits[label] += ((preds == label) & (mask == label)).sum()
            unions[label] += (((preds == label) | (mask == label)) & use).sum()
            assert matrices[index, label].sum() == (mask == label).sum()
            images_with[label] += (mask == label).any()
        right, scored = right + (preds == mask)[use].sum(), scored + use.sum()
    iou = [hit / union if union else None for hit, union in zip(hits, unions, strict=True)]
    present = [value for value in iou if value is not None]
    assert result["split"] == "test" and result["protocol"] == "full" and result["num_images"] == 5
    assert list(result["iou"]) == task.class_names
    assert list(result["iou"].values()) == pytest.approx(iou)
    assert result["images_with"] == dict(zip(task.class_names, images_with, strict=True))
    assert 0 < min(images_with[images_with > 0]) < 5  # else counting all images would pass
    assert result["miou"] == pytest.approx(np.mean(present)) and result["classes_scored"] == len(present)
    assert result["pixel_accuracy"] == pytest.approx(right / scored)
    assert (tmp_path / "out" / "confusion.png").stat().st_size > 1000
    assert (tmp_path / "out" / "reliability.png").stat().st_size > 1000


def test_boundary_iou_and_calibration_are_those_of_the_whole_split(make_task, make_data, make_trainer, tmp_path):
    data, task = make_data(), make_task()
    result = evaluate(task, data, make_trainer, EvaluationWriter(tmp_path / "out", "test", "full"))
    task.eval()
    samples = [sample for batch in data.eval_dataloader("test") for sample in batch]
    pairs = [(task.predict_logits(sample), sample["mask"]) for sample in samples]
    boundary = sum(boundary_confusion(logits.argmax(0), mask, 9, 9) for logits, mask in pairs)
    iou = iou_per_class(boundary)[:9]
    assert result["boundary_miou"] == pytest.approx(float(iou.nanmean()))
    assert result["boundary_classes_scored"] == int(iou.isfinite().sum())
    assert list(result["boundary_iou"]) == task.class_names
    with np.load(tmp_path / "out" / "confusion.npz") as arrays:
        assert np.array_equal(arrays["boundary"].sum(0), boundary.numpy()) and len(arrays["boundary"]) == len(samples)
    logits = torch.cat([each.flatten(1) for each, _ in pairs], dim=1).T
    labels = torch.cat([mask.flatten() for _, mask in pairs])
    error = multiclass_calibration_error(logits.softmax(1), labels, 9, 15, ignore_index=9)
    assert result["ece"] == pytest.approx(error.item(), abs=1e-6) and result["nll"] == pytest.approx(result["loss"])


def test_the_loss_is_that_of_all_scored_pixels(make_task, make_data, make_trainer, tmp_path):
    data, task = make_data(), make_task()
    result = evaluate(task, data, make_trainer, EvaluationWriter(tmp_path / "out", "test", "full"))
    task.eval()
    samples = [sample for batch in data.eval_dataloader("test") for sample in batch]
    logits = torch.cat([task.predict_logits(sample).flatten(1) for sample in samples], dim=1)
    mask = torch.cat([sample["mask"].flatten() for sample in samples])
    assert result["loss"] == pytest.approx(
        torch.nn.functional.cross_entropy(logits.T, mask, ignore_index=9).item(), rel=1e-5
    )


def test_outside_the_central_window_nothing_is_predicted(make_task, make_data, make_trainer, tmp_path):
    data, task = make_data(crop_size=10, protocol="center_crop"), make_task()
    result = evaluate(task, data, make_trainer, EvaluationWriter(tmp_path / "out", "test", "center_crop"))
    assert result["protocol"] == "center_crop"
    inside = np.zeros((24, 24), bool)
    inside[7:17, 7:17] = True
    for path in sorted((tmp_path / "out" / "predictions").iterdir()):
        preds = np.asarray(Image.open(path))
        assert (preds[~inside] == 255).all() and (preds[inside] < 9).all()
        assert Image.open(tmp_path / "out" / "overlays" / path.name).size == (10, 10)
    with np.load(tmp_path / "out" / "confusion.npz") as archive:
        masks = [data.source.read("test", index)[1][inside] for index in range(5)]
        assert archive["confusion"].sum((1, 2)).tolist() == [int((mask != 9).sum()) for mask in masks]


def test_predictions_have_the_label_s_size_where_the_image_is_shrunk(make_task, make_data, make_trainer, tmp_path):
    writer = EvaluationWriter(tmp_path / "out", "test", "full", overlays=False)
    evaluate(make_task(), make_data(resize=10, crop_size=10), make_trainer, writer)
    assert {Image.open(path).size for path in Path(tmp_path / "out" / "predictions").iterdir()} == {(24, 24)}
    assert not (tmp_path / "out" / "overlays").exists()
