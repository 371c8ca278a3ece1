"""How the process holds memory while it trains on a CPU."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
_NEVER = -1


def keep_freed_memory() -> None:
    """Has glibc keep freed memory for the next tensor; does nothing where the C library is another.

    By default it hands each large block back to the system, so that every step of a training takes the pages of its
    activations anew: a fifth of the time of a step on two cores (docs/speed.md). The process then never shrinks.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
