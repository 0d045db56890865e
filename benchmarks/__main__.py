"""`python -m benchmarks [ROW...]`: run rows, each in a process of its own, and keep what they found."""

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from benchmarks.measuring import Figure, Result
from benchmarks.results import keep, lines_of

ROWS = {  # name: module, in the order of the stages
    "import": "import_images",
    "freeze": "freeze",
    "render": "render",
    "loader": "loader",
    "step": "train_step",
    "tax": "train_tax",
    "inference": "inference",
    "warm": "warm_predict",
    "metrics": "metrics",
    "quality": "quality",
    "few-labels": "few_labels",
    "large": "large_image",
    "demo": "demo",
    "nodes": "nodes",
    "up": "start_up",
    "tile": "tile_answer",
    "annotator": "annotator",
    "upload": "upload",
    "serve": "serve",
    "class": "class_load",
    "screens": "screens",
    "scale": "scale",
}

_TIMEOUT_S = 30 * 60
_ROOT = Path(__file__).parents[1]


def main() -> int:
    """Returns 0 if every row could be run, whether or not it reached its target."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows to run; all by default")
    parser.add_argument("--list", action="store_true", help="say what each row measures, and run nothing")
    parser.add_argument("--small", action="store_true", help="small sizes, to try the scripts; nothing is kept")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)  # the row runs here and writes its result
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(ROWS):
        parser.error(f"there is no row {', '.join(sorted(unknown))}; choose from {', '.join(ROWS)}")
    names = arguments.rows or list(ROWS)
    if arguments.list:
        sys.stdout.writelines(f"{name:12} {_purpose(name)}\n" for name in names)
        return 0
    if arguments.into:
        module = importlib.import_module(f"benchmarks.{ROWS[names[0]]}")
        result = module.measure(Path(tempfile.gettempdir()), is_small=arguments.small)
        arguments.into.write_text(json.dumps(asdict(result)))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a row that runs ends with us
    return max([_run(name, is_small=arguments.small) for name in names])


def _run(name: str, *, is_small: bool) -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="axons-bench-", ignore_cleanup_errors=True) as folder:
        answer, log = Path(folder, "answer.json"), Path(folder, "log.txt")
        code = _in_its_own_process(name, answer, log, is_small=is_small)
        if code or not answer.is_file():
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
            sys.stdout.write(f"{name:12} failed with exit code {code}:\n{tail}\n")
            return 1
        found = json.loads(answer.read_text())
    result = Result(figures=[Figure(**figure) for figure in found["figures"]], notes=found["notes"])
    seconds = time.monotonic() - began
    sys.stdout.write("\n".join([*lines_of(name, result), f"{'':12} ({seconds:.0f} s)"]) + "\n")
    sys.stdout.flush()
    if not is_small:
        keep(name, result, seconds, order=list(ROWS))
    return 0


def _in_its_own_process(name: str, answer: Path, log: Path, *, is_small: bool) -> int:
    """Everything temporary of the row, caches included, goes into a fresh folder, so that no row finds another's."""
    scratch = answer.with_name("scratch")
    scratch.mkdir()
    command = [sys.executable, "-m", "benchmarks", name, "--into", str(answer), *(["--small"] if is_small else [])]
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            cwd=_ROOT,
            stdout=output,
            stderr=output,
            env={**os.environ, "TMPDIR": str(scratch), "RAY_USAGE_STATS_ENABLED": "0"},
            start_new_session=True,
        )
        try:
            return child.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return -1
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def _purpose(name: str) -> str:
    """The first sentence of the row's script, without importing it."""
    text = Path(__file__).with_name(f"{ROWS[name]}.py").read_text()
    return text.split('"""')[1].split("\n\n")[0].replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main())
