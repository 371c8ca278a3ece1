"""Every mistake of a user ends before training, in a line that names what is wrong and what to do, with status 2."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

FOLDER = ["data=folder", "data.classes=[a,b,c]", "model=unet4", "model.width=0.02", "logger=csv", "data.crop_size=32"]


def edit(folder, kind, name, content):
    path = folder / kind / name
    path.write_bytes(content) if isinstance(content, bytes) else Image.fromarray(content).save(path)
    return path


def test_missing_root(refused, tmp_path):
    assert "data.root is not given: add data.root=VALUE" in refused("train", *FOLDER)
    said = refused("train", *FOLDER, f"data.root={tmp_path / 'nowhere'}")
    assert str(tmp_path / "nowhere") in said


def test_empty_split(refused, folder):
    (folder / "train.txt").write_text("\n".join(f"p{i:02d}" for i in range(12)) + "\n")
    (folder / "val.txt").write_text("")
    (folder / "test.txt").write_text("p00\n")
    said = refused("train", *FOLDER, f"data.root={folder}")
    assert "val" in said and "empty" in said


def test_image_without_label_and_label_without_image_are_both_listed(refused, folder):
    (folder / "masks" / "p03.png").unlink()
    (folder / "images" / "p07.jpg").unlink()
    said = refused("train", *FOLDER, f"data.root={folder}")
    assert "p03" in said and "p07" in said


def test_sizes_that_differ(refused, folder):
    path = edit(folder, "masks", "p05.png", np.zeros((40, 40), np.uint8))
    said = refused("train", *FOLDER, f"data.root={folder}")
    assert str(path) in said and "40x40" in said and "48x40" in said


def test_label_value_outside_the_table(refused, folder):
    mask = np.zeros((40, 48), np.uint8)
    mask[0, :7] = 77
    path = edit(folder, "masks", "p02.png", mask)
    said = refused("train", *FOLDER, f"data.root={folder}")
    assert str(path) in said and "77" in said and "7 " in said


def test_all_faults_of_a_dataset_are_listed_truncated_and_empty_files_too(refused, folder):
    whole = (folder / "images" / "p01.jpg").read_bytes()
    truncated = edit(folder, "images", "p01.jpg", whole[: len(whole) // 2])
    empty = edit(folder, "images", "p04.jpg", b"")
    said = refused("train", *FOLDER, f"data.root={folder}")
    assert str(truncated) in said and str(empty) in said
    assert len(said.strip().splitlines()) == 2


def test_unreadable_checkpoint(refused, trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    best = copy / "checkpoints" / "best.ckpt"
    best.write_bytes(best.read_bytes()[:1000])
    said = refused("evaluate", f"run={copy}")
    assert str(best) in said and "damaged" in said
    said = refused("evaluate", f"run={copy}", "checkpoint=nothing.ckpt")
    assert "nothing.ckpt does not exist" in said
    assert f"{copy} is a folder; give best, last or a path" in refused("evaluate", f"run={copy}", f"checkpoint={copy}")
    last, before = [*(copy / "checkpoints").glob("last*.ckpt")], (copy / "summary.json").read_text()
    for path in last:
        path.write_bytes(path.read_bytes()[:1000])
    said = refused("train", f"resume={copy}", "trainer.max_epochs=9")
    assert "cannot be read as a checkpoint (" in said and "restore the file, or train again" in said
    for path in last:
        path.unlink()
    assert "has no checkpoint to go on from: start it anew" in refused("train", f"resume={copy}")
    assert (copy / "summary.json").read_text() == before


def test_a_folder_that_is_no_run(refused, tmp_path):
    assert "is not a run folder" in refused("evaluate", f"run={tmp_path}")
    assert "is not a run folder" in refused("train", f"resume={tmp_path}")
    assert "run is not given" in refused("evaluate")
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("a: [")
    assert "config.yaml cannot be read (while parsing" in refused("evaluate", f"run={tmp_path}")
    (tmp_path / ".hydra" / "config.yaml").write_text("")
    assert "config.yaml cannot be read (other content)" in refused("evaluate", f"run={tmp_path}")


def test_another_dataset_of_other_classes(refused, trained, folder):
    said = refused("evaluate", f"run={trained}", f"data.root={folder}")
    assert "data.root" in said


def test_lists_that_are_none(refused, folder):
    assert "data.classes=cat: give a list of names, '[background,cat]'" in refused(
        "train", "data=folder", f"data.root={folder}", "data.classes=cat"
    )
    assert "data.ignore=255: give a list, such as [255]" in refused(
        "train", *FOLDER, f"data.root={folder}", "data.ignore=255"
    )


def test_crop_larger_than_allowed(refused, folder):
    said = refused("train", *FOLDER, f"data.root={folder}", "data.crop_size=4096")
    assert "data.crop_size=4096" in said and "48x40" in said


def test_weights_list_of_the_wrong_length(refused):
    said = refused("train", "loss.class_weights=[1,2,3]", "logger=csv")
    assert "loss.class_weights has 3 weights for 9 classes" in said
    assert "loss.class_weights=area" in refused("train", "loss.class_weights=area", "logger=csv")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.width=0.5"], "another network"),
        (["optimizer.lr=0.5"], "optimizer.lr=0.5 (was 0.001) cannot change within a run"),
        (["optimizer=sgd"], "optimizer._target_=torch.optim.SGD (was torch.optim.Adam)"),
        (["seed=7"], "seed=7 (was 0) cannot change"),
        (["callbacks.best.monitor=val/loss", "callbacks.best.mode=min"], "callbacks.best.monitor=val/loss (was "),
        (["trainer.accumulate_grad_batches=2"], "trainer.accumulate_grad_batches=2 (was 1) cannot change"),
        (["data.source.train=5"], "data.source.train=5 (was "),
        (["trainer.max_epochs=1"], "epoch 2 has begun already: give trainer.max_epochs=2 or more"),
        (["max_images=8"], "epoch 2 has begun already: give max_images=13 or more"),
    ],
)
def test_resuming_by_another_config(refused, trained, words, said):
    kept = [trained / "summary.json", *(trained / ".hydra").iterdir()]
    before = [path.read_text() for path in kept]
    assert said in refused("train", f"resume={trained}", *words)
    assert [path.read_text() for path in kept] == before


@pytest.mark.parametrize("word", ["trainer.precision=foo", "trainer.strategy=foo", "data.num_workers=-3"])
def test_a_word_that_is_refused_late_leaves_a_run_as_it_was(refused, trained, word):
    kept = [trained / "summary.json", *(trained / ".hydra").iterdir()]
    before = [path.read_text() for path in kept]
    assert word.partition("=")[0].rpartition(".")[2] in refused("train", f"resume={trained}", word)
    assert [path.read_text() for path in kept] == before


@pytest.mark.parametrize("name", ["checkpoints/best.ckpt", "metrics.csv"])
def test_resuming_without_the_best_checkpoint_or_the_table(refused, trained, tmp_path, name):
    copy = shutil.copytree(trained, tmp_path / "copy")
    (copy / name).unlink()
    said = refused("train", f"resume={copy}", "trainer.max_epochs=9")
    assert f"{copy / name} is missing: restore it, or start a new run" in said


def test_resuming_goes_with_options_but_for_several_runs(call, refused, trained):
    status, out, err = call("train", f"resume='{trained}'", "--cfg", "job")
    assert status == 0 and f"resume: {trained}" in out, err
    assert "goes on with one run: leave out -m" in refused("train", "-m", f"resume={trained}", "seed=0,1")


def test_resuming_on_other_data(refused, trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "copy")
    summary = json.loads((copy / "summary.json").read_text()) | {"data_fingerprint": "0"}
    (copy / "summary.json").write_text(json.dumps(summary))
    kept = [copy / "summary.json", *(copy / ".hydra").iterdir()]
    before = [path.read_text() for path in kept]
    said = refused("train", f"resume={copy}", "trainer.max_epochs=9")
    assert "the dataset has changed since the run began" in said
    assert [path.read_text() for path in kept] == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["callbacks.best.monitor=val/loss"], "callbacks.best.monitor=val/loss with mode=max takes the worst"),
        (
            ["callbacks.best.monitor=train/loss"],
            "callbacks.best.monitor=train/loss: the best epoch is one of validation",
        ),
        (
            ["callbacks=early_stopping", "callbacks.early_stopping.monitor=val/loss"],
            "add callbacks.early_stopping.mode=min",
        ),
        (["scheduler=plateau", "scheduler.monitor=val/miou"], "add scheduler.mode=max"),
        (["callbacks.best.monitor=null"], "callbacks.best.monitor=null: give one of lr, images_seen, "),
        (["scheduler=plateau", "scheduler.monitor=null"], "scheduler.monitor=null: give one of lr, images_seen, "),
        (["callbacks.best=null"], "callbacks.best=null: a run's record is made of it"),
        (["callbacks.throughput=null"], "callbacks.throughput=null: a run's record is made of it"),
        (["callbacks.strips.num_images=0"], "callbacks.strips.num_images=0: give 1 or more"),
        (["callbacks.strips.every_n_epochs=0"], "callbacks.strips.every_n_epochs=0: give 1 or more"),
        (["trainer.precision=bf16-true"], "trainer.precision=bf16-true keeps sums and averages in 16 bits"),
        (["model.width=inf"], "widths and their multiplier must be positive"),
        (["trainer.limit_train_batches=0.1"], "trainer.limit_train_batches=0.1 of 2 batches is less than one"),
        (["trainer.limit_test_batches=0.5"], "trainer.limit_test_batches=0.5 of 1 batches is less than one"),
        (["max_images=40", "trainer.limit_train_batches=1"], "max_images counts whole epochs, trainer.limit_train_"),
        (["+trainer.overfit_batches=2"], "trainer.overfit_batches is not taken: give trainer.limit_train_batches=2"),
        (
            ["model/decoder=deeplabv3plus", "data.batch_size=1", "data.crop_size=32", "data.resize=32"],
            "data.batch_size=1: BatchNorm cannot learn from one value of a channel",
        ),
        (["data.cache_mb=null"], "data.cache_mb=None: give 0 or more MiB"),
        (["trainer.limit_train_batches=0"], "trainer.limit_train_batches=0 leaves nothing to train on"),
        (["model.auxiliary_weights=0.4"], "model.auxiliary_weights=0.4: give weights by stride, such as 'model.aux"),
        (["model.auxiliary_weights={16: a}"], "model.auxiliary_weights={16: 'a'}: give weights by stride, such as"),
        (
            ["experiment=pretrained", "data=shapes", "model=unet6"],
            "model=unet6 has no backbone to tune; leave it out, or take a",
        ),
    ],
)
def test_what_would_fail_or_mislead_later_is_refused(refused, words, said, tmp_path):
    scenes = ["data.source.train=40", "data.source.val=2", "data.source.test=2", "model.width=0.05"]
    assert said in refused("train", "logger=csv", *scenes, *words, f"hydra.run.dir={tmp_path / 'run'}")


def test_a_checkpoint_of_another_network(refused, trained, tmp_path):
    import torch

    torch.save({"state_dict": {"model.head.weight": torch.zeros(1)}}, tmp_path / "other.ckpt")
    said = refused("evaluate", f"run={trained}", f"checkpoint={tmp_path / 'other.ckpt'}")
    assert "other.ckpt is not of this run's network" in said


def test_a_folder_that_holds_a_run_is_not_written_over(refused, trained):
    kept = [trained / "summary.json", *(trained / ".hydra").iterdir(), trained / "metrics.csv"]
    before = [path.read_text() for path in kept]
    said = refused("train", "logger=csv", "model=unet6", f"hydra.run.dir={trained}")
    assert "already holds a run" in said and "resume=" in said
    assert [path.read_text() for path in kept] == before


@pytest.mark.parametrize(
    "key, words",
    [("hydra.run.dir", []), ("hydra.sweep.dir", ["-m", "seed=0,1"])],
)
def test_a_folder_that_cannot_be_made(refused, tmp_path, key, words):
    (tmp_path / "file").write_text("mine")
    said = refused("train", "logger=csv", *words, f"{key}={tmp_path / 'file' / 'run'}")
    assert said == f"error: {key}={tmp_path / 'file' / 'run'} cannot be made (Not a directory): give another {key}\n"
    assert (tmp_path / "file").read_text() == "mine"


def test_as_a_user_sees_it(command, tmp_path):
    done = command("train.py", "data=voc9", "data.root=/nowhere", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and done.stderr.strip().count("\n") == 0
    done = command("-m", "seglab", "tarin")
    assert done.returncode == 2 and "did you mean train" in done.stderr
