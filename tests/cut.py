"""Checkpoints of a training at the step that a test names."""

from pytorch_lightning.callbacks import Checkpoint


class Cut(Checkpoint):
    """Writes one checkpoint, after a number of steps; that of an epoch's last step behind the epoch's end."""

    def __init__(self, path, step):
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer, *args):
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self.on_train_epoch_end(trainer)

    def on_train_epoch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
