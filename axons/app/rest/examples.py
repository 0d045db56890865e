"""Examples of good and bad labels, over REST."""

from fastapi import APIRouter, Response
from sqlmodel import Session

from axons.app.rest.context import ActorOf, Id, PlatformOf
from axons.app.rest.pictures import PNG, IfNoneMatch, etag_of, picture
from axons.app.rest.problems import documented
from axons.app.services import examples
from axons.app.services.access import get_project
from axons.app.services.examples import ExampleCreate, ExamplePublic

router = APIRouter(prefix="/projects/{project_id}/examples", tags=["projects"])


@router.get("", operation_id="list_examples")
def list_examples(platform: PlatformOf, actor: ActorOf, project_id: Id) -> list[ExamplePublic]:
    """The pictures that show people how to label, in their order."""

    def answer(session: Session) -> list[ExamplePublic]:
        project = get_project(session, actor, project_id)
        return [ExamplePublic.of(row) for row in examples.examples_of(session, project.id)]

    return platform.database.read(answer)


@router.post("", status_code=201, operation_id="add_example", responses=documented(429))
def add_example(platform: PlatformOf, actor: ActorOf, project_id: Id, form: ExampleCreate) -> ExamplePublic:
    """Add a picture, of a tile with its labels or uploaded; at most 1024 px of it are kept."""
    return ExamplePublic.of(examples.add_example(platform, actor, project_id, form))


@router.delete("/{example_id}", status_code=204, operation_id="delete_example")
def delete_example(platform: PlatformOf, actor: ActorOf, project_id: Id, example_id: Id) -> Response:
    """Show a picture no longer; it cannot be restored."""
    platform.database.write(lambda session: examples.delete_example(session, actor, project_id, example_id))
    return Response(status_code=204)


@router.get("/{example_id}/picture", operation_id="get_example_picture", response_class=Response, responses={**PNG})
def get_example_picture(
    platform: PlatformOf, actor: ActorOf, project_id: Id, example_id: Id, if_none_match: IfNoneMatch = None
) -> Response:
    """The picture."""
    row = platform.database.read(lambda session: examples.get_example(session, actor, project_id, example_id))
    return picture(
        lambda: platform.storage.read(row.key),
        etag=etag_of(row.key),
        if_none_match=if_none_match,
        media_type="image/png",
    )
