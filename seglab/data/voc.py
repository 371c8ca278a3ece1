"""PASCAL VOC's devkit layout, and any data set in the same layout."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from seglab.data.download import VOC2012_MD5, VOC2012_URL, fetch_and_unpack
from seglab.data.labels import LabelTable
from seglab.data.pairs import PairedFiles, Pairs
from seglab.data.source import SPLITS
from seglab.errors import InputError

VOC_CLASSES = tuple(
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor".split()
)
VOC2012_LISTS = ("train", "val", "trainval")
_VOID = 255
_LISTS = Path("ImageSets", "Segmentation")


class VocFolder(PairedFiles):
    """Photographs in JPEGImages, palette PNGs in SegmentationClass, lists of names in ImageSets/Segmentation.

    Everingham, Eslami, Van Gool, Williams, Winn and Zisserman, "The PASCAL Visual Object Classes Challenge: A
    Retrospective", IJCV 2015.
    """

    def __init__(
        self,
        root: str | Path,
        classes: Sequence[str],
        ignore_index: int,
        other: Literal["ignore", "background"] = "ignore",
        splits: Mapping[str, str] | None = None,
        download: bool = False,
        url: str = VOC2012_URL,
        md5: str = VOC2012_MD5,
    ) -> None:
        """Find the devkit, or download it.

        Args:
            root: the devkit's folder (with JPEGImages in it), or a folder above it.
            classes: names of VOC classes in the order of the class indices.
            ignore_index: mask value of the boundary and of classes left out.
            other: what pixels of the VOC classes not in `classes` become.
            splits: the list of names that each of train, val and test is read from; as they are called by default.
            download: whether to download VOC2012 (2 GB) into `root` where it is not there.
            url: address of the archive.
            md5: checksum of the archive.

        Raises:
            InputError: if a class is unknown or there is no devkit.
        """
        table = LabelTable(_voc_mapping(classes, other, ignore_index), classes, ignore_index)
        self.lists = {split: split for split in SPLITS} | dict(splits or {})
        self._pairs: dict[str, Pairs] = {}
        devkit = _find_devkit(Path(root))
        if devkit is None and download:
            if md5 == VOC2012_MD5:
                self._refuse_other_lists()
            fetch_and_unpack(url, md5, Path(root), lambda: _find_devkit(Path(root)) is not None)
            devkit = _find_devkit(Path(root))
        if devkit is None:
            raise InputError(
                f"data.root={root}: has no {_LISTS.as_posix()} in it; "
                "give the devkit's folder (VOCdevkit/VOC2012); with data.download=true train.py fetches it"
            )
        super().__init__(devkit, "JPEGImages", "SegmentationClass", table)

    def pairs(self, split: str) -> Pairs:
        """The pairs that the list of a split names."""
        if split not in SPLITS:
            raise InputError(f"split={split}: give one of {', '.join(SPLITS)}")
        listed = self.lists[split]
        if listed not in self._pairs:
            self._pairs[listed] = self._read_list(split, listed)
        return self._pairs[listed]

    def _refuse_other_lists(self) -> None:
        for split, listed in self.lists.items():
            if listed not in VOC2012_LISTS:
                raise InputError(
                    f"data.splits.{split}={listed}: VOC2012 has no such list, only {', '.join(VOC2012_LISTS)}: add "
                    f"data.splits.{split}=val or another of them"
                )

    def _read_list(self, split: str, listed: str) -> Pairs:
        path = self.root / _LISTS / f"{listed}.txt"
        try:
            names = np.array(
                [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            )
        except FileNotFoundError:
            others = sorted(found.stem for found in path.parent.glob("*.txt"))
            raise InputError(
                f"{path}: no such list; write it, or read the split from another one of {', '.join(others) or 'none'}"
                f" (data.splits.{split}=...; VOC2012 has no labels for its own test split)"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as text ({error}); give one name a line") from None
        if not len(names):
            raise InputError(f"{path}: is empty; give one name a line, without suffix")
        return Pairs(listed, names, np.full(len(names), ".jpg"), np.full(len(names), ".png"))


def _find_devkit(root: Path) -> Path | None:
    candidates = (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012")
    return next((folder for folder in candidates if (folder / _LISTS).is_dir()), None)


def _voc_mapping(classes: Sequence[str], other: str, ignore_index: int) -> dict[int, int]:
    if isinstance(classes, str):
        raise InputError(f"data.classes={classes}: give a list, [{classes},...]")
    faults = []
    for name in classes:
        if name not in VOC_CLASSES:
            near = difflib.get_close_matches(str(name), VOC_CLASSES, 1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"give some of {', '.join(VOC_CLASSES)}"
            faults.append(f"data.classes: {name!r} is not a VOC class; {hint}")
    if other not in ("ignore", "background"):
        faults.append(f"data.other={other}: give ignore or background")
    if other == "background" and "background" not in classes:
        faults.append("data.other=background: data.classes has no background; add it, or set data.other=ignore")
    if faults:
        raise InputError("\n".join(faults))
    default = ignore_index if other == "ignore" else list(classes).index("background")
    indices = {name: index for index, name in enumerate(classes)}
    return {value: indices.get(name, default) for value, name in enumerate(VOC_CLASSES)} | {_VOID: ignore_index}
