"""Real trainings as Ray jobs under the dispatcher, on a Ray with a dashboard of its own; prints what happened as JSON.

Its own process: the tests share one Ray without a dashboard, and a process has one Ray.
"""

import json
import sys
import time
from pathlib import Path

import ray
from ray.job_submission import JobSubmissionClient
from sqlmodel import SQLModel, select

from axons.app.database import Database
from axons.app.jobs import train
from axons.app.jobs.dispatcher import Dispatcher
from axons.app.jobs.ray_work import DRIVER, RayCluster
from axons.app.local_ray import start_ray
from axons.app.platform import Platform
from axons.app.services.jobs import cancel_job
from axons.app.services.runs import RunCreate, start_run
from axons.app.settings import Settings
from axons.app.tables import EpochMetric, Job, Model, Run
from axons.data.storage import open_storage
from axons.train.config import TrainConfig
from tests.app.conftest import As, add_user
from tests.app.trainings import add_project, add_training_set
from tests.train.runs import SMALL

TIMEOUT_S = 240


def main(folder: Path) -> None:
    settings = Settings(data=folder)
    folder.mkdir(parents=True, exist_ok=True)
    start_ray(folder, dashboard_port=0, drivers=1)
    database = Database(settings.database)
    SQLModel.metadata.create_all(database._writer)
    platform = Platform(settings=settings, database=database, storage=open_storage(settings.storage))
    teacher = add_user(platform, "teacher", "educator")
    row = add_training_set(platform, add_project(platform, teacher), folder)
    cluster = RayCluster()
    dispatcher = Dispatcher(platform, cluster, every_s=0.5)
    dispatcher.start()

    def start(**config) -> Job:
        form = RunCreate(training_set_id=row.id, config=TrainConfig(**{**SMALL, "device": "cpu", **config}))
        run = start_run(platform, teacher, form)
        return platform.database.read(lambda session: session.get_one(Job, run.job_id))

    def now_of(job: Job) -> Job:
        return platform.database.read(lambda session: session.get_one(Job, job.id))

    def wait_for(job: Job, *states: str) -> list[str]:
        seen = []
        until = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until:
            state = now_of(job).state
            if [state] != seen[-1:]:
                seen.append(state)
            if state in states:
                return seen
            time.sleep(0.05)
        raise TimeoutError(f"{job.id} is {now_of(job).state} after {seen}: {now_of(job).reason}")

    first, second = start(), start(epochs=10_000)
    until = time.monotonic() + TIMEOUT_S
    while not now_of(first).result.get("submitted") and time.monotonic() < until:
        time.sleep(0.1)
    cluster.submit(train.submission_id(now_of(first)), platform.uri(f"models/{first.target_id}"), {})
    waiting = now_of(second).state
    chain = wait_for(first, "done", "failed")
    wait_for(second, "running")
    cancelled_at = time.monotonic()
    platform.database.write(lambda session: cancel_job(session, teacher, second.id))
    wait_for(second, "cancelled", "failed")
    cancel_s = time.monotonic() - cancelled_at
    while ray.available_resources().get(DRIVER, 0) < 1 and time.monotonic() - cancelled_at < 60:
        time.sleep(0.1)
    freed_s = time.monotonic() - cancelled_at
    ray_jobs = JobSubmissionClient(ray.get_runtime_context().gcs_address).list_jobs()
    [ours] = [job for job in ray_jobs if job.submission_id == f"{first.id}-1"]
    dispatcher.stop()
    client = As(platform, teacher)
    report = client.get(f"/v1/runs/{first.target_id}/report", params={"download": True})
    [model] = client.get("/v1/models").json()["items"]
    shown = client.get(f"/v1/runs/{first.target_id}").json()

    def told(session) -> dict:
        return {
            "state": session.get_one(Job, first.id).state,
            "reason": session.get_one(Job, first.id).reason,
            "attempt": session.get_one(Job, first.id).attempt,
            "epochs": [
                found.epoch for found in session.exec(select(EpochMetric).where(EpochMetric.run_id == first.target_id))
            ],
            "models": len(session.exec(select(Model)).all()),
            "device": session.get_one(Run, first.target_id).status["device"],
            "cancelled": session.get_one(Job, second.id).state,
        }

    result = {
        **platform.database.read(told),
        "chain": chain,
        "waiting": waiting,
        "cancel_s": cancel_s,
        "freed_s": freed_s,
        "ray_jobs": sum(job.submission_id is not None for job in ray_jobs),
        "metadata": ours.metadata,
        "entrypoint": ours.entrypoint,
        "report": report.text,
        "report_headers": dict(report.headers),
        "run_id": first.target_id,
        "set_sha256": row.sha256,
        "evaluation": shown["evaluation"]["splits"]["test"],
        "model": model,
        "left": [
            stored.key
            for stored in platform.storage.list_objects()
            if "/ray/" in stored.key or stored.key.startswith("tmp/")
        ],
        "keys": [stored.key for stored in platform.storage.list_objects("models")],
    }
    (folder / "result.json").write_text(json.dumps(result))
    database.close()
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
