"""Early stopping that a resumed run takes up where it stood."""

import logging
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import callbacks

log = logging.getLogger(__name__)


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's early stopping, which ends a run that it has ended before.

    Lightning's own trains another epoch whenever such a run is resumed, be it cut in its test, and does so with the
    patience that it had, whatever the config says now.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the count of validations without improvement; the patience is the config's."""
        patience = self.patience
        super().load_state_dict(state_dict)
        self.patience = patience

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends the fit where the patience is at an end."""
        if self.wait_count and self.wait_count >= self.patience:
            trainer.should_stop = True
            if trainer.is_global_zero:
                log.warning("stopped early before: callbacks.early_stopping.patience above %d goes on", self.wait_count)
