"""What every command shares."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("words", "status"),
    [(["train.py", "--help"], 141), (["-m", "seglab", "compare", "--help"], 0)],  # argparse's own has no status for it
)
def test_a_reader_that_has_enough_ends_a_command_without_a_trace(environment, words, status):
    with subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        said = process.stderr.read().decode()
    assert (process.returncode, said) == (status, "")
