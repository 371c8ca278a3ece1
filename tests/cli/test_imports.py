"""What a command imports, and what waits until somebody uses it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASKED = """
import sys
from types import ModuleType
from seglab.cli.imports import defer_scipy_signal

defer_scipy_signal()
import seglab.models
import seglab.task

print("timm" in sys.modules, "scipy.stats" in sys.modules)
from scipy.signal import windows
import scipy.signal

print(type(scipy.signal) is ModuleType, scipy.signal.windows is windows, hasattr(scipy.signal, "hamming"))
"""


def test_timm_and_scipys_signals_are_loaded_for_their_users_only():
    done = subprocess.run([sys.executable, "-c", ASKED], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["False False", "True True False"], done.stderr
