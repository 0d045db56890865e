"""What a route gets: the platform and who asks."""

from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Path, Query, Request
from pydantic import BaseModel

from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.errors import SignInRequired

_T = TypeVar("_T")

PAGE = 50
MAX_PAGE = 500


# Both are coroutines, though they wait for nothing: FastAPI would run a function in a thread, at every request.
async def _platform(request: Request) -> Platform:
    platform: Platform = request.scope["axons.platform"]
    return platform


async def _actor(request: Request) -> Actor:
    """The gate has put both there; without one nothing behind the gate is answered."""
    actor: Actor | None = request.scope.get("axons.actor")
    if actor is None:
        raise SignInRequired("nobody is signed in; sign in, or send a token in the Authorization header")
    return actor


PlatformOf = Annotated[Platform, Depends(_platform)]
ActorOf = Annotated[Actor, Depends(_actor)]
Id = Annotated[str, Path(min_length=1, max_length=64, pattern="^[A-Za-z0-9_-]+$")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Rows of a page.")]


class Page(BaseModel, Generic[_T]):
    """Some of the rows; `next` is the cursor of the following page, None at the end."""

    items: list[_T]
    next: str | None = None
