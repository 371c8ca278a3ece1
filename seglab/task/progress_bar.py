"""The progress bar of a training."""

from pytorch_lightning.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """Lightning's bar, with epochs counted from 1 as everywhere else that a reader looks."""

    def _get_train_description(self, current_epoch: int) -> str:
        epoch, last = current_epoch + 1, self.trainer.max_epochs
        described = f"Epoch {epoch}" if last is None else f"Epoch {epoch}/{last}"
        return f"{described:{len(self.validation_description)}}"  # as wide as the other bars: it would flicker
