"""Imports that wait until somebody uses them."""

import importlib
import sys
from types import ModuleType
from typing import Any


class _Deferred(ModuleType):
    """Stands in sys.modules for a module and loads it once asked for a name that it cannot answer itself."""

    def __getattr__(self, name: str) -> Any:
        if name == "__file__":  # inspect asks every module for it
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def defer_scipy_signal() -> None:
    """Keeps `import torchmetrics` from loading scipy.signal, a fifth of the time in which a training starts.

    torchmetrics only asks it for `hamming`, so as to give it to an audio library where it is missing. Whoever else
    imports scipy.signal gets it whole.
    """
    if "scipy.signal" not in sys.modules:
        stand_in = _Deferred("scipy.signal")
        stand_in.hamming = None
        sys.modules["scipy.signal"] = stand_in
