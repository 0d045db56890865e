"""Import, tiling and freezing with a second node beside the first.

Runs second_node.py, which starts both clusters and says what it measures; no target.
"""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.measuring import Result, seconds


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.second_node"], check=True, stdout=subprocess.PIPE)
    found = json.loads(done.stdout.splitlines()[-1])
    return Result(
        figures=[seconds(f"{stage}, two nodes against one", took["two"], took["one"]) for stage, took in found.items()]
    )
