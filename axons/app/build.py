"""The web application, put together: gate, REST, and what else is mounted."""

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from axons import __version__
from axons.app import health, pages
from axons.app.gate import Gate
from axons.app.platform import Platform
from axons.app.rest import (
    annotation_files,
    assignments,
    audit,
    auth,
    backups,
    classrooms,
    cluster,
    editor,
    evaluations,
    examples,
    hand_ins,
    images,
    jobs,
    members,
    models,
    predictions,
    projects,
    runs,
    schemas,
    tiles,
    tilings,
    training_sets,
    trash,
    uploads,
    users,
)
from axons.app.rest.idempotency import Idempotency
from axons.app.rest.problems import ANYWHERE, DescribedApi, add_problem_handlers, documented
from axons.app.v2 import build_v2


def build_api() -> FastAPI:
    """The REST API, without the gate: a request's scope says who asks (`axons.actor`) what (`axons.platform`)."""
    api = DescribedApi(title="Axons", version=__version__, docs_url=None, redoc_url=None)
    add_problem_handlers(api)
    api.add_middleware(Idempotency)
    for router in _routers():
        api.include_router(router, prefix="/v1", responses=documented(*ANYWHERE))
    api.include_router(pages.router)
    return api


def build_app(platform: Platform) -> ASGIApp:
    """Everything that a browser or a client reaches, behind the gate."""
    return Gate(build_site(), platform)


def build_site() -> FastAPI:
    """See `build_app`; without the gate."""
    app = FastAPI(title="Axons", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    add_problem_handlers(app)
    app.include_router(health.router)
    app.include_router(pages.front)
    app.mount("/api", build_api())
    app.mount("/v2", build_v2())
    # Gradio takes seconds to import: who wants the REST API only does without.
    from axons.app.screens.mounting import mount_screens
    from axons.app.screens.pages import build_screens

    mount_screens(app, build_screens())
    return app


def _routers() -> list[APIRouter]:
    """One router for each part of REST; asked in this order, so first those that a class asks all the time."""
    return [
        tiles.router,
        editor.router,
        runs.router,
        jobs.router,
        annotation_files.router,
        assignments.router,
        audit.router,
        auth.router,
        backups.router,
        classrooms.router,
        cluster.router,
        evaluations.router,
        examples.router,
        hand_ins.router,
        images.router,
        members.router,
        models.router,
        predictions.router,
        projects.router,
        schemas.router,
        tilings.router,
        training_sets.router,
        trash.router,
        uploads.router,
        users.router,
    ]
