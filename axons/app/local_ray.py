"""A Ray of this machine alone, for `axons up`: on loopback, behind a token, ended together with whoever started it."""

import hashlib
import logging
import os
import shlex
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from tenacity import RetryCallState, retry, retry_if_exception_message, stop_after_attempt

from axons.errors import AxonsError

OBJECT_STORE_BYTES = 300 << 20  # manifest rows, and images on their way to a prediction
TOKEN_FILE = "ray-token"

_MIN_LOGICAL_CPUS = 4
_FEW_CORES = 4  # where a training takes all, and a second one would halve the steps of both
_END_WAIT_S = 5.0
_MAX_STARTS = 3
_TOO_SLOW = "The current node timed out during startup"


def set_environment(environment: MutableMapping[str, str], data: Path) -> None:
    """Say how Ray shall run, before it is imported; its processes inherit what is said here."""
    environment.update(
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN_PATH=str(data.absolute() / TOKEN_FILE),
        RAY_USAGE_STATS_ENABLED="0",
        RAY_TRAIN_ENABLE_STATE_TRACKING="1",
        # Otherwise Ray listens on the address of the network card, where others reach it.
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
        # Else the platform waits behind everything else on the machine; what computes long gives way by itself.
        RAY_worker_niceness="0",
        # Idle processes for each logical CPU, at 60 MB each, would be more than half of all memory.
        RAY_prestart_worker_first_driver="0",
        RAY_enable_worker_prestart="0",
        RAY_idle_worker_killing_time_threshold_ms="10000",
        # Where the environment of this interpreter is not activated, a job would find another `python`, or none.
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}",
    )
    environment.pop("RAY_AUTH_TOKEN", None)
    environment.pop("RAY_ADDRESS", None)


def session_folder(data: Path) -> Path:
    """Where Ray keeps sockets and logs for this data folder; short, for a socket's path has at most 107 bytes.

    Raises:
        AxonsError: somebody else has made a folder of this name.
    """
    name = hashlib.sha256(str(data.absolute()).encode()).hexdigest()[:10]
    folder = Path(tempfile.gettempdir()) / f"axons-{os.getuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or stat.S_IMODE(found.st_mode) & 0o077:
        raise AxonsError(f"{str(folder)!r} belongs to somebody else or is open to others; remove it or set TMPDIR")
    return folder


def token_command(data: Path) -> str:
    """What prints, on the server, the token that the dashboard asks for."""
    token = data / TOKEN_FILE
    return f"cat {shlex.quote(str(token))}" if token.exists() else "ray get-auth-token"


def start_ray(data: Path, *, dashboard_port: int | None, drivers: int | None = None) -> str:
    """Start Ray in this process' name; returns the dashboard's address. `set_environment` came first.

    Args:
        drivers: trainings that run at a time; by default 2, or 1 on few cores.

    Raises:
        AxonsError: Ray, which waits 30 s for itself, was not there in time again and again.
    """
    import ray  # late: what the environment says is read when it is imported
    from ray._private.utils import write_ray_address

    num_cores = len(psutil.Process().cpu_affinity() or ())
    session = session_folder(data)
    folder = str(session / "ray")  # Ray opens it to everybody; the folder around it stays closed

    def end_what_was_begun(_state: RetryCallState) -> None:
        end_leftovers(session)

    init = retry(
        stop=stop_after_attempt(_MAX_STARTS),
        retry=retry_if_exception_message(match=_TOO_SLOW),
        before_sleep=end_what_was_begun,
        retry_error_callback=_give_up,
    )(ray.init)
    with _own_agent_port():
        context = init(
            address="local",
            # More logical CPUs than cores on a small machine: the operating system shares the cores.
            num_cpus=max(_MIN_LOGICAL_CPUS, num_cores),
            resources={"driver": drivers or (1 if num_cores <= _FEW_CORES else 2)},
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            dashboard_port=dashboard_port,
            log_to_driver=False,
            logging_level=logging.ERROR,
            namespace="axons",
            _temp_dir=folder,
        )
    # Only `ray start` writes it; without it, a job beside another Ray is given any Ray of the machine.
    write_ray_address(ray.get_runtime_context().gcs_address, folder)
    return f"http://{context.dashboard_url}"


def _give_up(state: RetryCallState) -> None:
    raise AxonsError(
        f"Ray has not started within 30 s, {state.attempt_number} times: this machine has too much else to do; "
        "end other programs and start again"
    )


@contextmanager
def _own_agent_port() -> Iterator[None]:
    """Let Ray's agent have a free port: it wants 52365, and beside another Ray no job could ever be submitted.

    `ray.init` has no argument for it, though `ray start` has an option.
    """
    from ray._private import parameter

    module: Any = parameter
    plain = module.RayParams
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    module.RayParams = partial(plain, dashboard_agent_listen_port=port)
    try:
        yield
    finally:
        module.RayParams = plain


def end_leftovers(folder: Path) -> int:
    """End what an earlier Ray of this session folder has left running, after a kill; returns how many there were."""
    left = list(processes_of(folder))
    for process in left:
        _ignoring_gone(process.terminate)
    _, alive = psutil.wait_procs(left, timeout=_END_WAIT_S / 5)
    for process in alive:
        _ignoring_gone(process.kill)
    psutil.wait_procs(alive, timeout=_END_WAIT_S)
    return len(left)


def processes_of(folder: Path) -> Iterator[psutil.Process]:
    """Our processes that write into the session folder: all of Ray's do, whatever they call themselves."""
    for process in psutil.process_iter():
        if process.pid != os.getpid() and _is_ours(process) and _writes_to(process, folder):
            yield process


def _is_ours(process: psutil.Process) -> bool:
    try:
        return bool(process.uids().real == os.getuid())
    except psutil.Error:
        return False


def _writes_to(process: psutil.Process, folder: Path) -> bool:
    """Whether a file of the folder is open for more than reading; macOS does not say how a file is open."""
    try:
        files = [file for file in process.open_files() if getattr(file, "mode", "w") != "r"]
    except psutil.Error:
        return False
    return any(Path(file.path).is_relative_to(folder) for file in files)


def _ignoring_gone(end: Callable[[], None]) -> None:
    try:
        end()
    except psutil.NoSuchProcess:
        return
