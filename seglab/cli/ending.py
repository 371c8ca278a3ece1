"""How a training ends: by itself, by a signal or a fault, and with the test of its best checkpoint."""

import errno
import logging
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seglab.cli.command_line import typed
from seglab.cli.job import ending_signals
from seglab.cli.run_folder import has_checkpoint, load_checkpoint, read_summary, shown, write_summary
from seglab.errors import InputError

log = logging.getLogger(__name__)

MOST_LINES = 20  # of an error, in the summary
_LOST_WORKER = r"DataLoader worker .*(killed by signal|exited unexpectedly)"


class Interrupted(SystemExit):
    """The run was cut by Ctrl-C, SIGTERM or SIGHUP; `code` is the exit status that says so."""


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
    go_on = f"go on with python train.py {typed('resume', shown(run))}"
    try:
        yield note_seconds
        ending = {"status": "finished"}
    except (Interrupted, KeyboardInterrupt):
        ending = {"status": "interrupted"}
        log.warning("cut: %s", go_on if has_checkpoint(run) else "there is no checkpoint yet")
        raise
    except Exception as error:
        if is_the_machines(error):
            ending = {"status": "killed"}  # as by SIGKILL: a sweep goes on with it
            if has_checkpoint(run):
                log.warning("the machine failed: %s", go_on)
        lines = f"{type(error).__name__}: {error}".splitlines()
        if len(lines) > MOST_LINES:
            lines[MOST_LINES:] = [f"... and {len(lines) - MOST_LINES} lines more"]
        ending["error"] = "\n".join(lines)
        raise
    finally:
        note_seconds(ending)


def is_the_machines(error: Exception) -> bool:
    """Returns whether what ended a run is no fault of its own, so that it may go on: a full disk, a killed worker."""
    if isinstance(error, EOFError | ConnectionError):  # a worker died while it handed over a batch
        return True
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
    return isinstance(error, RuntimeError) and bool(re.search(_LOST_WORKER, str(error)))


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Ends the block by `Interrupted` on SIGTERM and, but under nohup, SIGHUP, as of a terminal that is closed.

    While Lightning trains or tests, SIGTERM is its own, and ends the run after a step.
    """

    def end(number: int, frame: Any) -> None:
        if signal.getsignal(number) is end:  # Lightning puts its own before it
            raise Interrupted(128 + number)

    before = {number: signal.signal(number, end) for number in ending_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def told_endings(cfg: DictConfig, trainer: Any) -> Iterator[None]:
    """Says in our own terms how Lightning ends a fit or a test that was cut.

    Raises:
        InputError: BatchNorm met a batch that it cannot learn from.
        Interrupted: The block was cut.
    """
    try:
        yield
    except Interrupted:
        raise
    except (SystemExit, KeyboardInterrupt):  # Lightning's own way to end on SIGTERM and Ctrl-C
        raise Interrupted(143 if trainer.received_sigterm else 130) from None
    except Exception as error:  # a SIGTERM to all processes, as of `timeout` and Slurm, ends the workers too
        if "more than 1 value per channel" in str(error):
            said = f"data.batch_size={cfg.data.batch_size}: BatchNorm cannot learn from one value of a channel"
            raise InputError(f"{said}, all that the deepest map has; give 2, or larger crops") from None
        if not (trainer.received_sigterm or "killed by signal: Terminated" in str(error)):
            raise
        forget_workers()
        raise Interrupted(143) from None


def note_sigterm(trainer: Any, number: int, frame: Any) -> None:
    """Notes a SIGTERM and passes it on to the processes that this one has started.

    Lightning's own handler waits there for the other processes, which stand wherever the signal meets them: the run
    hangs, or gloo aborts it. The training shares what is noted here before each step anyway.
    """
    forget_workers()
    connector, launcher = trainer._signal_connector, trainer.strategy.launcher
    if not connector.received_sigterm and launcher is not None:
        launcher.kill(number)
    connector.received_sigterm = True


def forget_workers() -> None:
    """Takes away torch's handler, which raises an error for each worker that ends, wherever this process stands."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, lambda *_: None)  # SIG_DFL would be an error where a worker's end is pending


def test_best(cfg: DictConfig, run: Path, trainer: Any, task: Any, datamodule: Any) -> dict[str, Any]:
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
    images_seen, speed = throughput.images_seen, throughput.images_per_second  # a checkpoint may bring earlier ones
    writer = EvaluationWriter(run / "evaluation" / "test", "test", cfg.protocol, overlays=False)
    trainer.callbacks.append(writer)
    trainer.test(task, datamodule.eval_dataloader("test"), best.best_model_path, verbose=False, weights_only=True)
    if not trainer.is_global_zero:
        return {}
    best_epoch = load_checkpoint(Path(best.best_model_path))["epoch"]
    of_best = [row["val/miou"] for row in read_run(run).history if row["epoch"] == best_epoch and "val/miou" in row]
    if not of_best:
        raise InputError(f"{run / 'metrics.csv'} has no scores of epoch {best_epoch + 1}, the best: restore the file")
    summary = {
        "best_epoch": best_epoch + 1,
        "best_val_miou": of_best[0],
        "test_miou": writer.result["miou"],
        "protocol": cfg.protocol,
        "epochs": trainer.current_epoch,
        "images_seen": images_seen,
        "images_per_second": round(speed, 2),
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
