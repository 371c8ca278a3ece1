"""The live display of a sweep: how many jobs are done, and where each running one stands."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from seglab.cli import job
from seglab.cli.run_folder import read_summary
from seglab.errors import InputError
from seglab.lab.runs import read_history


class SweepProgress:
    """Reads the run folders every few seconds and shows a bar for the sweep and one for each running job."""

    def __init__(self, runs: Sequence[Path], seconds: float = 3.0) -> None:
        """Describes the display.

        Args:
            runs: the folders of the jobs to come.
            seconds: between two looks.
        """
        self.runs, self.seconds = runs, seconds
        console = Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self._bars = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._before = {run: read_summary(run) for run in runs}

    def start(self) -> None:
        """Shows the bars, in a terminal."""
        self._bars.start()
        if not self._bars.disable:
            self._thread.start()

    def stop(self) -> None:
        """Takes the bars away."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        self._bars.stop()

    def _watch(self) -> None:
        sweep = self._bars.add_task("jobs", total=len(self.runs))
        bars: dict[Path, int] = {}
        while not self._done.wait(self.seconds):
            running = [run for run in self.runs if job.is_held(run)]
            for run in running:
                if run not in bars:
                    bars[run] = self._bars.add_task(run.name, total=None)
                self._bars.update(bars[run], **position(run))
            for run in bars.keys() - running:
                self._bars.update(bars[run], visible=False)
            self._bars.update(sweep, completed=sum(run not in running and self.has_ended(run) for run in self.runs))

    def has_ended(self, run: Path) -> bool:
        """Returns whether a run that is not running has been, be it between two looks."""
        with suppress(InputError):
            summary = read_summary(run)
            return "status" in summary and summary != self._before[run]
        return False


def position(run: Path) -> dict[str, object]:
    """Returns how far a run is, in epochs, and what it reached when it was last validated, as its bar shows them."""
    try:
        epochs = read_summary(run).get("max_epochs")
        rows = read_history(run)
        reached = [row["val/miou"] for row in rows if "val/miou" in row]  # not every epoch is validated
        description = f"{run.name}  val mIoU {reached[-1]:.4f}" if reached else run.name
        return {"total": epochs, "completed": int(rows[-1]["epoch"]) + 1, "description": description}
    except (OSError, KeyError, IndexError, InputError):
        return {}
