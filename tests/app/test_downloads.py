"""The log of downloads: who took what with them, and when."""

import numpy as np
import pytest
from sqlmodel import select

from axons.app.tables import Assignment, Classroom, HandIn, Job, Model, Prediction
from axons.data.pictures import encode_mask
from tests.app.conftest import As
from tests.app.images import add_images, add_project
from tests.app.results import add_result
from tests.app.serving import the_api
from tests.app.trainings import add_training_set

DOCUMENTS = {"application/zip", "application/octet-stream", "application/pdf", "text/csv", "image/tiff", "text/html"}
ROUTES = {
    "/v1/images/{image_id}/original": "image",
    "/v1/jobs/{job_id}/file": "job",
    "/v1/models/{model_id}/download": "model",
    "/v1/runs/{run_id}/report": "run",
    "/v1/runs/{run_id}/report.pdf": "run",
    "/v1/runs/{run_id}/tensorboard": "run",
    "/v1/hand-ins/{hand_in_id}/report": "hand_in",
    "/v1/projects/{project_id}/predictions.csv": "project",
    "/v1/projects/{project_id}/predictions.zip": "project",
    "/v1/predictions/{prediction_id}/mask": "prediction",
    "/v1/predictions/{prediction_id}/csv": "prediction",
    "/v1/backups/now": None,  # has had its own row before there was a log
}


@pytest.fixture
def ids(platform, ana, teacher, tmp_path):
    """One of everything that can be taken away, by the name of the path parameter."""
    project = add_project(platform, ana, keeps_originals=True)
    [image] = add_images(platform, ana, project, tmp_path)
    run = add_result(platform, ana, add_training_set(platform, project, tmp_path))
    platform.storage.write(f"{run.key}/tensorboard/events", b"curves")
    platform.storage.write("projects/original", (tmp_path / "a.png").read_bytes())
    platform.storage.write("projects/p/mask.png", encode_mask(np.zeros((100, 150), np.uint8), ["#000000"]))
    platform.storage.write("tmp/export/labels.zip", b"labels")
    platform.storage.write("models/report/report.html", b"<h1>handed in</h1>")

    def add(session):
        session.get_one(type(image), image.id).original_key = "projects/original"
        model = session.exec(select(Model)).one()
        file = {"key": "tmp/export/labels.zip", "name": "labels.zip"}
        export = Job(kind="export", user_id=ana.user_id, project_id=project.id, state="done", result={"file": file})
        of = {"project_id": project.id, "created_by": ana.user_id, "image_id": image.id}
        prediction = Prediction(
            **of,
            model_id=model.id,
            name="p",
            key="projects/p",
            state="done",
            height=100,
            width=150,
            class_pixels=[15_000, 0, 0],
        )
        classroom = Classroom(name="4b", created_by=teacher.user_id)
        session.add_all([export, prediction, classroom])
        session.flush()
        task = Assignment(classroom_id=classroom.id, title="t", created_by=teacher.user_id)
        session.add(task)
        session.flush()
        hand_in = HandIn(
            assignment_id=task.id, user_id=ana.user_id, project_id=project.id, report_key="models/report/report.html"
        )
        session.add(hand_in)
        session.flush()
        return {
            "project_id": project.id,
            "image_id": image.id,
            "job_id": export.id,
            "model_id": model.id,
            "run_id": run.id,
            "hand_in_id": hand_in.id,
            "prediction_id": prediction.id,
        }

    return platform.database.write(add)


def documents() -> set[str]:
    """The routes that answer with a file which is not a picture for a screen."""
    found = set()
    for path, methods in the_api().openapi()["paths"].items():
        answer = methods.get("get", {}).get("responses", {}).get("200", {})
        if DOCUMENTS & {kind.partition(";")[0] for kind in answer.get("content", {})}:
            found.add(path)
    return found


def test_every_route_that_gives_a_document_is_in_the_table():
    assert documents() == set(ROUTES)


def test_each_download_writes_who_took_what(platform, ana, admin, ids):
    taken = {route: kind for route, kind in ROUTES.items() if kind}
    for route in taken:
        query = {"prediction_id": ids["prediction_id"]} if route.endswith(".zip") else None
        answer = As(platform, ana).get(route.format(**ids), params=query)
        assert answer.status_code == 200, (route, answer.text)
    rows = As(platform, admin).get("/v1/audit", params={"actor_id": ana.user_id, "limit": 500}).json()["items"]
    logged = [row for row in reversed(rows) if row["action"].endswith(".download")]
    assert [(row["object_kind"], row["object_id"]) for row in logged] == [
        (kind, ids[f"{kind}_id"]) for kind in taken.values()
    ]
    assert {row["actor_name"] for row in logged} == {"ana"}
    assert [row["detail"]["file"] for row in logged][:2] == ["a.png", "labels.zip"]


def test_what_is_refused_is_no_download(platform, ben, admin, ids):
    answers = {As(platform, ben).get(route.format(**ids)).status_code for route in ROUTES}
    assert answers <= {403, 404, 422}
    listed = As(platform, admin).get("/v1/audit", params={"actor_id": ben.user_id}).json()["items"]
    assert listed == []
