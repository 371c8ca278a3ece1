"""metrics.csv, the run's record of truth: one row for each epoch."""

import csv
import io
import logging
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from seglab.replace_text import replace_text

log = logging.getLogger(__name__)


class MetricsTable(Checkpoint):
    """Writes every value logged in an epoch as one row of a CSV file.

    It is a Checkpoint callback only in its place: after all values are logged and before the epoch's checkpoint is
    written, so that no checkpoint is ever ahead of the table. Rows of epochs that a resumed run repeats are replaced.

    Args:
        path: The CSV file; an existing one is continued.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.rows: dict[int, dict[str, str]] = {}
        self._validated = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reads the rows of the epochs that the resumed checkpoint contains."""
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = {int(row["epoch"]): row for row in csv.DictReader(file)}
            self.rows = {epoch: row for epoch, row in rows.items() if epoch < trainer.current_epoch}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes that the epoch has scores."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds the epoch's row; the trainer still holds the scores of the last validation, even of an earlier epoch."""
        logged = trainer.callback_metrics.items()
        values = {name: float(value) for name, value in logged if self._validated or not name.startswith("val/")}
        self._validated = False
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step} | values
        if trainer.is_global_zero:
            self.rows[trainer.current_epoch] = {name: str(value) for name, value in row.items()}
            self._write()
            shown = ("train/loss", "train/miou", "val/loss", "val/miou", "train/images_per_second")
            scores = "  ".join(f"{name} {values[name]:.4g}" for name in shown if name in values)
            log.info("epoch %d/%d  %s", trainer.current_epoch + 1, trainer.max_epochs or -1, scores)

    def _write(self) -> None:
        columns = list(dict.fromkeys(name for row in self.rows.values() for name in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(self.rows.values())
        replace_text(self.path, text.getvalue())  # on the disk, as the epoch's checkpoint is, which follows it
