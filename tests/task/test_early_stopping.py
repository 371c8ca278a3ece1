"""An early stop, and what goes on from it."""

import csv

from seglab.task import EarlyStopping, MetricsTable, RunCheckpoint


def test_a_run_that_was_stopped_stays_so_until_its_patience_is_longer(make_task, make_data, make_trainer, tmp_path):
    def fit(patience, **kwargs):
        stopping = EarlyStopping("val/loss", min_delta=1e9, patience=patience)
        last = RunCheckpoint(tmp_path, "last", save_on_train_epoch_end=True, enable_version_counter=False)
        trainer = make_trainer([stopping, MetricsTable(tmp_path / "metrics.csv"), last], max_epochs=9)
        trainer.fit(make_task(), datamodule=make_data(), **kwargs)
        with (tmp_path / "metrics.csv").open(newline="") as file:
            return len(list(csv.DictReader(file)))

    assert fit(0) == 2  # as Lightning has it: the first epoch without improvement is the last
    assert fit(2) == 3
    assert fit(2, ckpt_path=tmp_path / "last.ckpt") == 3
    assert fit(4, ckpt_path=tmp_path / "last.ckpt") == 5
