"""`axons up`: Ray, Ray Serve and the platform on this machine, from one command until Ctrl-C."""

import fcntl
import ipaddress
import logging
import os
import secrets
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
from pydantic import SecretStr, ValidationError
from rich.console import Console

from axons.app import local_ray
from axons.app.preparing import prepare
from axons.app.settings import Settings
from axons.errors import AxonsError, DatabaseTaken

SECRET_FILE = "secret"

_LOOK_EVERY_S = 1.0
_RAY_PROCESSES = ("gcs_server", "raylet")


@dataclass(frozen=True, kw_only=True)
class UpOptions:
    """What a person asked for.

    Args:
        data: folder for database, storage and secrets; None as the settings say.
        address: of a Ray cluster that runs already; None starts one on this machine.
        dashboard_port: of the Ray that is started; None takes a free one.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    data: Path | None = None
    address: str | None = None
    dashboard_port: int | None = None
    with_sample: bool = True


@dataclass(frozen=True, kw_only=True)
class Running:
    """Where everything is, once it is ready.

    Args:
        sign_in_link: works once, for ten minutes; its code is also good for `axons login --code`.
        token_command: prints the token that the dashboard asks for.
    """

    url: str
    sign_in_link: str
    code: str
    dashboard: str | None
    token_command: str
    data: str
    seconds: float


def up(
    options: UpOptions,
    console: Console,
    *,
    environment: MutableMapping[str, str] = os.environ,
    is_ready: Callable[[Running], None],
) -> bool:
    """Run the platform until the process is asked to stop; `is_ready` is called once it answers.

    Returns False where Ray has died: then the caller starts again, in a new process, for this one cannot use Ray twice.

    Raises:
        AxonsError: why it does not start.
    """
    began = time.monotonic()
    settings = _settings(options)
    _refuse_open_doors(options, settings, environment)
    stop = threading.Event()
    with _stopping_on_signals(stop), _only_one(settings.data):
        settings = _with_secrets(settings, options, environment)
        _end_leftovers(settings, options, console)
        _refuse_taken_port(options)
        with _step(console, "Preparing the database"):
            prepared = prepare(settings)
        with _ray(options, settings, console) as dashboard:
            with _step(console, "Starting the platform"):
                _deploy(options, settings, prepared.warm)
            is_ready(_running(settings, prepared.code, dashboard, time.monotonic() - began))
            was_asked = _wait(stop, is_own=options.address is None)
            console.print("Stopping …" if was_asked else "! Ray has died; starting again", highlight=False)
    return was_asked


def sign_in_link(settings: Settings, code: str) -> str:
    """What a browser opens to sign in by a code."""
    return f"{settings.public_url}/login?code={quote(code)}"


def _settings(options: UpOptions) -> Settings:
    try:
        settings = Settings()
    except ValidationError as error:
        raise AxonsError("; ".join(_setting(problem["loc"], problem["msg"]) for problem in error.errors())) from error
    changes: dict[str, Any] = {"data": (options.data or settings.data).absolute()}
    if "public_url" not in settings.model_fields_set and _is_loopback(options.host):
        changes["public_url"] = f"http://127.0.0.1:{options.port}"
    return settings.model_copy(update=changes)


def _setting(place: tuple[int | str, ...], message: str) -> str:
    """What is wrong with a setting; what we ourselves say of it has its name in it."""
    said = message.removeprefix("Value error, ")
    return f"AXONS_{str(place[0]).upper()}: {said}" if place else said


def _refuse_open_doors(options: UpOptions, settings: Settings, environment: MutableMapping[str, str]) -> None:
    """Others may reach us only where nothing is open without a secret.

    Raises:
        AxonsError: says which secret is missing.
    """
    if environment.get("RAY_AUTH_MODE", "token").lower() != "token":
        raise AxonsError(
            f"RAY_AUTH_MODE is {environment['RAY_AUTH_MODE']!r}: whoever reaches Ray could run any code; "
            "unset it, or set it to token"
        )
    has_token = bool(environment.get("RAY_AUTH_TOKEN") or environment.get("RAY_AUTH_TOKEN_PATH"))
    if options.address and not has_token:
        raise AxonsError(
            f"the token of the Ray cluster at {options.address!r} is missing; set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        )
    if _is_loopback(options.host):
        return
    if not has_token:
        raise AxonsError(
            f"--host {options.host!r} lets other machines in, but there is no Ray token; make one with "
            "`ray get-auth-token --generate` and set RAY_AUTH_TOKEN_PATH"
        )
    if settings.secret is None:
        raise AxonsError(
            f"--host {options.host!r} lets other machines in, but there is no secret; "
            "set AXONS_SECRET to a long random text"
        )
    if "public_url" not in settings.model_fields_set:
        raise AxonsError(
            f"--host {options.host!r} lets other machines in, but not by which address; set AXONS_PUBLIC_URL to it, "
            "as https://axons.example.org"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def _stopping_on_signals(stop: threading.Event) -> Iterator[None]:
    """The first Ctrl-C stops cleanly; a second one breaks off."""

    def ask(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _only_one(data: Path) -> Iterator[None]:
    """Hold the data folder, which nobody else may read.

    Raises:
        DatabaseTaken: another `axons up` holds it.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    data.chmod(0o700)
    with (data / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise DatabaseTaken(
                f"axons is running on the folder {str(data)!r} already, as process {file.read().strip() or '?'}; "
                "stop it first, or give another folder with --data"
            ) from error
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def _with_secrets(settings: Settings, options: UpOptions, environment: MutableMapping[str, str]) -> Settings:
    """Secrets that are made at the first start, and Ray's environment."""
    if options.address is None:
        given = environment.get("RAY_AUTH_TOKEN") or _text_of(environment.get("RAY_AUTH_TOKEN_PATH"))
        _keep_secret(settings.data / local_ray.TOKEN_FILE, given)
        local_ray.set_environment(environment, settings.data)
    else:
        environment["RAY_AUTH_MODE"] = "token"
    if settings.secret is not None:
        return settings
    return settings.model_copy(update={"secret": SecretStr(_keep_secret(settings.data / SECRET_FILE))})


def _text_of(path: str | None) -> str | None:
    return Path(path).read_text().strip() if path else None


def _keep_secret(path: Path, given: str | None = None) -> str:
    """The secret in a file that only we can read; made, or replaced by the one given."""
    if not path.exists() or (given is not None and path.read_text() != given):
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(given or secrets.token_hex(32))
    path.chmod(0o600)
    return path.read_text()


def _end_leftovers(settings: Settings, options: UpOptions, console: Console) -> None:
    """Processes and logs of the Ray before, if it was killed."""
    if options.address is not None:
        return
    folder = local_ray.session_folder(settings.data)
    if count := local_ray.end_leftovers(folder):
        console.print(f"✓ ended {count} processes of a Ray that was killed", highlight=False)
    shutil.rmtree(folder / "ray", ignore_errors=True)


def _refuse_taken_port(options: UpOptions) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((options.host, options.port))
        except OSError as error:
            raise AxonsError(
                f"port {options.port} on {options.host} cannot be used ({error.strerror}); choose another with --port"
            ) from error


@contextmanager
def _step(console: Console, title: str) -> Iterator[None]:
    """Say what is being done, and how long it took."""
    began = time.monotonic()
    with console.status(f"{title} …"):
        yield
    console.print(f"✓ {title.lower()}: {time.monotonic() - began:.1f} s", highlight=False)


@contextmanager
def _ray(options: UpOptions, settings: Settings, console: Console) -> Iterator[str | None]:
    """Be connected to Ray; yields the dashboard's address."""
    import ray  # late: what the environment says is read when it is imported

    with _step(console, "Starting Ray" if options.address is None else "Connecting to Ray"):
        if options.address is None:
            dashboard: str | None = local_ray.start_ray(settings.data, dashboard_port=options.dashboard_port)
        else:
            context = ray.init(
                address=options.address, namespace="axons", log_to_driver=False, logging_level=logging.ERROR
            )
            dashboard = f"http://{context.dashboard_url}" if context.dashboard_url else None
    try:
        yield dashboard
    finally:
        ray.shutdown()
        _end_leftovers(settings, options, Console(quiet=True))


def _deploy(options: UpOptions, settings: Settings, warm: list[str]) -> None:
    import ray
    from ray import serve

    from axons.app import deployment

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    http = {"host": options.host, "port": options.port}
    serve.start(proxy_location="HeadOnly", http_options=http, logging_config=deployment.LOGS)
    # The database's file is here, so its one process is too.
    on_node = ray.util.get_node_ip_address() if settings.database_url is None else None
    deployment.start_segmenter.remote(settings, warm, options.address is None)
    deployment.deploy(settings, on_node=on_node, with_sample=options.with_sample)


def _running(settings: Settings, code: str, dashboard: str | None, seconds: float) -> Running:
    return Running(
        url=settings.public_url,
        sign_in_link=sign_in_link(settings, code),
        code=code,
        dashboard=dashboard,
        token_command=local_ray.token_command(settings.data),
        data=str(settings.data),
        seconds=round(seconds, 1),
    )


def _wait(stop: threading.Event, *, is_own: bool) -> bool:
    """Until somebody asks to stop, which is True; False where the Ray that we started has died."""
    ray = {child.pid for child in psutil.Process().children() if child.name() in _RAY_PROCESSES} if is_own else set()
    while not stop.wait(_LOOK_EVERY_S):
        if not all(_is_running(pid) for pid in ray):
            return False
    return True


def _is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
