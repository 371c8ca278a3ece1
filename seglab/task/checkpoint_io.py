"""Checkpoints that a crash or a full disk cannot spoil."""

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

PREVIOUS = "-previous.ckpt"


def previous(path: Path) -> Path:
    """Returns where the file that `path` replaced is kept."""
    return path.with_name(path.stem + PREVIOUS)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to the disk and renames: the target is always a whole checkpoint.

    The last.ckpt that a new one replaces is kept as last-previous.ckpt.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint; on an error the file that was there stays."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            if path.stem == "last" and path.exists():
                os.replace(path, previous(path))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        if os.name != "posix":
            return  # elsewhere a folder cannot be flushed
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class RunCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that a resumed run takes up where its folder is now.

    Lightning's own forgets the best score where the folder was moved or copied, and the next epoch would replace
    best.ckpt.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the state with its paths in this folder."""
        here, there = self.dirpath, state_dict["dirpath"]

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return {moved(path): score for path, score in value.items()}
            return value.replace(there, here, 1) if isinstance(value, str) and value.startswith(there) else value

        super().load_state_dict({name: moved(value) for name, value in state_dict.items()})


class WithinEpochCheckpoint(RunCheckpoint):
    """Saves a run after a step of the optimizer, but never after an epoch's last one.

    From such a checkpoint Lightning would go on with the next epoch, and the validation, the row in metrics.csv and the
    best.ckpt of this one would be missing. The epoch's own checkpoint follows the validation anyway. Nor after a
    batch whose gradient waits for others to be added: the checkpoint would lose it.
    """

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves if the time has come, the optimizer has stepped and the epoch goes on."""
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stepped and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
