"""Jobs on a Ray cluster: streaming tasks for what makes rows, Ray jobs for trainings."""

import json
import shlex
import sys
from collections.abc import Iterator
from typing import Any

import ray
import requests
from ray._common.constants import HEAD_NODE_RESOURCE_NAME
from ray.exceptions import RayError, RayTaskError
from ray.job_submission import JobStatus, JobSubmissionClient

from axons.app.jobs.kinds import kind_of
from axons.app.jobs.work import Interrupted, Row, Submission, Work
from axons.data.full_disk import telling_of_full_disks
from axons.data.priority import give_way
from axons.errors import ServerUnavailable

DRIVER = "driver"  # the custom resource of the nodes on which drivers of trainings may run

_ENDED = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED)
_DRIVER_ENVIRONMENT = {
    "RAY_JOB_STOP_SIGNAL": "SIGINT",  # Ray Train ends its workers on this signal only
    "RAY_JOB_STOP_WAIT_TIME_S": "30",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # shows the run on the dashboard's Train page
    "RAY_TRAIN_V2_ENABLED": "1",
}


class RayCluster:
    """The Ray cluster that this process is connected to; see `work.Cluster`."""

    def __init__(self) -> None:
        self._client: JobSubmissionClient | None = None

    def begin(self, kind: str, request: Row, *, name: str) -> Work:
        """One task without logical CPUs: the datasets that it drives need them."""
        _check_connected()
        try:
            # Workers' keys of the storage do not reach as far as a cleanup does.
            place = {HEAD_NODE_RESOURCE_NAME: 0.001} if kind == "cleanup" else {}
            answers = _stream.options(name=name, resources=place).remote(kind, json.dumps(request))
        except (RayError, ConnectionError) as error:
            raise ServerUnavailable(f"Ray does not take work at the moment ({error}); it is tried again") from error

        def interrupt(force: bool) -> None:
            ray.cancel(answers, force=force)

        return Work(_received(answers), interrupt, name=name)

    def training_places(self) -> int:
        """As many drivers as the nodes admit."""
        try:
            return int(ray.cluster_resources().get(DRIVER, 0))
        except (RayError, ConnectionError) as error:
            raise ServerUnavailable(f"Ray does not answer ({error}); it is asked again") from error

    def submit(self, submission_id: str, run_uri: str, metadata: dict[str, str]) -> None:
        """A Ray job whose entry point holds nothing but the address of the run."""
        try:
            self._jobs().submit_job(
                entrypoint=train_command(run_uri),
                submission_id=submission_id,
                entrypoint_resources={DRIVER: 1},
                runtime_env={"env_vars": _DRIVER_ENVIRONMENT},
                metadata=metadata,
            )
        except (RuntimeError, requests.RequestException, ConnectionError) as error:
            if self.submission(submission_id) == "unknown":
                raise ServerUnavailable(f"Ray did not take the training ({error}); it is tried again") from error

    def submission(self, submission_id: str) -> Submission:
        """See `work.Cluster`."""
        try:
            status = self._jobs().get_job_status(submission_id)
        except (RuntimeError, requests.RequestException, ConnectionError) as error:
            if "status code 404" in str(error):
                return "unknown"
            self._client = None
            raise _no_answer(error) from error
        if status in _ENDED:
            return "ended"
        return "waiting" if status == JobStatus.PENDING else "running"

    def last_words(self, submission_id: str) -> str:
        """See `work.Cluster`."""
        try:
            message = self._jobs().get_job_info(submission_id).message or ""
        except (RuntimeError, requests.RequestException, ConnectionError):
            return ""
        return message.strip().rpartition("\n")[2][:300]

    def stop(self, submission_id: str) -> None:
        """See `work.Cluster`."""
        try:
            self._jobs().stop_job(submission_id)
        except (RuntimeError, requests.RequestException, ConnectionError) as error:
            if "status code 404" not in str(error):
                raise _no_answer(error) from error

    def _jobs(self) -> JobSubmissionClient:
        _check_connected()
        if self._client is None:
            try:
                self._client = JobSubmissionClient(ray.get_runtime_context().gcs_address)
            except (RuntimeError, RayError, ConnectionError, requests.RequestException) as error:
                raise _no_answer(error) from error
        return self._client


def _no_answer(error: Exception) -> ServerUnavailable:
    """What a person reads while Ray is away; of a refused connection that is all there is to say."""
    told = f" ({error})" if isinstance(error, RuntimeError) else ""
    return ServerUnavailable(f"Ray's job server does not answer{told}; it is asked again")


def _check_connected() -> None:
    """Ray would otherwise start a cluster of its own on this machine, without a word."""
    if not ray.is_initialized():
        raise ServerUnavailable("this process is not connected to Ray; it is tried again")


def train_command(run_uri: str) -> str:
    """The entry point of a training, as the shell of the driver's node reads it."""
    return shlex.join([sys.executable, "-m", "axons.train", run_uri])


def submit_line(submission_id: str, run_uri: str) -> str:
    """The command with which a person submits a prepared run exactly as the dispatcher would."""
    resources, environment = json.dumps({DRIVER: 1}), json.dumps({"env_vars": _DRIVER_ENVIRONMENT})
    options = ["--submission-id", submission_id, "--entrypoint-resources", resources]
    words = ["ray", "job", "submit", *options, "--runtime-env-json", environment]
    return f"{shlex.join(words)} -- {train_command(run_uri)}"


@ray.remote(num_cpus=0, num_returns="streaming", max_retries=0)
def _stream(kind: str, request: str) -> Iterator[str]:
    give_way()
    with telling_of_full_disks():
        for row in kind_of(kind).work(json.loads(request)):
            yield json.dumps(row)


def _received(answers: Any) -> Iterator[Row]:
    try:
        for answer in answers:
            yield json.loads(ray.get(answer))
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, RayError) or not isinstance(cause, Exception):
            raise Interrupted(str(error)) from error
        raise cause from error
    except RayError as error:
        raise Interrupted(str(error)) from error
