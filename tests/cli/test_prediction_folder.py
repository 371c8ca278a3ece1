"""The folder that `seglab predict` writes: one set, and no file of another origin lost."""

import shutil

import numpy as np
import pytest
from PIL import Image

from seglab.cli.predict import save_overlay
from seglab.cli.prediction_folder import LARGEST_JPEG


def test_label_images_are_never_written_over(call, trained, photographs, tmp_path):
    shutil.copytree(photographs, tmp_path / "masks")
    before = {path.name: path.read_bytes() for path in (tmp_path / "masks").iterdir()}
    status, out, err = call("predict", trained, photographs, "-o", tmp_path)
    assert (status, out) == (2, "") and err == (
        f"error: -o {tmp_path}: {tmp_path / 'masks'} has files that seglab predict did not write; give another folder\n"
    )
    assert {path.name: path.read_bytes() for path in (tmp_path / "masks").iterdir()} == before


def test_a_folder_holds_one_set_and_loses_no_file_of_another_origin(call, trained, photographs, tmp_path):
    photos, out = sorted(photographs.iterdir()), tmp_path / "out"
    names = [path.stem for path in photos]
    status, _, err = call("predict", trained, *photos[:3], "-o", out, "--probabilities")
    assert (status, err) == (0, "")
    for own in ("masks/mine.png", f"overlays/{names[0]}.png", "notes.txt"):
        shutil.copy(photos[0], out / own)
    with (out / "predictions.csv").open("a") as table:
        table.write(f"x,masks/../../kept.png,1,1,1\nx,masks/{tmp_path}/kept.png,1,1,1\nx,masks/cut.png,1")
    shutil.copy(photos[0], tmp_path / "kept.png")
    status, _, err = call("predict", trained, *photos[2:], "-o", out)
    assert (status, err) == (0, "") and (tmp_path / "kept.png").exists()
    left = {str(path.relative_to(out)) for path in out.rglob("*.*")}
    predicted = {f"{kind}/{name}.{end}" for kind, end in (("masks", "png"), ("overlays", "jpg")) for name in names[2:]}
    assert left == {*predicted, "predictions.csv", "masks/mine.png", f"overlays/{names[0]}.png", "notes.txt"}

    status, _, err = call("predict", trained, *photos, "-o", out)
    own = out / "overlays" / f"{names[0]}.png"
    assert status == 2 and f"{own} is of no row of predictions.csv; give another folder, or remove it" in err
    (tmp_path / "predictions.csv").write_text("image,label\n")
    status, _, err = call("predict", trained, *photos, "-o", tmp_path)
    assert status == 2 and f"seglab predict did not write {tmp_path / 'predictions.csv'}; give another folder" in err
    assert {str(path.relative_to(out)) for path in out.rglob("*.*")} == left


def test_what_it_has_written_is_no_photograph(call, trained, photographs, tmp_path):
    photos = shutil.copytree(photographs, tmp_path / "photos")
    for _ in range(2):
        status, out, err = call("predict", trained, photos, "-o", photos / "out")
        assert (
            status == 0 and out == f"{photos / 'out'}: {len(list(photographs.iterdir()))} of 4 photographs predicted\n"
        ), err


def test_a_photograph_too_long_for_jpeg(call, trained, tmp_path):
    image = np.zeros((1, LARGEST_JPEG + 1, 3), np.uint8)
    preds = image[..., 0]
    save_overlay(image[:, 1:], preds[:, 1:], 9, tmp_path / "as-long-as-can-be.jpg")
    with pytest.raises(OSError, match="when writing image file") as raised:
        save_overlay(image, preds, 9, tmp_path / "too-long.jpg")
    assert raised.value.errno is None  # unlike that of a full disk
    Image.fromarray(image).save(tmp_path / "long.png")
    status, _, err = call("predict", trained, tmp_path / "long.png", "-o", tmp_path / "out", "--overlap", 0)
    assert (status, err) == (0, "")
    [path] = (tmp_path / "out" / "overlays").iterdir()
    assert path.name == "long.png" and Image.open(path).size == (65501, 1)


def test_what_cannot_be_encoded_is_skipped_and_a_full_disk_ends_all(call, trained, photographs, tmp_path, monkeypatch):
    def fail(image, preds, num_classes, path):
        raise errors.pop()

    monkeypatch.setattr("seglab.cli.predict.save_overlay", fail)
    errors = [OSError("encoder error -2 when writing image file") for _ in range(4)]
    status, said, err = call("predict", trained, photographs, "-o", tmp_path / "out")
    assert status == 1 and said.endswith("0 of 4 photographs predicted\n") and err.count("\n") == 4
    assert ": its overlay cannot be encoded (encoder error -2 when writing image file); give --no-overlays\n" in err
    assert not any((tmp_path / "out" / "masks").iterdir())
    errors = [OSError(28, "No space left on device")]
    status, _, err = call("predict", trained, photographs, "-o", tmp_path / "out")
    assert status == 2 and "cannot be written ([Errno 28] No space left on device)" in err
