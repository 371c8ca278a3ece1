"""One job of a sweep: a training in a process of its own, watched until it ends."""

import ctypes
import math
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from seglab.cli.conf_groups import CONF
from seglab.cli.run_folder import read_summary, write_summary
from seglab.errors import InputError

try:
    import fcntl
except ImportError:  # Windows has no such locks: two sweeps at once are then the user's to avoid
    fcntl = None

OUTPUT = "output.log"
NO_FAULT = ("killed", "interrupted")  # statuses of a run that may go on
CUT = (129, 130, 143)  # exit statuses of a job that SIGHUP, Ctrl-C or SIGTERM has ended
_PATIENCE = 10.0  # seconds that a job gets to end by itself
_PARENT = os.getppid()
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@contextmanager
def lock(folder: Path, wait: bool = False, attempts: int = 1) -> Iterator[bool]:
    """Holds a folder for this process, until the block ends or the process dies, however it dies.

    Args:
        folder: of a run, or of anything else that one process has at a time.
        wait: until it is free.
        attempts: to find it free without that, a tenth of a second apart.

    Yields:
        Whether the folder was free.
    """
    with (folder / ".lock").open("a") as file:
        free = fcntl is None
        for attempt in range(0 if free else attempts):
            time.sleep(0.1 * (attempt > 0))
            with suppress(OSError):
                fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))  # forked workers do not inherit it
                free = True
                break
        yield free


def is_held(run: Path) -> bool:
    """Returns whether a process trains in this folder now."""
    if not (run / ".lock").exists():
        return False
    with lock(run) as free:
        return not free


def ending_signals() -> list[signal.Signals]:
    """Returns the signals that end a run or a sweep: SIGTERM, and SIGHUP but under nohup; none in another thread."""
    if threading.current_thread() is not threading.main_thread():  # where no handler can be set
        return []
    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]


def status(run: Path) -> str:
    """Returns what is or was the end of a run: cut, where it was to go on and no process trains it."""
    try:
        held = is_held(run)
    except OSError:  # another user's lock, or one on a read-only disk, tells nothing: what was noted stands
        held = None
    noted = read_summary(run).get("status", "not started")
    if held:
        return "running"
    return "cut" if noted == "running" and held is not None else noted


def run_job(
    words: Sequence[str],
    run: Path,
    timeout: float | None,
    environment: dict[str, str],
    hopeless: Callable[[], bool] = lambda: False,
) -> str:
    """Runs a training to its end, its words in the run folder's output.log, and returns the run's status.

    The job ends with this process, however this ends, and it outlives `timeout` by ten seconds at most.

    Args:
        words: of the command line, behind `python train.py`.
        run: its folder.
        timeout: seconds after which it is stopped; none for no limit.
        environment: variables of the job, over those of this process.
        hopeless: asked twice a second; the job is stopped, and its status is "pruned", once it says so.
    """
    if _is_orphan():
        os._exit(1)
    command = [sys.executable, str(CONF.parent / "train.py"), *words]
    run.mkdir(parents=True, exist_ok=True)
    with (run / OUTPUT).open("ab") as output:
        output.write(f"$ {shlex.join(command)}\n".encode())
        output.flush()
        job = _start(command, output, environment)
        try:
            stopped = _wait(job, timeout, hopeless)
        except BaseException:
            _stop(job, signal.SIGINT)
            _record(run, "interrupted", None)
            raise
        if stopped:
            _stop(job, signal.SIGTERM)
    return _ending(run, job.returncode, stopped)


def _start(command: Sequence[str], output: IO[bytes], environment: dict[str, str]) -> subprocess.Popen:
    parent = os.getpid()

    def die_with_parent() -> None:
        _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=os.environ | environment,
        start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the job
        preexec_fn=die_with_parent if _libc else None,
    )


def _wait(job: subprocess.Popen, timeout: float | None, hopeless: Callable[[], bool]) -> str | None:
    """Returns none once the job has ended, or the status that it is to be stopped with."""
    end = math.inf if timeout is None else time.monotonic() + timeout
    while True:
        with suppress(subprocess.TimeoutExpired):
            job.wait(0.5)
            return None
        if _is_orphan():
            os.killpg(job.pid, signal.SIGKILL)
            os._exit(1)
        if time.monotonic() > end:
            return "timed out"
        if hopeless():
            return "pruned"


def _is_orphan() -> bool:
    """Returns whether this is a launcher's worker whose sweep was killed; the sweep itself may outlive its shell."""
    return multiprocessing.current_process().name != "MainProcess" and os.getppid() != _PARENT


def _stop(job: subprocess.Popen, first: signal.Signals) -> None:
    for number, patience in ((first, _PATIENCE), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(job.pid, number)
        with suppress(subprocess.TimeoutExpired):
            job.wait(patience)
            break
    with suppress(ProcessLookupError):
        os.killpg(job.pid, signal.SIGKILL)  # what the job had started itself


def _ending(run: Path, code: int, stopped: str | None) -> str:
    if stopped:
        _record(run, stopped, "stopped at sweep.timeout" if stopped == "timed out" else None)
    elif code < 0:
        _record(run, "killed", f"killed by {signal.Signals(-code).name}")
    elif code:
        noted = ("failed", *NO_FAULT) if code in CUT else ("failed", "killed")
        if read_summary(run).get("status") not in noted:
            _record(run, "failed", f"exit status {code}")
    return read_summary(run).get("status", "failed")


def _record(run: Path, status: str, error: str | None) -> None:
    """Notes how a job ended where it could not do so itself; on a full disk nobody can.

    A run that finished has, however its process ended; and where another process trains, the folder was not the job's.
    """
    with suppress(OSError, InputError):
        if read_summary(run).get("status") != "finished" and not is_held(run):
            write_summary(run, {"status": status, "error": error})


def tail(run: Path, lines: int = 8) -> list[str]:
    """Returns the last lines that a job printed, without progress bars."""
    try:
        with (run / OUTPUT).open("rb") as file:
            file.seek(max(0, (run / OUTPUT).stat().st_size - 20_000))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    said = [line.rsplit("\r", 1)[-1].rstrip() for line in text.splitlines()]
    return [line for line in said if line][-lines:]
