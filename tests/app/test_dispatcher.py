"""Trainings through the dispatcher, on a cluster of threads: exactly once, in fair order, stopped in time."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import pytest
from sqlmodel import col, select

from axons.app.jobs import train
from axons.app.jobs.dispatcher import Dispatcher, _tell_ray_is_away
from axons.app.policy import Actor
from axons.app.services import runs as services
from axons.app.services.jobs import cancel_job
from axons.app.services.runs import RunCreate
from axons.app.tables import EpochMetric, Job, Lease, Model, Notification, ProjectMember, Run, now
from axons.data.storage import sha256_of
from axons.errors import ChecksumMismatch, ModelRefused, ServerUnavailable
from axons.train.run import RunFolder, RunMetrics, Status
from tests.app.conftest import As, add_user
from tests.app.trainings import CONFIG, ThreadCluster, add_project, add_training_set, epoch, play, settle, write_model


@pytest.fixture
def training_set(platform, ana, tmp_path):
    return add_training_set(platform, add_project(platform, ana), tmp_path)


@pytest.fixture
def start(platform, ana, training_set):
    """Start a training of ana's by REST; returns the answer."""
    client = As(platform, ana)

    def start_one(**changes):
        answer = client.post("/v1/runs", json={"training_set_id": training_set.id, "config": CONFIG, **changes})
        assert answer.status_code == 202, answer.text
        return answer.json()

    return start_one


def rows(platform, table):
    return platform.database.read(lambda session: session.exec(select(table)).all())


def jobs(platform) -> list[Job]:
    return rows(platform, Job)


def are_over(platform, count=1):
    found = [job for job in jobs(platform) if job.kind == "train"]
    return len(found) >= count and all(job.finished_at for job in found)


def all_rows(platform):
    """Everything that dispatching writes, in a form that can be compared."""
    return [
        sorted((row.model_dump(mode="json") for row in rows(platform, table)), key=str)
        for table in (Job, Run, EpochMetric, Model, Notification)
    ]


@pytest.mark.both_databases
def test_a_training_ends_done_with_model_epochs_and_news(platform, start):
    run = start()
    settle(Dispatcher(platform, ThreadCluster()), lambda: are_over(platform))
    [job], [model], [news] = jobs(platform), rows(platform, Model), rows(platform, Notification)
    assert (job.state, job.progress, job.attempt) == ("done", 1.0, 1)
    assert (model.run_id, model.version, model.mean_iou, model.is_promoted) == (run["id"], 1, 0.7, True)
    assert [row.epoch for row in rows(platform, EpochMetric)] == [1, 2]
    assert news.text == "Training in 'Disks' done: model 'Disks' version 1, mean IoU 0.700"
    assert [line.split(" ", 1)[1] for line in job.log.splitlines()] == [
        "attempt 1 begins",
        "done: model 'Disks' version 1, mean IoU 0.700",
    ]


def test_a_second_run_makes_a_second_version_and_leaves_the_first(platform, ana, start):
    dispatcher = Dispatcher(platform, ThreadCluster())
    start()
    settle(dispatcher, lambda: are_over(platform))
    [first] = rows(platform, Model)
    before = platform.storage.read(f"{first.key}/model.safetensors")
    start()
    settle(dispatcher, lambda: are_over(platform, 2))
    versions = sorted((model.version, model.is_promoted) for model in rows(platform, Model))
    assert versions == [(1, True), (2, False)]
    assert platform.storage.read(f"{first.key}/model.safetensors") == before


@pytest.mark.both_databases
def test_every_step_twice_changes_nothing(platform, start):
    start()
    cluster = ThreadCluster()
    first, second = Dispatcher(platform, cluster), Dispatcher(platform, cluster)
    first._lead = second._lead = lambda session: True
    settle(first, lambda: (second.step(), are_over(platform))[1])
    ended = all_rows(platform)
    first.step()
    second.step()
    assert all_rows(platform) == ended
    assert len(cluster.order) == 1
    assert len(rows(platform, Model)) == len(rows(platform, Notification)) == 1


@pytest.mark.both_databases
def test_only_the_holder_of_the_lease_works(platform, start):
    start()
    first, second = Dispatcher(platform, ThreadCluster()), Dispatcher(platform, ThreadCluster())
    first.step()
    second.step()
    assert second._cluster.order == []
    first.stop()
    second.step()
    assert rows(platform, Lease)[0].holder == second._holder


def test_a_dead_dispatcher_is_followed_when_its_lease_has_run_out(platform, start):
    start()
    first, second = Dispatcher(platform, ThreadCluster()), Dispatcher(platform, ThreadCluster())
    first.step()

    def expire(session):
        session.exec(select(Lease)).one().expires_at = now() - timedelta(seconds=5)

    platform.database.write(expire)
    second.step()
    assert rows(platform, Lease)[0].holder == second._holder


def test_when_the_cluster_dies_the_training_begins_again(platform, start):
    start()
    cluster = ThreadCluster(train=lambda uri: time.sleep(60))
    dispatcher = Dispatcher(platform, cluster)
    dispatcher.step()
    cluster.forget()
    cluster.train = play
    settle(dispatcher, lambda: are_over(platform))
    [job] = jobs(platform)
    assert (job.state, job.attempt) == ("done", 2)
    assert len(rows(platform, Model)) == 1


def test_a_training_whose_process_always_dies_has_failed_after_five_new_starts(platform, start):
    start()
    settle(Dispatcher(platform, ThreadCluster(train=lambda uri: None)), lambda: are_over(platform))
    [job] = jobs(platform)
    assert (job.state, job.attempt) == ("failed", 6)
    assert job.reason.startswith("the training's process is gone, 6 times; tell the administrator the job")


def test_while_ray_does_not_answer_nothing_is_lost_or_counted(platform, start):
    start()
    cluster = ThreadCluster()
    dispatcher = Dispatcher(platform, cluster)

    def unavailable(*_):
        raise ServerUnavailable("Ray does not answer; it is asked again")

    known, cluster.submission = cluster.submission, unavailable
    for _ in range(3):
        dispatcher.step()
    cluster.submission = known
    settle(dispatcher, lambda: are_over(platform))
    assert [job.attempt for job in jobs(platform)] == [1]


def test_while_ray_is_away_work_waits_with_the_reason_and_goes_on_when_it_is_back(platform, ana, start):
    def unavailable(*_):
        raise ServerUnavailable("Ray does not answer; it is asked again")

    cluster = ThreadCluster()
    dispatcher = Dispatcher(platform, cluster)
    places, cluster.training_places = cluster.training_places, unavailable
    run = start()
    dispatcher.step()
    path = f"/v1/jobs/{run['job_id']}"
    told = As(platform, ana).get(path).json()
    assert (told["state"], told["ahead"]) == ("queued", 0)
    assert told["reason"] == "Ray does not answer at the moment; this starts as soon as it does"
    cluster.training_places = places
    later = Dispatcher(platform, cluster)  # the server, too, was started anew
    later._lead = lambda session: True
    settle(later, lambda: are_over(platform))
    assert [(job.state, job.attempt) for job in jobs(platform)] == [("done", 1)]


def test_a_reason_for_waiting_is_gone_when_ray_is_back(platform, ana, admin, training_set, start):
    cluster = ThreadCluster(train=lambda uri: time.sleep(60))
    dispatcher = Dispatcher(platform, cluster)
    start()
    second = As(platform, admin).post("/v1/runs", json={"training_set_id": training_set.id, "config": CONFIG}).json()
    platform.database.write(_tell_ray_is_away)
    dispatcher.step()
    told = As(platform, admin).get(f"/v1/jobs/{second['job_id']}").json()
    assert told["reason"] == "waits for 1 other job"


def test_a_known_failure_keeps_its_reason_and_is_not_repeated(platform, start):
    def fail(uri):
        folder = RunFolder(uri)
        attempt = folder.begin_attempt()
        folder.write_status(Status(state="failed", attempt=attempt, reason="the loss is not a number; lower the rate"))

    start()
    settle(Dispatcher(platform, ThreadCluster(train=fail)), lambda: are_over(platform))
    [job] = jobs(platform)
    assert (job.state, job.attempt, job.reason) == ("failed", 1, "the loss is not a number; lower the rate")
    assert rows(platform, Notification)[0].text.endswith("failed: the loss is not a number; lower the rate")


def test_what_an_older_attempt_reports_late_is_refused(platform, start):
    start()
    cluster = ThreadCluster(train=lambda uri: time.sleep(60))
    dispatcher = Dispatcher(platform, cluster)
    dispatcher.step()
    [run] = rows(platform, Run)
    folder = RunFolder(platform.uri(run.key))
    old = folder.begin_attempt()

    def restart(session):
        job = session.exec(select(Job)).one()
        job.state, job.attempt, job.result = "running", 2, {"after_attempt": old, "submitted": 2}

    platform.database.write(restart)
    cluster.states[f"{run.job_id}-2"] = "running"
    folder.write_status(Status(state="failed", attempt=old, reason="late news"))
    folder.write_metrics(RunMetrics(attempt=old, classes=[], epochs=[epoch(1)]))
    dispatcher.step()
    [job] = jobs(platform)
    assert (job.state, job.reason) == ("running", "")
    assert rows(platform, EpochMetric) == []


def test_epochs_trained_anew_after_a_restart_replace_the_old_ones(platform, start):
    start()
    cluster = ThreadCluster(train=lambda uri: time.sleep(60))
    dispatcher = Dispatcher(platform, cluster)
    dispatcher.step()
    [run] = rows(platform, Run)
    folder = RunFolder(platform.uri(run.key))
    first = folder.begin_attempt()
    folder.write_status(Status(state="running", attempt=first, epoch=4))
    folder.write_metrics(RunMetrics(attempt=first, classes=[], epochs=[epoch(n) for n in (1, 2, 3, 4)]))
    dispatcher.step()
    second = folder.begin_attempt()
    again = epoch(3).model_copy(update={"train_loss": 0.01})
    folder.write_metrics(RunMetrics(attempt=second, classes=[], epochs=[epoch(1), epoch(2), again]))
    folder.storage.replace("evaluation.json", b"{}")
    write_model(folder, run_id=run.id)
    folder.write_status(Status(state="done", attempt=second, epoch=3))
    settle(dispatcher, lambda: are_over(platform))
    found = sorted((row.epoch, row.metrics["train_loss"]) for row in rows(platform, EpochMetric))
    assert found == [(1, 1.0), (2, 0.5), (3, 0.01)]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: folder.storage.replace("model/model.safetensors", b"weightz"), "another sha256"),
        (lambda folder: folder.storage.replace("model/model.safetensors", b"weig"), "another sha256"),
        (lambda folder: folder.storage.delete_prefix("model/model.safetensors"), "is missing"),
        (lambda folder: folder.storage.replace("model/model.json", b"{"), "is not readable"),
        (lambda folder: folder.storage.delete_prefix("model"), "no model at"),
    ],
)
def test_a_damaged_model_is_never_activated(platform, start, damage, reason):
    """The status that says "done" comes last, so what is damaged was damaged before."""

    def play_damaged(uri):
        folder = RunFolder(uri)
        attempt = folder.begin_attempt()
        write_model(folder, run_id=folder.request().run_id)
        damage(folder)
        folder.write_status(Status(state="done", attempt=attempt))

    start()
    settle(Dispatcher(platform, ThreadCluster(train=play_damaged)), lambda: are_over(platform))
    [job] = jobs(platform)
    assert job.state == "failed"
    assert job.reason.startswith("the trained model did not pass validation: ")
    assert reason in job.reason
    assert rows(platform, Model) == []


def damage_of(number: int):
    """Cut, flipped byte, swapped bytes, huge header, nothing at all: of the weights, or of the card."""
    rng = random.Random(number)
    name = ("model.safetensors", "model.json")[number % 2]

    def apply(data: bytes) -> bytes:
        at = rng.randrange(len(data) - 1)
        flipped = bytes([data[at] ^ 1 << rng.randrange(7)])
        kinds = [
            data[:at],
            data[:at] + flipped + data[at + 1 :],
            data[at + 1 :] + data[: at + 1],
            b"\xff" * 8 + data,
            b"",
        ]
        return kinds[number // 2 % 5]

    return name, apply


def test_none_of_fifty_damages_passes_for_a_model(platform, start, record_property):
    start()
    [run] = rows(platform, Run)
    folder = RunFolder(platform.uri(run.key))
    write_model(folder, run_id=run.id, weights=random.Random(0).randbytes(500))
    whole = {name: folder.storage.read(f"model/{name}") for name in ("model.safetensors", "model.json")}

    def passes(number: int) -> bool:
        name, damage = damage_of(number)
        folder.storage.replace(f"model/{name}", damage(whole[name]))
        try:
            card = train.check_model(platform, run)
        except (ModelRefused, ChecksumMismatch):
            return False
        finally:
            folder.storage.replace(f"model/{name}", whole[name])
        # A flipped letter in the card's prose is still a card; what it says of the weights must hold.
        return card.sha256 != sha256_of(whole["model.safetensors"]) or card.origin.run != run.id

    assert train.check_model(platform, run).origin.run == run.id
    record_property("damages", 50)
    assert [number for number in range(50) if passes(number)] == []


def test_the_model_of_another_run_is_never_activated(platform, start):
    def play_damaged(uri):
        folder = RunFolder(uri)
        attempt = folder.begin_attempt()
        write_model(folder, run_id="another")
        folder.write_status(Status(state="done", attempt=attempt))

    start()
    settle(Dispatcher(platform, ThreadCluster(train=play_damaged)), lambda: are_over(platform))
    assert "run 'another' has made it" in jobs(platform)[0].reason
    assert rows(platform, Model) == []


def test_a_waiting_training_is_cancelled_at_once(platform, ana, start):
    run = start()
    answer = As(platform, ana).post(f"/v1/runs/{run['id']}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")


def test_a_running_training_is_cancelled_within_ten_seconds(platform, ana, start):
    run = start()
    dispatcher = Dispatcher(platform, ThreadCluster(train=partial(play, epochs=1000, pause_s=0.2)))
    settle(dispatcher, lambda: jobs(platform)[0].state == "running")
    began = time.monotonic()
    As(platform, ana).post(f"/v1/runs/{run['id']}/cancel")
    settle(dispatcher, lambda: are_over(platform))
    assert jobs(platform)[0].state == "cancelled"
    assert time.monotonic() - began < 10


def test_a_person_who_cancels_does_not_wait_for_ray(platform, ana, start):
    run = start()
    cluster = ThreadCluster(train=lambda uri: time.sleep(60))
    dispatcher = Dispatcher(platform, cluster)
    dispatcher.step()

    def unavailable(*_):
        raise ServerUnavailable("Ray does not answer; it is asked again")

    cluster.submission = cluster.stop = unavailable
    began = time.monotonic()
    As(platform, ana).post(f"/v1/runs/{run['id']}/cancel")
    settle(dispatcher, lambda: are_over(platform))
    assert jobs(platform)[0].state == "cancelled"
    assert time.monotonic() - began < 10


def test_a_training_that_does_not_listen_is_interrupted_and_called_over_within_ten_seconds(platform, ana, start):
    run = start()
    cluster = ThreadCluster(train=lambda uri: time.sleep(60))
    cluster.stop = lambda submission_id: cluster.stopped.append(submission_id)
    dispatcher = Dispatcher(platform, cluster)
    dispatcher.step()
    began = time.monotonic()
    As(platform, ana).post(f"/v1/runs/{run['id']}/cancel")
    settle(dispatcher, lambda: are_over(platform))
    assert time.monotonic() - began < 10
    assert jobs(platform)[0].state == "cancelled"
    assert set(cluster.stopped) == {f"{run['job_id']}-1"}


def test_a_cancelled_training_is_resumed_as_its_next_attempt(platform, ana, start):
    run = start()
    cluster = ThreadCluster(train=partial(play, epochs=1000, pause_s=0.05))
    dispatcher = Dispatcher(platform, cluster)
    settle(dispatcher, lambda: jobs(platform)[0].state == "running")
    client = As(platform, ana)
    client.post(f"/v1/runs/{run['id']}/cancel")
    settle(dispatcher, lambda: are_over(platform))
    cluster.train = play
    assert client.post(f"/v1/runs/{run['id']}/resume").status_code == 202
    settle(dispatcher, lambda: are_over(platform))
    [job] = jobs(platform)
    assert (job.state, job.attempt) == ("done", 2)


def test_a_training_that_is_done_cannot_be_resumed_or_cancelled(platform, ana, start):
    run = start()
    settle(Dispatcher(platform, ThreadCluster()), lambda: are_over(platform))
    client = As(platform, ana)
    assert client.post(f"/v1/runs/{run['id']}/resume").status_code == 409
    assert client.post(f"/v1/runs/{run['id']}/cancel").status_code == 409


def test_an_overlong_training_is_stopped_at_its_limit(platform, start):
    start()
    dispatcher = Dispatcher(platform, ThreadCluster(train=partial(play, epochs=10_000, pause_s=0.02)))

    def limit(session):
        job = session.exec(select(Job)).one()
        job.request = {**job.request, "limit_minutes": 0.5}

    platform.database.write(limit)
    settle(dispatcher, lambda: are_over(platform))
    [job] = jobs(platform)
    assert job.state == "failed"
    assert job.reason.startswith("it was stopped at the limit of 0.5 minutes; choose fewer epochs")


def test_everybodys_first_training_starts_before_anybodys_second(platform, admin, tmp_path):
    project = add_project(platform, admin)
    row = add_training_set(platform, project, tmp_path)
    pupils = [add_user(platform, f"pupil-{number}", "educator") for number in range(6)]

    def ask(session, actor):
        form = RunCreate(training_set_id=row.id, config=CONFIG)
        owner = Actor(user_id=actor.user_id, name=actor.name, role="administrator")
        services.create_run(session, owner, form, platform.settings)

    for pupil in [pupils[0], pupils[0], pupils[0], *pupils, *pupils[1:]]:
        platform.database.write(partial(ask, actor=pupil))
    cluster = ThreadCluster(places=1)
    settle(Dispatcher(platform, cluster), lambda: are_over(platform, 14))
    assert sorted(cluster.order[:6]) == [pupil.name for pupil in pupils]
    assert sorted(cluster.order[6:12]) == [pupil.name for pupil in pupils]


def test_no_more_trainings_run_than_there_are_places(platform, admin, tmp_path):
    row = add_training_set(platform, add_project(platform, admin), tmp_path)
    form = RunCreate(training_set_id=row.id, config=CONFIG)
    for _ in range(4):
        platform.database.write(lambda session: services.create_run(session, admin, form, platform.settings))
    cluster = ThreadCluster(places=2, train=lambda uri: time.sleep(60))
    dispatcher = Dispatcher(platform, cluster)
    dispatcher.step()
    dispatcher.step()
    assert len(cluster.order) == 2
    shown = As(platform, admin).get("/v1/jobs").json()["items"]
    waiting = sorted((job["ahead"], job["reason"]) for job in shown if job["state"] == "queued")
    assert waiting == [(2, "waits for 2 other jobs"), (3, "waits for 3 other jobs")]


def test_sixty_pupils_press_train_twice_while_the_dispatcher_is_killed(platform, admin, tmp_path, record_property):
    """In this process a kill is a dispatcher that is dropped between two steps with all that it remembers."""
    row = add_training_set(platform, add_project(platform, admin), tmp_path)
    pupils = [add_user(platform, f"pupil-{number}") for number in range(60)]
    form = RunCreate(training_set_id=row.id, config=CONFIG)
    platform.database.write(
        lambda session: session.add_all(
            ProjectMember(project_id=row.project_id, user_id=pupil.user_id, role="editor") for pupil in pupils
        )
    )
    all_pressed = threading.Event()
    # No training ends before everybody has pressed twice: who is done may train again.
    cluster = ThreadCluster(places=4, train=lambda uri: all_pressed.wait() and play(uri))
    stop, kills, rng = threading.Event(), [], random.Random(7)

    def press(pupil):
        platform.database.write(lambda session: services.create_run(session, pupil, form, platform.settings))

    def dispatch():
        while not stop.is_set():
            dispatcher = Dispatcher(platform, cluster)
            dispatcher._lead = lambda session: True
            for _ in range(rng.randint(1, 3) if len(kills) < 5 else 10_000):
                if stop.is_set():
                    return
                dispatcher.step()
            kills.append(time.monotonic())

    thread = threading.Thread(target=dispatch)
    thread.start()
    with ThreadPoolExecutor(16) as pool:
        presses = [pool.submit(press, pupil) for pupil in pupils for _ in range(2)]
        outcomes = [press.exception() for press in presses]
    all_pressed.set()
    until = time.monotonic() + 120
    while not are_over(platform, 60) and time.monotonic() < until:
        time.sleep(0.1)
    stop.set()
    thread.join()
    found = [job for job in jobs(platform) if job.kind == "train"]
    record_property("jobs", len(found))
    assert len(kills) >= 5
    assert outcomes.count(None) == len(found) == len({job.user_id for job in found}) == 60
    assert {job.state for job in found} == {"done"}
    assert {model.run_id for model in rows(platform, Model)} == {job.target_id for job in found}
    assert len(rows(platform, Model)) == len(cluster.order) == 60
    refused = {str(outcome) for outcome in outcomes if outcome is not None}
    assert refused <= {"you have 1 of 1 trainings waiting or running; wait for one to end, or cancel it"}


def test_a_prepared_run_is_not_started_but_followed(platform, start):
    answer = start(prepare=True)
    assert answer["run_uri"].endswith(f"models/{answer['id']}")
    assert answer["submit"].startswith(f"ray job submit --submission-id {answer['job_id']}-1 ")
    assert answer["submit"].endswith(f"-m axons.train {answer['run_uri']}")
    cluster = ThreadCluster()
    dispatcher = Dispatcher(platform, cluster)
    dispatcher.step()
    assert (cluster.order, jobs(platform)[0].state) == ([], "queued")
    play(answer["run_uri"])
    settle(dispatcher, lambda: are_over(platform))
    assert (jobs(platform)[0].state, len(rows(platform, Model))) == ("done", 1)


def test_temporary_objects_of_a_job_are_gone_when_it_ends(platform, start):
    run = start()
    platform.storage.write(f"tmp/{run['job_id']}/scratch", b"x")
    settle(Dispatcher(platform, ThreadCluster()), lambda: are_over(platform))
    assert platform.storage.list_objects("tmp") == []


def test_a_job_of_somebody_else_is_not_to_be_seen_or_cancelled(platform, ben, start):
    run = start()
    client = As(platform, ben)
    assert client.get(f"/v1/jobs/{run['job_id']}").status_code == 404
    assert client.post(f"/v1/jobs/{run['job_id']}/cancel").status_code == 404
    assert client.get("/v1/jobs").json()["items"] == []


def test_an_administrator_sees_and_cancels_the_jobs_of_all(platform, admin, start):
    run = start()
    client = As(platform, admin)
    shown = client.get("/v1/jobs", params={"all": True}).json()["items"]
    assert [(job["id"], job["user_name"]) for job in shown] == [(run["job_id"], "ana")]
    assert client.get("/v1/jobs", params={"all": True, "state": "done"}).json()["items"] == []
    answer = client.post("/v1/jobs:cancel", json={"job_ids": [run["job_id"], "none"]}).json()
    assert [job["state"] for job in answer["cancelled"]] == ["cancelled"]
    assert [refusal["job_id"] for refusal in answer["refused"]] == ["none"]


def test_cancelling_a_job_twice_is_a_conflict(platform, ana, start):
    start()
    [job] = jobs(platform)
    platform.database.write(lambda session: cancel_job(session, ana, job.id))
    assert As(platform, ana).post(f"/v1/jobs/{job.id}/cancel").status_code == 409


def test_the_oldest_administrator_cleans_up_once_an_hour(platform, admin):
    dispatcher = Dispatcher(platform, ThreadCluster())
    settle(dispatcher, lambda: [job.state for job in jobs(platform)] == ["done"])
    dispatcher._tidy_at = 0
    dispatcher.step()
    assert [(job.kind, job.user_id) for job in jobs(platform)] == [("cleanup", admin.user_id)]
    assert not platform.database.read(lambda session: session.exec(select(Job).where(col(Job.state) == "queued")).all())
