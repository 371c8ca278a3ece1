"""Imports that need less than they take."""

import importlib
import sys
from types import ModuleType
from typing import Any


class _StandIn(ModuleType):
    """Is found in place of a module, which it loads once asked for a name that it cannot answer itself."""

    def __getattr__(self, name: str) -> Any:
        if name == "__file__":  # inspect asks every module for it
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def import_torchmetrics() -> None:
    """Imports torchmetrics without scipy.signal, a fifth of the time in which a training starts.

    torchmetrics imports it only to give it the name `hamming`, for an audio library, where that is missing. Afterwards
    all is as if nobody had imported it.
    """
    if "scipy.signal" in sys.modules:
        return
    stand_in = _StandIn("scipy.signal")
    stand_in.hamming = None
    sys.modules["scipy.signal"] = stand_in
    try:
        importlib.import_module("torchmetrics")
    finally:
        if sys.modules.get("scipy.signal") is stand_in:
            del sys.modules["scipy.signal"]
