"""Labels from and for other tools, and the files that jobs make."""

from fastapi import APIRouter
from fastapi.responses import FileResponse
from sqlmodel import Session

from axons.app.rest.context import ActorOf, Id, PlatformOf
from axons.app.rest.downloads import file_answer, file_of, log_download
from axons.app.services import annotation_files
from axons.app.services.annotation_files import AnnotationImportCreate, ExportCreate
from axons.app.services.jobs import JobPublic, get_job, public_jobs

router = APIRouter(tags=["label files"])


@router.post("/projects/{project_id}/annotations:import", status_code=202, operation_id="import_annotations")
def import_annotations(platform: PlatformOf, actor: ActorOf, project_id: Id, form: AnnotationImportCreate) -> JobPublic:
    """Import label files as a job; what tiles had before stays in their history."""
    return platform.database.write(
        lambda session: public_jobs(
            session, [annotation_files.start_annotation_import(session, actor, project_id, form)]
        )[0]
    )


@router.post("/projects/{project_id}/export", status_code=202, operation_id="export_labels")
def export_labels(platform: PlatformOf, actor: ActorOf, project_id: Id, form: ExportCreate) -> JobPublic:
    """Make a ZIP of all labels, or of the whole project, as a job; `GET /jobs/{job_id}/file` has it for a day."""
    return platform.database.write(
        lambda session: public_jobs(session, [annotation_files.start_export(session, actor, project_id, form)])[0]
    )


@router.get(
    "/jobs/{job_id}/file",
    operation_id="get_job_file",
    response_class=FileResponse,
    responses=file_of("application/zip", "application/octet-stream"),
)
def get_job_file(platform: PlatformOf, actor: ActorOf, job_id: Id) -> FileResponse:
    """The file that a job has made."""

    def find(session: Session) -> tuple[str, str]:
        return annotation_files.exported_file(session, get_job(session, actor, job_id))

    key, name = platform.database.read(find)
    media_type = "application/zip" if name.endswith(".zip") else "application/octet-stream"
    path = platform.storage.local_path(key)
    log_download(platform, actor, "job", job_id, name)
    return file_answer(path, name, media_type)
