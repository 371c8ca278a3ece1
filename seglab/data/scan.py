"""Reading every pair once, in threads, to find all faults before a run starts."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from seglab.errors import InputError

_CHUNK = 32


def scan(read: Callable[[int], tuple[np.ndarray, np.ndarray]], count: int, title: str) -> tuple[np.ndarray, list[str]]:
    """Call `read` for every index below `count`, with a progress bar on stderr.

    Args:
        read: returns image and mask of an index, or raises `InputError`; called from several threads.
        count: number of indices.
        title: what the progress bar says.

    Returns:
        Height and width of each mask, int (count, 2), 0 for those at fault; and the faults in the order of the indices.
    """
    sizes = np.zeros((count, 2), np.int64)
    faults: dict[int, str] = {}

    def read_chunk(start: int) -> int:
        stop = min(start + _CHUNK, count)
        for i in range(start, stop):
            try:
                sizes[i] = read(i)[1].shape
            except InputError as error:
                faults[i] = str(error)
        return stop - start

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with progress, ThreadPoolExecutor() as pool:
        task = progress.add_task(title, total=count)
        try:
            for done in as_completed([pool.submit(read_chunk, start) for start in range(0, count, _CHUNK)]):
                progress.advance(task, done.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for a million files
            raise
    return sizes, [faults[i] for i in sorted(faults)]
