"""`seglab samples` against the samples that training draws."""

import numpy as np
import pytest
from PIL import Image

from seglab.cli.build import build_datamodule
from seglab.cli.data_command import compose_data
from seglab.task.pictures import BOUNDARY_COLOR

SMALL_SHAPES = ["data=shapes", "data.source.train=12", "data.source.val=4", "data.source.test=4"]
SMALL_SHAPES += ["data.crop_size=32", "data.batch_size=4"]
WORDS = [*SMALL_SHAPES, "augment=strong", "mix=copy_paste", "mix.p=1", "data.scale=[0.5,2.0]", "seed=3"]
GAP, HEADING, STEP = 6, 22, 2 * 32 + 22


def test_the_sheet_shows_the_samples_of_training(call, tmp_path):
    out = tmp_path / "sheet.png"
    status, said, fault = call("samples", *WORDS, "--images", 3, "--epochs", 4, "--side", 32, "-o", out)
    assert status == 0 and f"{out}: 196 x" in said, fault
    sheet = np.asarray(Image.open(out))
    dataset = build_datamodule(compose_data(WORDS)).train_dataset

    def tiles(row, column):
        top, left = HEADING + row * STEP, GAP + column * (32 + GAP)
        return sheet[top : top + 32, left : left + 32], sheet[top + 32 : top + 64, left : left + 32]

    for row, index in enumerate((0, 6, 11)):  # spread over the 12 scenes
        image, _ = dataset.reader[index]
        assert np.array_equal(tiles(row, 0)[0], image)
        for epoch in range(4):
            sample = dataset[epoch, index]
            picture, laid_over = tiles(row, 1 + epoch)
            assert np.array_equal(picture, sample["image"].permute(1, 2, 0))
            mask = sample["mask"].numpy()
            assert (laid_over[mask == 9] == BOUNDARY_COLOR).all()
            assert np.array_equal(laid_over[mask == 0], picture[mask == 0])
            assert (laid_over != picture).any(2)[(mask > 0) & (mask < 9)].mean() > 0.9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "sheet.gif"], "--out sheet.gif: give a file that ends in .png or .jpg"),
        (["-o", "/nowhere/sheet.png"], "--out /nowhere/sheet.png: cannot be written (No such file or directory)"),
        (["--images", "0"], "argument --images: 0 is not a whole number above 0"),
        (["mix=copypaste"], "mix=copypaste is not known: did you mean copy_paste? the choices are"),
        (
            ["mix=copy_paste", "mix.objects=[disk]"],
            "mix.objects=disk: give one or more of the classes background, disc",
        ),
        (["mix=cutmix", "mix.p=2"], "mix.p=2: give a number from 0 to 1"),
        (["data.scale=2"], "data.scale=2: give the least and the largest factor, from 0.1 to 10, as [0.5, 2.0]"),
        (["data.repeat_threshold=0"], "data.repeat_threshold=0: give a share of the images, above 0 to 1"),
    ],
)
def test_a_mistake_is_one_line(call, words, message):
    status, said, fault = call("samples", *SMALL_SHAPES, *words)
    assert (status, said) == (2, "")
    assert fault.strip().splitlines()[-1].startswith(f"error: {message}")


def test_help_has_an_example_and_the_keys(call):
    status, said, _ = call("samples", "--help")
    assert status == 0
    assert "seglab samples data=voc9 data.root=PATH augment=strong mix=copy_paste -o samples.png" in said
    assert "data.scale=[0.5,2.0]" in said and "--epochs" in said


def test_a_run_with_everything_on_trains(call, tmp_path):
    words = [*WORDS, "model=unet4", "model.width=0.02", "logger=csv", "trainer.max_epochs=1"]
    words += ["data.crop_sizes=[16,32]", "data.repeat_threshold=1", f"hydra.run.dir={tmp_path / 'run'}"]
    status, said, fault = call("train", *words)
    assert status == 0, said + fault
    assert (tmp_path / "run" / "summary.json").is_file()
