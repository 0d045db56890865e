"""Typed client of the REST API: what the command and notebooks use."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypedDict
from urllib.parse import quote
from uuid import uuid4

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from axons.errors import AxonsError, JobFailed, RequestFailed, ServerUnavailable

Json = dict[str, Any]
Progress = Callable[[float, str], None]
Purpose = Literal["images", "annotations", "project", "model", "prediction", "example"]

FINAL_STATES = ("done", "failed", "cancelled")

_PASSING = frozenset({429, 502, 503, 504})
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_LONGEST_WAIT_S = 30.0
_POLL_S = 0.5
_SLOWEST_POLL_S = 3.0
_CHUNK = 1 << 20
_PAGE = 200


class Job(TypedDict):
    """Work in the queue; `ahead` jobs start before it, `reason` says why it waits or how it ended."""

    id: str
    kind: str
    state: str
    attempt: int
    progress: float
    reason: str
    ahead: int | None
    project_id: str | None
    target_id: str | None
    result: Json


class _Passing(Exception):
    """An answer that may be different a moment later."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.status_code)
        self.response = response


class Client:
    """One person's access to one server.

    A request that can be sent twice without harm is sent again when the server does not answer: reads, whole
    replacements, deletions, and creations, which carry a key by which the server knows them again.

    Args:
        url: of the server, as `http://127.0.0.1:8000`.
        token: personal token; None only for signing in.
        timeout_s: of one request.
        patience_s: how long an unanswered request is repeated.
        transport: in tests.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout_s: float = 60.0,
        patience_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._patience_s = patience_s
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        timeout = httpx.Timeout(timeout_s, connect=5.0)
        # Settings of the environment could send the token through somebody's proxy; this is our own server. But its
        # certificate may be of an authority of its own, as Caddy's for localhost, which SSL_CERT_FILE names.
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v1/",
            headers=headers,
            timeout=timeout,
            transport=transport or httpx.HTTPTransport(verify=httpx.create_ssl_context()),
            trust_env=False,
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # --- requests ---

    def get(self, path: str, **query: Any) -> Any:
        """What a route answers, as JSON; a query value of None is left out.

        Raises:
            RequestFailed: the server refuses; the text is its own sentence.
            ServerUnavailable: it does not answer.
        """
        return self._send("GET", path, params=_given(query)).json()

    def pages(self, path: str, **query: Any) -> Iterator[Json]:
        """Every row of a route that answers in pages."""
        cursor = None
        while True:
            page = self.get(path, **{"limit": _PAGE, **query, "cursor": cursor})
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def create(self, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> Any:
        """Make something, once, however often the request has to be sent."""
        headers = {"Idempotency-Key": str(uuid4())}
        response = self._send("POST", path, json=dict(body or {}), headers=headers, params=_given(query))
        return response.json() if response.content else None

    def change(self, path: str, body: Mapping[str, Any]) -> Any:
        """Change some fields of something."""
        return self._send("PATCH", path, json=dict(body)).json()

    def act(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Ask for something that must not be asked twice, as signing in by a code."""
        response = self._send("POST", path, json=dict(body or {}))
        return response.json() if response.content else None

    def delete(self, path: str) -> None:
        """Delete something; that it is gone already is fine."""
        self._send("DELETE", path)

    def text(self, path: str) -> str:
        """What a route answers, as text."""
        return self._send("GET", path).text

    def download(self, path: str, target: Path, *, progress: Progress | None = None, **query: Any) -> Path:
        """Write what a route sends to a file, which appears only when it is whole."""
        part = target.with_name(f"{target.name}.{uuid4().hex[:8]}.part")
        try:
            self._retrying()(self._fetch, path, part, _given(query), progress)
            part.replace(target)
        except _Passing as error:
            raise _failure(error.response) from error
        except httpx.TransportError as error:
            raise self._silence(error) from error
        finally:
            part.unlink(missing_ok=True)
        return target

    # --- files on their way in ---

    def upload(
        self,
        file: Path,
        *,
        purpose: Purpose,
        project_id: str | None = None,
        upload_id: str | None = None,
        progress: Progress | None = None,
    ) -> str:
        """Send a file in parts; returns the id of the complete upload.

        Args:
            upload_id: of an upload of the same file that broke off; only what it misses is sent.
        """
        size = file.stat().st_size
        if upload_id is None:
            form = {"name": file.name, "num_bytes": size, "purpose": purpose, "project_id": project_id}
            found = self.create("uploads", form)
        else:
            found = self.get(f"uploads/{_quoted(upload_id)}")
        if found["num_bytes"] != size:
            raise AxonsError(
                f"{str(file)!r} has {size} bytes, the upload began with {found['num_bytes']}; begin it again"
            )
        if found["state"] == "open":
            self._send_parts(file, found, progress)
            self.create(f"uploads/{found['id']}:complete")
        return str(found["id"])

    def _send_parts(self, file: Path, upload: Json, progress: Progress | None) -> None:
        missing = sorted(upload["missing"])
        with file.open("rb") as source:
            for sent, number in enumerate(missing):
                source.seek(number * upload["part_bytes"])
                part = source.read(upload["part_bytes"])
                headers = {"X-Part-SHA256": sha256(part).hexdigest(), "Content-Type": "application/octet-stream"}
                self._send("PUT", f"uploads/{upload['id']}/parts/{number}", content=part, headers=headers)
                if progress:
                    progress((sent + 1) / len(missing), f"sending {file.name}")

    # --- jobs ---

    def job(self, job_id: str) -> Job:
        """A job."""
        found: Job = self.get(f"jobs/{_quoted(job_id)}")
        return found

    def wait_for(self, job_id: str, *, progress: Progress | None = None, timeout_s: float | None = None) -> Job:
        """Wait until a job has ended well.

        Raises:
            JobFailed: it failed or was cancelled; the text is its reason.
            TimeoutError: it is not over in time; it goes on.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        pause = _POLL_S
        while True:
            job = self.job(job_id)
            if progress:
                progress(job["progress"], f"{job['kind']}: {job['reason'] or job['state']}")
            if job["state"] in FINAL_STATES:
                break
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"the {job['kind']} job is {job['state']} after {timeout_s:g} s; it goes on")
            time.sleep(pause)
            pause = min(_SLOWEST_POLL_S, pause * 1.2)
        if job["state"] != "done":
            raise JobFailed(f"{job['kind']} {job['state']}: {job['reason'] or 'no reason was given'}")
        return job

    # --- the loop ---

    def create_project(self, name: str, classes: Sequence[str], *, tile: int = 256, **more: Any) -> Json:
        """A new project; background is the first class."""
        made: Json = self.create("projects", {"name": name, "classes": list(classes), "tile": tile, **more})
        return made

    def import_images(self, project_id: str, files: Sequence[Path], *, progress: Progress | None = None) -> Job:
        """Send images, or ZIPs of them, and begin to import them; `wait_for` the job."""
        uploads = self._upload_all(project_id, files, "images", progress)
        job: Job = self.create(f"projects/{_quoted(project_id)}/images", {"uploads": uploads})
        return job

    def import_source(self, project_id: str, source: str) -> Job:
        """Begin to import what the server can read itself: s3://bucket/prefix, a CSV manifest there, or its folder."""
        job: Job = self.create(f"projects/{_quoted(project_id)}/images", {"source": source})
        return job

    def import_annotations(
        self,
        project_id: str,
        files: Sequence[Path],
        *,
        kind: str,
        fills_background: bool = False,
        progress: Progress | None = None,
    ) -> Job:
        """Send masks or label files and begin to import them.

        Args:
            fills_background: what the labels of an image leave open becomes background; not for masks.
        """
        uploads = self._upload_all(project_id, files, "annotations", progress)
        form = {"uploads": uploads, "format": kind, "fills_background": fills_background}
        job: Job = self.create(f"projects/{_quoted(project_id)}/annotations:import", form)
        return job

    def annotate(self, tile_id: str, annotation: Mapping[str, Any], *, base: int = 0) -> Json:
        """Save the labels of a tile, as `axons.data.layers.to_json` writes them.

        Args:
            base: the revision that they change; the server refuses to overwrite a later one.
        """
        path = f"tiles/{_quoted(tile_id)}/annotation"
        about = {"params": {"save_id": str(uuid4())}, "headers": {"If-Match": f'"{base}"'}}
        saved: Json = self._send("PUT", path, json=dict(annotation), **about).json()
        return saved

    def rank_tiles(self, project_id: str, model_id: str) -> Job:
        """Begin to let a model look at the tiles; `queue/next` with `order=useful` offers where labels help most."""
        job: Job = self.create(f"projects/{_quoted(project_id)}/tiles:rank", {"model_id": model_id})
        return job

    def add_example(self, project_id: str, picture: Path, caption: str, *, is_good: bool = True) -> Json:
        """Show a picture to those who label, of how it is done, or how it is not."""
        upload_id = self.upload(picture, purpose="example", project_id=project_id)
        form = {"upload_id": upload_id, "caption": caption, "is_good": is_good}
        made: Json = self.create(f"projects/{_quoted(project_id)}/examples", form)
        return made

    def freeze(self, project_id: str, **form: Any) -> tuple[Json, Job]:
        """Begin to freeze a training set; the fields are those of the route."""
        made = self.create(f"projects/{_quoted(project_id)}/training-sets", _given(form))
        return made["training_set"], made["job"]

    def start_run(self, training_set_id: str, *, name: str | None = None, prepare: bool = False, **config: Any) -> Json:
        """Start a training, or prepare one; `config` as `GET /api/v1/schemas/train` describes."""
        form = {"training_set_id": training_set_id, "name": name, "config": _given(config), "prepare": prepare}
        run: Json = self.create("runs", form)
        return run

    def predict(
        self,
        model_id: str,
        image: Path,
        *,
        project_id: str,
        scale: float | None = None,
        progress: Progress | None = None,
    ) -> Json:
        """Predict an image file; waits where it is large. The mask: `download(f"predictions/{id}/mask", target)`."""
        upload_id = self.upload(image, purpose="prediction", project_id=project_id, progress=progress)
        form = {"upload_id": upload_id, "scale": scale}
        answer = self.create(f"models/{_quoted(model_id)}/predict", form)
        found: Json = answer["predictions"][0] if answer["predictions"] else {}
        if answer["job"] is not None:
            job = self.wait_for(answer["job"]["id"], progress=progress)
            found = self.get(f"predictions/{job['target_id'] or found['id']}")
        return found

    def evaluate(
        self, model_id: str, training_set_id: str, *, split: str = "test", progress: Progress | None = None
    ) -> Json:
        """The scores of a model on a split of a training set."""
        form = {"model_id": model_id, "training_set_id": training_set_id, "split": split}
        made = self.create("evaluations", form)
        self.wait_for(made["job_id"], progress=progress)
        found: Json = self.get(f"evaluations/{made['id']}")
        return found

    def export_project(
        self, project_id: str, target: Path, *, kind: str = "project", progress: Progress | None = None
    ) -> Path:
        """Take a project along as one file; another `kind`, such as "coco", is its labels for other tools."""
        job = self.create(f"projects/{_quoted(project_id)}/export", {"format": kind})
        return self.fetch_export(job["id"], target, progress=progress)

    def import_project(self, file: Path, *, progress: Progress | None = None) -> Job:
        """Send a project that was exported elsewhere and begin to import it; its id is in the job's result."""
        upload_id = self.upload(file, purpose="project", progress=progress)
        job: Job = self.create("projects:import", {"upload_id": upload_id})
        return job

    def fetch_export(self, job_id: str, target: Path, *, progress: Progress | None = None) -> Path:
        """Wait for an export and download what it made."""
        self.wait_for(job_id, progress=progress)
        return self.download(f"jobs/{_quoted(job_id)}/file", target, progress=progress)

    def _upload_all(
        self, project_id: str, files: Sequence[Path], purpose: Purpose, progress: Progress | None
    ) -> list[str]:
        done = []
        for i, file in enumerate(files):
            done.append(self.upload(file, purpose=purpose, project_id=project_id))
            if progress:
                progress((i + 1) / len(files), f"sending {file.name}")
        return done

    def _fetch(self, path: str, part: Path, query: Mapping[str, Any], progress: Progress | None) -> None:
        with self._http.stream("GET", path, params=query) as response:
            if response.is_error:
                response.read()
                _raise_for(response)
            size = int(response.headers.get("content-length", 0))
            with part.open("wb") as file:
                for chunk in response.iter_bytes(_CHUNK):
                    file.write(chunk)
                    if progress and size:
                        progress(min(1.0, file.tell() / size), "downloading")

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        headers = request.get("headers") or {}
        may_repeat = method in _REPEATABLE or "Idempotency-Key" in headers
        try:
            return (
                self._retrying()(self._once, method, path, request) if may_repeat else self._once(method, path, request)
            )
        except _Passing as error:
            raise _failure(error.response) from error
        except httpx.TransportError as error:
            raise self._silence(error) from error

    def _once(self, method: str, path: str, request: Mapping[str, Any]) -> httpx.Response:
        response = self._http.request(method, f"./{path}", **request)  # else `models:` would be a scheme, like `http:`
        if response.is_error:
            _raise_for(response)
        return response

    def _retrying(self) -> Retrying:
        return Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, (_Passing, httpx.TransportError))),
            stop=stop_after_delay(self._patience_s),
            wait=_wait,
            reraise=True,
        )

    def _silence(self, error: httpx.TransportError) -> ServerUnavailable:
        why = str(error) or type(error).__name__
        return ServerUnavailable(f"{self.url} does not answer ({why}); check the address, and that axons is running")


_backing_off = wait_random_exponential(0.2, max=5.0)


def _wait(state: RetryCallState) -> float:
    """As long as the server asks for, else longer each time."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.response.headers.get("retry-after", "") if isinstance(error, _Passing) else ""
    return min(float(asked), _LONGEST_WAIT_S) if asked.isdigit() else _backing_off(state)


def _raise_for(response: httpx.Response) -> None:
    if response.status_code in _PASSING:
        raise _Passing(response)
    raise _failure(response)


def _failure(response: httpx.Response) -> RequestFailed:
    """The server's own sentence, or what can be said without one."""
    status = response.status_code
    try:
        problem = response.json()
        return RequestFailed(str(problem["detail"]), status, str(problem["type"]).removeprefix("axons:"))
    except (ValueError, KeyError, TypeError):
        return RequestFailed(
            f"{response.request.url} answered {status} {response.reason_phrase} and no sentence; "
            "check that the address is that of an axons server",
            status,
        )


def _given(query: Mapping[str, Any]) -> Json:
    return {name: value for name, value in query.items() if value is not None}


def _quoted(name: str) -> str:
    """An id as a part of a path."""
    return quote(name, safe="")
