"""Memory that is kept: a large block that is freed is the next one's, without a page fault."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from seglab.cli.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
np.ones(2**25)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(2**25)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_freed_memory_serves_again():
    def page_faults(word):
        return int(subprocess.check_output([sys.executable, "-c", SCRIPT, word]))

    assert page_faults("keep") < 100 < page_faults("give back")
