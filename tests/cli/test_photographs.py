"""Which files of a command line and of its folders are photographs."""

from seglab.cli.photographs import find_photographs
from seglab.data.files import SUFFIXES, files_below
from seglab.data.folder import ImageFolder


def test_training_and_prediction_take_the_same_files(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for suffix in (*SUFFIXES, ".heic"):
            (tmp_path / kind / f"photo-{suffix[1:]}{suffix.upper()}").touch()
    read = ImageFolder(tmp_path, ["one", "two"], 2, splits={"train": 1}).names("train")
    photographs, others, faults = find_photographs([tmp_path / "images"])
    assert sorted(str(place.with_suffix("")) for _, place in photographs) == read.tolist()
    assert {"photo-avif", "photo-jfif", "photo-pnm", "photo-webp"} <= set(read)
    assert others == [tmp_path / "images" / "photo-heic.HEIC"] and faults == []


def test_of_a_folder_links_are_followed_hidden_files_left_out_and_what_cannot_be_read_is_said(tmp_path):
    for name in ("photos/b.png", "photos/._a.png", "photos/.trash/c.png", "elsewhere/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "elsewhere")
    photographs, others, faults = find_photographs([tmp_path / "photos", tmp_path / "photos" / "._a.png"])
    assert [str(place) for _, place in photographs] == ["b.png", "link/d.png", "._a.png"]
    assert (others, faults) == ([], [])
    assert list(files_below(tmp_path / "nowhere", faults)) == []
    (fault,) = faults
    assert fault.startswith(f"{tmp_path / 'nowhere'}: cannot be read (")
