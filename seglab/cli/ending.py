"""How a training ends: what became of it, and the test of its best checkpoint."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seglab.cli.run_folder import has_checkpoint, load_checkpoint, read_summary, shown, write_summary
from seglab.errors import InputError

log = logging.getLogger(__name__)

MOST_LINES = 20  # of an error, in the summary


class Interrupted(SystemExit):
    """The run was cut by Ctrl-C or SIGTERM; `code` is the exit status that says so."""


@contextmanager
def recorded_ending(run: Path) -> Iterator[Callable[[], None]]:
    """Writes to the summary how the block ended, and the seconds it took, those of earlier parts of the run added.

    Yields:
        What writes the seconds so far: of a part that is killed, those until then count.
    """
    start = time.time() - read_summary(run).get("seconds", 0)

    def note_seconds(ending: dict[str, Any] | None = None) -> None:
        write_summary(run, (ending or {}) | {"seconds": round(time.time() - start, 1)})

    ending = {"status": "failed"}
    try:
        yield note_seconds
        ending = {"status": "finished"}
    except (Interrupted, KeyboardInterrupt):
        ending = {"status": "interrupted"}
        how = f"go on with python train.py resume={shown(run)}" if has_checkpoint(run) else "there is no checkpoint yet"
        log.warning("cut: %s", how)
        raise
    except Exception as error:
        lines = f"{type(error).__name__}: {error}".splitlines()
        if len(lines) > MOST_LINES:
            lines[MOST_LINES:] = [f"... and {len(lines) - MOST_LINES} lines more"]
        ending["error"] = "\n".join(lines)
        raise
    finally:
        note_seconds(ending)


def report(cfg: DictConfig, run: Path, trainer: Any, task: Any, datamodule: Any) -> dict[str, Any]:
    """Tests the best checkpoint; returns what it adds to the summary, nothing but in the first process.

    Raises:
        InputError: The training ended before an epoch was validated.
    """
    import torch

    from seglab.lab.runs import read_run
    from seglab.models import forward_flops
    from seglab.task import EvaluationWriter, Throughput, peak_memory

    best = next(callback for callback in trainer.checkpoint_callbacks if getattr(callback, "monitor", None))
    throughput = next(callback for callback in trainer.callbacks if isinstance(callback, Throughput))
    if not best.best_model_path:
        raise InputError(f"{run}: the training ended before an epoch was validated, so there is nothing to test")
    writer = EvaluationWriter(run / "evaluation" / "test", "test", cfg.protocol, overlays=False)
    trainer.callbacks.append(writer)
    trainer.test(task, datamodule.eval_dataloader("test"), best.best_model_path, verbose=False, weights_only=True)
    if not trainer.is_global_zero:
        return {}
    best_epoch = load_checkpoint(Path(best.best_model_path))["epoch"]
    summary = {
        "best_epoch": best_epoch + 1,
        "best_val_miou": next(row["val/miou"] for row in read_run(run).history if row["epoch"] == best_epoch),
        "test_miou": writer.result["miou"],
        "protocol": cfg.protocol,
        "epochs": trainer.current_epoch,
        "images_seen": throughput.images_seen,
        "images_per_second": round(throughput.images_per_second, 2),
        "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        "gflops": round(forward_flops(task.model, cfg.data.crop_size) / 1e9, 4),
        "peak_memory_mib": round(peak_memory(trainer.strategy.root_device) / 2**20, 1),
        "threads": torch.get_num_threads(),
        "device": str(trainer.strategy.root_device),
        "precision": trainer.precision,
        "memory_format": "channels_last",
    }
    write_summary(run, summary)
    return summary
