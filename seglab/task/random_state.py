"""Random-number state in the checkpoint, so that a resumed run draws what the uncut one would have drawn."""

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch


class RandomState(pl.Callback):
    """Saves the state of the torch, CUDA, NumPy and Python generators and restores it at the first training batch.

    Restoring waits for that batch because the sanity check and the first iterator draw before it.
    """

    def __init__(self) -> None:
        self._saved: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Returns the generators' states as tensors and plain containers."""
        name, keys, position, has_gauss, gauss = np.random.get_state()
        return {
            "torch": torch.get_rng_state(),
            "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
            "numpy": [name, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)],
            "python": random.getstate(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps a checkpoint's states until training starts."""
        self._saved = state_dict

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restores the states once."""
        if self._saved is None:
            return
        saved, self._saved = self._saved, None
        name, keys, *rest = saved["numpy"]
        torch.set_rng_state(saved["torch"].cpu())
        np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
        version, words, gauss = saved["python"]
        random.setstate((version, tuple(words), gauss))
        if saved["cuda"] and torch.cuda.is_available():  # every process draws alike, each on a GPU of its own
            torch.cuda.set_rng_state(saved["cuda"][0].cpu())
