"""What the tests share: a real S3 server, one local Ray, and fresh storage per test."""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

settings.register_profile("axons", deadline=None)  # a busy machine is not a wrong answer
settings.load_profile("axons")

HEAD = """# Faults we have tried

Written by `make faults` on {day}: {held} of {tried} cases held. Each line is a test, named by the sentence it proves.

| what holds | where | cases | seconds | figures |
|---|---|---|---|---|
"""

REAL_IMAGES = Path(__file__).parents[2] / "shared" / "data" / "axon-sem"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-report", type=Path, help="write what was tried, and how it went, to this Markdown file")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Reports go from process to process as UTF-8; what hostile tests have logged does not fit in."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write the report; figures come from `record_property` in the tests."""
    if path := config.getoption("--faults-report"):
        calls = [
            report
            for outcome in ("passed", "failed")
            for report in terminalreporter.stats.get(outcome, [])
            if report.when == "call"
        ]
        by_test = defaultdict(list)
        for report in calls:
            by_test[report.nodeid.partition("[")[0]].append(report)
        head = HEAD.format(day=time.strftime("%Y-%m-%d"), held=sum(r.passed for r in calls), tried=len(calls))
        path.write_text(head + "".join(_line(test, reports) for test, reports in sorted(by_test.items())))


def _line(test: str, reports: list[pytest.TestReport]) -> str:
    """A line of the report: the cases of one test."""
    file, _, name = test.partition("::")
    failed = [report.nodeid for report in reports if not report.passed]
    sentence = name.removeprefix("test_").replace("_", " ") + (f" **FAILED: {', '.join(failed)}**" if failed else "")
    seconds = sum(report.duration for report in reports)
    return f"| {sentence} | {file.removeprefix('tests/')} | {len(reports)} | {seconds:.1f} | {_figures(reports)} |\n"


def _figures(reports: list[pytest.TestReport]) -> str:
    """What the cases of a test have recorded: counts are added up, other figures told one by one."""
    figures = [figure for report in reports for figure in report.user_properties]
    counts: Counter[str] = Counter()
    for name, value in figures:
        if isinstance(value, int):
            counts[name] += value
    others = [(name, value) for name, value in figures if not isinstance(value, int)]
    return "; ".join(f"{name}: {value}" for name, value in [*counts.items(), *others])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, *, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


# Ray's workers inherit the environment of the process that starts Ray, so the address is settled before any test.
S3_PORT = free_port()
os.environ.update(
    AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{S3_PORT}",
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",
    AWS_DEFAULT_REGION="us-east-1",
)


@pytest.fixture(scope="session")
def s3_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A real S3 server over HTTP on loopback; yields the file in which it logs each request."""
    log = tmp_path_factory.mktemp("s3") / "requests.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-p", str(S3_PORT)], stdout=output, stderr=output
        )
    wait_for_port(S3_PORT)
    yield log
    server.terminate()
    server.wait()


@pytest.fixture
def s3_uri(s3_log: Path) -> str:
    import s3fs

    bucket = f"bucket-{uuid.uuid4()}"
    s3fs.S3FileSystem(use_listings_cache=False).mkdir(bucket)
    return f"s3://{bucket}/some/prefix"


@pytest.fixture
def real_images() -> Path:
    if not REAL_IMAGES.is_dir():
        pytest.skip("the real images of shared/data/axon-sem are not here")
    return REAL_IMAGES


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One Ray on this machine for all tests that need a cluster."""
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 << 20,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()
