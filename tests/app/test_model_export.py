"""Taking models and reports along: ONNX, BioImage.IO, PDF."""

import json
import sys
import zipfile
from io import BytesIO

import onnx
import pytest

from axons.app.jobs import queue
from axons.app.jobs.kinds import kind_name, kind_of
from axons.app.services.jobs import end_job
from axons.app.tables import Job, Membership, Model
from axons.model.files import ONNX
from axons.model.onnx_export import describe_onnx, properties_of
from tests.app.conftest import As
from tests.app.results import add_result
from tests.app.test_runs import in_class
from tests.app.trainings import add_project, add_training_set
from tests.serve.models import make_model

FORM = {"format": "bioimageio", "authors": ["Ana Silva"], "licence": "CC-BY-4.0"}


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana)


@pytest.fixture
def model(platform, ana, project):
    make_model(platform.uri("models/one"))
    card = json.loads(platform.storage.read("models/one/model.json"))
    row = Model(
        project_id=project.id,
        name="nerve",
        version=1,
        key="models/one",
        sha256=card["sha256"],
        card=card,
        created_by=ana.user_id,
    )
    platform.database.write(lambda session: session.add(row))
    return row.id


@pytest.fixture
def export(platform, client, model):
    """Export the model, in this thread; gives the answer whose content is the file."""

    def run(form):
        job_id = client.post(f"/v1/models/{model}/export", json=form).json()["id"]
        job = platform.database.write(lambda session: queue.claim(session, job_id))
        kind = kind_of(kind_name(job))
        request = platform.database.read(lambda session: kind.prepare(platform, session, session.get_one(Job, job_id)))
        *_, made = kind.work(json.loads(json.dumps(request)))

        def finish(session):
            row = session.get_one(Job, job_id)
            kind.commit(session, row, [made])
            end_job(session, row, "done", kind.finish(session, row))

        platform.database.write(finish)
        return client.get(f"/v1/jobs/{job_id}/file")

    return run


def told(answer):
    return properties_of(onnx.load_from_string(answer.content))


def test_a_model_is_exported_as_onnx_with_its_licence_inside_and_converted_once(platform, export, tmp_path):
    answer = export({"format": "onnx", "licence": "MIT"})
    assert answer.headers["content-disposition"] == 'attachment; filename="nerve-v1.onnx"'
    assert (told(answer)["licence"], told(answer)["name"]) == ("MIT", "nerve")
    marked = tmp_path / "marked.onnx"
    marked.write_bytes(platform.storage.read(f"models/one/{ONNX}"))
    describe_onnx(marked, {"mark": "kept"})
    platform.storage.replace(f"models/one/{ONNX}", marked.read_bytes())
    assert told(export({"format": "onnx"}))["mark"] == "kept"


def test_a_model_is_exported_as_a_bioimageio_package(export):
    answer = export(FORM)
    assert answer.headers["content-type"] == "application/zip"
    assert {"rdf.yaml", "weights.onnx"} <= set(zipfile.ZipFile(BytesIO(answer.content)).namelist())


@pytest.mark.parametrize("field", ["authors", "licence"])
def test_a_package_without_authors_or_licence_is_refused_before_anything_is_made(client, model, field):
    answer = client.post(f"/v1/models/{model}/export", json={**FORM, field: None if field == "licence" else []})
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert client.get("/v1/jobs").json()["items"] == []


def test_who_lacks_the_libraries_is_told_which(client, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    answer = client.post(f"/v1/models/{model}/export", json={"format": "onnx"})
    assert answer.status_code == 501
    assert "onnx is not installed; ask the administrator to install axons[export]" in answer.json()["detail"]


def test_the_job_of_who_only_shares_a_model_does_not_tell_its_project(platform, teacher, ana, ben, project, model):
    classroom_id = in_class(platform, teacher, ana)

    def share(session):
        session.get(Model, model).visibility = "classroom"
        session.merge(project).classroom_id = classroom_id
        session.add(Membership(classroom_id=classroom_id, user_id=ben.user_id))

    platform.database.write(share)
    answer = As(platform, ben).post(f"/v1/models/{model}/export", json={"format": "onnx"})
    assert (answer.status_code, answer.json()["project_id"]) == (202, None)


@pytest.fixture
def run(platform, ana, project, tmp_path):
    return add_result(platform, ana, add_training_set(platform, project, tmp_path))


def test_the_report_comes_as_pdf_with_its_pictures(client, run):
    answer = client.get(f"/v1/runs/{run.id}/report.pdf")
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-disposition"].endswith('-report.pdf"')
    assert answer.content.startswith(b"%PDF-")
    assert answer.content.count(b"/Subtype/Image") > 3


def test_without_typst_the_report_says_what_to_install(client, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "typst", None)
    answer = client.get(f"/v1/runs/{run.id}/report.pdf")
    assert answer.status_code == 501
    assert "install axons[export], or print the HTML report" in answer.json()["detail"]
