"""What a training imports, and what waits until somebody uses it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["model=unet4", "model.width=0.02", "data.source.train=4", "data.source.val=2", "data.source.test=2"]
WORDS += ["data.crop_size=32", "data.batch_size=2", "trainer.max_epochs=1", "logger=csv"]
TRAIN = f"""
import sys
from importlib.util import find_spec
from seglab.cli.main import run

run("train", {WORDS} + ["hydra.run.dir=" + sys.argv[1]])
unused = ("timm", "scipy.interpolate", "scipy.optimize", "scipy.signal", "scipy.signal._signaltools")
print([name for name in unused if name in sys.modules])
from scipy.signal import lti, windows
import scipy.signal

print(find_spec("scipy.signal").origin == scipy.signal.__file__)
print(scipy.signal.lti is lti, scipy.signal.windows is windows)
"""


def test_timm_and_parts_of_scipy_are_loaded_for_their_users_only(environment, tmp_path):
    line = [sys.executable, "-c", TRAIN, str(tmp_path / "run")]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-3:] == ["[]", "True", "True True"], done.stdout + done.stderr
