"""`seglab samples`: a sheet of training samples, as training itself sees them."""

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from seglab.cli.command_line import positive
from seglab.cli.data_command import DataParser, compose_data
from seglab.cli.mistakes import told_in_a_line
from seglab.cli.run_folder import shown
from seglab.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

    from seglab.data import SegmentationDataModule

DESCRIPTION = """\
Draws a sheet of training samples after crop, scale, augmentation and mixing: one row for each image, one column for
each epoch, the first without any change. Below each sample stands the same with its mask laid over it; what is not
scored is painted over. They are the very samples that training sees with the same keys and seed in its first epochs;
but where data.crop_sizes gives each batch a size of its own, or data.progressive_resize makes crops small at first, all
are of data.crop_size here."""
KEY_AUGMENT = """\
  augment=NAME  mix=NAME  data.scale=[0.5,2.0]  data.crop=MODE  seed=0   as in training
"""


def main() -> None:
    """Runs the command line; a user's mistake ends in one line and status 2."""
    with told_in_a_line("train"):
        example = "seglab samples data=voc9 data.root=PATH augment=strong mix=copy_paste -o samples.png"
        parser = DataParser("samples", DESCRIPTION, example, KEY_AUGMENT)
        parser.add_argument("-o", "--out", type=Path, default=Path("samples.png"), help="PNG or JPEG (samples.png)")
        parser.add_argument("--images", type=positive, default=4, metavar="N", help="images, spread over the split (4)")
        parser.add_argument("--epochs", type=positive, default=6, metavar="N", help="epochs of each image (6)")
        parser.add_argument("--side", type=positive, default=160, metavar="PX", help="side of a sample's picture (160)")
        arguments = parser.parse_intermixed_args()
        if arguments.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise InputError(f"--out {arguments.out}: give a file that ends in .png or .jpg")
        cfg = compose_data(arguments.overrides)

        from seglab.cli.build import build_datamodule

        sheet = draw(cfg, build_datamodule(cfg), arguments.images, arguments.epochs, arguments.side)
        try:
            sheet.save(arguments.out, quality=90)  # of a JPEG
        except OSError as error:
            raise InputError(f"--out {arguments.out}: cannot be written ({error.strerror or error})") from None
        print(f"{shown(arguments.out.resolve())}: {sheet.width} x {sheet.height} pixels")


def draw(cfg: DictConfig, datamodule: "SegmentationDataModule", images: int, epochs: int, side: int) -> "Image":
    """Returns the sheet.

    Raises:
        InputError: A file of the dataset is at fault.
    """
    import numpy as np

    from seglab.data import TrainSamples
    from seglab.data.dataset import TrainDataset
    from seglab.task.pictures import contact_sheet

    changed = datamodule.train_dataset
    crop = "center" if changed.samples.crop == "random" else changed.samples.crop
    unchanged = TrainSamples(crop, changed.samples.crop_size)
    plain = TrainDataset(changed.reader, unchanged, changed.ignore_index)
    indices = np.linspace(0, len(changed) - 1, min(images, len(changed))).round().astype(int).tolist()
    rows = []
    for index in indices:
        samples = [plain[0, index], *(changed[epoch, index] for epoch in range(epochs))]
        pairs = [(sample["image"].permute(1, 2, 0).numpy(), sample["mask"].numpy().astype("u1")) for sample in samples]
        rows.append((samples[0]["name"], pairs))
    headings = ["unchanged", *(f"epoch {epoch + 1}" for epoch in range(epochs))]
    return contact_sheet(rows, headings, list(cfg.data.class_names), side)
