"""Who may do what on every route (R3): a route that is not in the table fails the tests.

A row of `TABLE` has one letter for each of `ACTORS` (anonymous, owner, classmate, outsider, teacher, other teacher,
administrator), who come to what belongs to the owner: `y` it is done (or refused for another reason than who asks),
`h` hidden: 404 as if it did not exist, `n` seen, but 403, `a` 401: sign in first. `BODIES` and `QUERIES` hold what a
request needs so that nothing else stops it; `{name}` stands for the id in `policy_world`.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from axons.app.tables import new_id
from tests.app.policy_world import ACTORS, LABELS, SECRET, World, client_of, copy_world, make_world
from tests.app.serving import the_api

EVERYBODY, SIGNED_IN, MEMBERS, IN_CLASS = "yyyyyyy", "ayyyyyy", "ayhhyhy", "ayyhyhy"
TEACHERS, ADMINISTRATORS, EDUCATORS = "annhyhy", "annnnny", "annnyyy"

TABLE: dict[str, str] = {
    # what everybody may, and what is one's own
    "GET /v1/auth/methods": EVERYBODY,
    "POST /v1/auth/login": EVERYBODY,
    "POST /v1/auth/code": EVERYBODY,
    "GET /v1/auth/oidc/start": "hhhhhhh",  # no provider is configured
    "GET /v1/auth/oidc/callback": "hhhhhhh",
    "POST /v1/auth/logout": SIGNED_IN,
    "GET /v1/auth/me": SIGNED_IN,
    "GET /v1/auth/administrator": ADMINISTRATORS,
    "POST /v1/auth/password": SIGNED_IN,
    "GET /v1/auth/tokens": SIGNED_IN,
    "POST /v1/auth/tokens": SIGNED_IN,
    "DELETE /v1/auth/tokens/{token_id}": "ayhhhhh",
    "GET /v1/schemas/train": SIGNED_IN,
    # accounts: the one of `user_id` is a student of class 4b
    "POST /v1/users": ADMINISTRATORS,
    "POST /v1/users/import": ADMINISTRATORS,
    "GET /v1/users": ADMINISTRATORS,
    "GET /v1/users/{user_id}": "ahhhyhy",
    "PATCH /v1/users/{user_id}": "ahhhyhy",
    "POST /v1/users/{user_id}/reset": "ahhhyhy",
    "GET /v1/audit": ADMINISTRATORS,
    "GET /v1/backups/now": ADMINISTRATORS,
    "GET /v1/cluster/health": ADMINISTRATORS,
    "GET /v1/cluster/nodes": ADMINISTRATORS,
    "GET /v1/cluster/storage": ADMINISTRATORS,
    "POST /v1/cluster/storage/clean": ADMINISTRATORS,
    # classes
    "POST /v1/classrooms": EDUCATORS,
    "GET /v1/classrooms": SIGNED_IN,
    "POST /v1/classrooms/join": SIGNED_IN,
    "GET /v1/classrooms/{classroom_id}": IN_CLASS,
    "PATCH /v1/classrooms/{classroom_id}": TEACHERS,
    "POST /v1/classrooms/{classroom_id}/join-code": TEACHERS,
    "DELETE /v1/classrooms/{classroom_id}/join-code": TEACHERS,
    "GET /v1/classrooms/{classroom_id}/members": TEACHERS,
    "POST /v1/classrooms/{classroom_id}/members": TEACHERS,
    "PATCH /v1/classrooms/{classroom_id}/members/{user_id}": TEACHERS,
    "DELETE /v1/classrooms/{classroom_id}/members/{user_id}": TEACHERS,
    "GET /v1/classrooms/{classroom_id}/progress": TEACHERS,
    "GET /v1/classrooms/{classroom_id}/models": IN_CLASS,
    "POST /v1/classrooms/{classroom_id}/students": TEACHERS,
    # tasks, hand-ins, marks
    "POST /v1/assignments": TEACHERS,
    "GET /v1/assignments": SIGNED_IN,
    "GET /v1/assignments/{assignment_id}": IN_CLASS,
    "PATCH /v1/assignments/{assignment_id}": TEACHERS,
    "DELETE /v1/assignments/{assignment_id}": TEACHERS,
    "POST /v1/assignments/{assignment_id}/hand-out": TEACHERS,
    "POST /v1/assignments/{assignment_id}/start": IN_CLASS,
    "POST /v1/assignments/{assignment_id}/hand-ins": MEMBERS,
    "GET /v1/assignments/{assignment_id}/hand-ins": IN_CLASS,
    "GET /v1/hand-ins/{hand_in_id}": MEMBERS,
    "GET /v1/hand-ins/{hand_in_id}/report": "ahhhhhh",  # there is none
    "POST /v1/hand-ins/{hand_in_id}/return": "anhhyhy",
    "POST /v1/hand-ins/{hand_in_id}/marks": "anhhyhy",
    "GET /v1/hand-ins/{hand_in_id}/marks": MEMBERS,
    "GET /v1/marks": SIGNED_IN,
    # projects
    "POST /v1/projects": SIGNED_IN,
    "GET /v1/projects": SIGNED_IN,
    "POST /v1/projects:import": "ayhhhhh",  # the upload is the owner's
    "GET /v1/projects:sample": SIGNED_IN,
    "POST /v1/projects:sample": "ahhhhhh",  # there is none
    "GET /v1/projects/{project_id}": MEMBERS,
    "PATCH /v1/projects/{project_id}": MEMBERS,
    "DELETE /v1/projects/{project_id}": MEMBERS,
    "GET /v1/projects/{project_id}/classes": MEMBERS,
    "POST /v1/projects/{project_id}/classes": MEMBERS,
    "POST /v1/projects/{project_id}/classes:import": MEMBERS,
    "PATCH /v1/projects/{project_id}/classes/{index}": MEMBERS,
    "DELETE /v1/projects/{project_id}/classes/{index}": MEMBERS,
    "GET /v1/projects/{project_id}/examples": MEMBERS,
    "POST /v1/projects/{project_id}/examples": MEMBERS,
    "DELETE /v1/projects/{project_id}/examples/{example_id}": MEMBERS,
    "GET /v1/projects/{project_id}/examples/{example_id}/picture": MEMBERS,
    "GET /v1/projects/{project_id}/members": MEMBERS,
    "POST /v1/projects/{project_id}/members": MEMBERS,
    "PATCH /v1/projects/{project_id}/members/{user_id}": MEMBERS,
    "DELETE /v1/projects/{project_id}/members/{user_id}": MEMBERS,
    "GET /v1/projects/{project_id}/invitations": MEMBERS,
    "POST /v1/projects/{project_id}/invitations": MEMBERS,
    "DELETE /v1/projects/{project_id}/invitations/{invitation_id}": MEMBERS,
    "POST /v1/invitations/accept": SIGNED_IN,  # whoever has the link
    "GET /v1/trash": SIGNED_IN,
    "POST /v1/trash/{trash_id}/restore": MEMBERS,
    # images, tiles, labels
    "POST /v1/projects/{project_id}/images": "ayhhhhh",  # the upload is the owner's
    "GET /v1/projects/{project_id}/images": MEMBERS,
    "GET /v1/images/{image_id}": MEMBERS,
    "PATCH /v1/images/{image_id}": MEMBERS,
    "DELETE /v1/images/{image_id}": MEMBERS,
    "GET /v1/images/{image_id}/view": MEMBERS,
    "GET /v1/images/{image_id}/thumbnail": MEMBERS,
    "GET /v1/images/{image_id}/pyramid/{level}/{col}/{row}": MEMBERS,
    "GET /v1/images/{image_id}/labels": MEMBERS,
    "GET /v1/projects/{project_id}/checks": MEMBERS,
    "GET /v1/images/{image_id}/original": "ahhhhhh",  # it was not kept
    "GET /v1/projects/{project_id}/training-limits": MEMBERS,
    "GET /v1/projects/{project_id}/tilings": MEMBERS,
    "POST /v1/projects/{project_id}/tilings": MEMBERS,
    "GET /v1/projects/{project_id}/tiles": MEMBERS,
    "POST /v1/projects/{project_id}/tiles:assign": MEMBERS,
    "POST /v1/projects/{project_id}/tiles:rank": MEMBERS,
    "GET /v1/projects/{project_id}/queue/next": MEMBERS,
    "GET /v1/tiles/{tile_id}": MEMBERS,
    "GET /v1/tiles/{tile_id}/image": MEMBERS,
    "GET /v1/tiles/{tile_id}/editor": MEMBERS,
    "GET /v1/tiles/{tile_id}/surroundings": MEMBERS,
    "GET /v1/tiles/{tile_id}/numbered/{number}": MEMBERS,
    "POST /v1/tiles/{tile_id}/pre-label": MEMBERS,
    "POST /v1/tiles/{tile_id}/assist/forest": MEMBERS,
    "GET /v1/tiles/{tile_id}/thumbnail": MEMBERS,
    "GET /v1/tiles/{tile_id}/mask": MEMBERS,
    "GET /v1/tiles/{tile_id}/annotation": MEMBERS,
    "PUT /v1/tiles/{tile_id}/annotation": MEMBERS,
    "GET /v1/tiles/{tile_id}/revisions": MEMBERS,
    "GET /v1/tiles/{tile_id}/revisions/{number}": MEMBERS,
    "POST /v1/tiles/{tile_id}/revisions/{number}/restore": MEMBERS,
    "POST /v1/tiles/{tile_id}/lease": MEMBERS,
    "DELETE /v1/tiles/{tile_id}/lease": MEMBERS,
    "POST /v1/tiles/{tile_id}/done": MEMBERS,
    "DELETE /v1/tiles/{tile_id}/done": MEMBERS,
    "POST /v1/projects/{project_id}/annotations:import": "ayhhhhh",  # the upload is the owner's
    "POST /v1/projects/{project_id}/export": MEMBERS,
    "POST /v1/uploads": MEMBERS,
    "GET /v1/uploads/{upload_id}": "ayhhhhh",  # an upload is of one person
    "DELETE /v1/uploads/{upload_id}": "ayhhhhh",
    "PUT /v1/uploads/{upload_id}/parts/{number}": "ayhhhhh",
    "POST /v1/uploads/{upload_id}:complete": "ayhhhhh",
    # training sets, runs, models, predictions, jobs
    "POST /v1/projects/{project_id}/training-sets": MEMBERS,
    "POST /v1/projects/{project_id}/training-sets:preview": MEMBERS,
    "GET /v1/projects/{project_id}/training-sets": MEMBERS,
    "GET /v1/training-sets:compare": MEMBERS,
    "GET /v1/training-sets/{training_set_id}": MEMBERS,
    "DELETE /v1/training-sets/{training_set_id}": MEMBERS,
    "POST /v1/training-sets/{training_set_id}/export": MEMBERS,
    "POST /v1/runs": MEMBERS,
    "GET /v1/runs": SIGNED_IN,
    "GET /v1/runs/{run_id}": MEMBERS,
    "DELETE /v1/runs/{run_id}": MEMBERS,
    "GET /v1/runs/{run_id}/metrics": MEMBERS,
    "GET /v1/runs/{run_id}/log": MEMBERS,
    "GET /v1/runs/{run_id}/samples": MEMBERS,
    "GET /v1/runs/{run_id}/samples/picture": MEMBERS,
    "GET /v1/runs/{run_id}/worst-tiles": MEMBERS,
    "POST /v1/runs/{run_id}/cancel": MEMBERS,
    "POST /v1/runs/{run_id}/stop": MEMBERS,
    "POST /v1/runs/{run_id}/resume": MEMBERS,
    "GET /v1/runs/{run_id}/report": MEMBERS,
    "GET /v1/runs/{run_id}/report.pdf": MEMBERS,
    "GET /v1/runs/{run_id}/tensorboard": "ahhhhhh",  # there are no curves
    "POST /v1/evaluations": MEMBERS,
    "GET /v1/evaluations": MEMBERS,
    "GET /v1/evaluations/{evaluation_id}": MEMBERS,
    "GET /v1/evaluations/{evaluation_id}/worst-tiles": MEMBERS,
    "GET /v1/evaluations/{evaluation_id}/picture": MEMBERS,
    "GET /v1/models": SIGNED_IN,
    "POST /v1/models:import": "ayhhhhh",  # the upload is the owner's
    "GET /v1/models/{model_id}": MEMBERS,
    "DELETE /v1/models/{model_id}": MEMBERS,
    "POST /v1/models/{model_id}/promote": MEMBERS,
    "POST /v1/models/{model_id}/rollback": MEMBERS,
    "POST /v1/models/{model_id}/share": "anhhyhy",  # `may_share_models` is off
    "GET /v1/models/{model_id}/download": MEMBERS,
    "POST /v1/models/{model_id}/export": MEMBERS,
    "POST /v1/models/{model_id}/predict": "ayhhhhh",  # the upload is the owner's
    "GET /v1/projects/{project_id}/predictions": MEMBERS,
    "GET /v1/projects/{project_id}/predictions.csv": MEMBERS,
    "GET /v1/projects/{project_id}/predictions.zip": MEMBERS,
    "GET /v1/predictions/{prediction_id}": MEMBERS,
    "DELETE /v1/predictions/{prediction_id}": MEMBERS,
    "GET /v1/predictions/{prediction_id}/mask": MEMBERS,
    "GET /v1/predictions/{prediction_id}/overlay": MEMBERS,
    "GET /v1/predictions/{prediction_id}/csv": MEMBERS,
    "POST /v1/predictions/{prediction_id}/accept": MEMBERS,
    "GET /v1/jobs": SIGNED_IN,
    "GET /v1/jobs/{job_id}": MEMBERS,
    "GET /v1/jobs/{job_id}/log": MEMBERS,
    "GET /v1/jobs/{job_id}/file": MEMBERS,
    "POST /v1/jobs/{job_id}/cancel": MEMBERS,
    "POST /v1/jobs:cancel": SIGNED_IN,  # each job has its own answer, see the tests of jobs
}

BODIES: dict[str, Any] = {
    "POST /v1/cluster/storage/clean": {},
    "POST /v1/auth/login": {"name": "nobody", "password": "x"},
    "POST /v1/auth/code": {"code": "x"},
    "POST /v1/auth/password": {"new": "a long sentence"},
    "POST /v1/auth/tokens": {"name": "laptop"},
    "POST /v1/users": {"name": "new"},
    "POST /v1/users/import": {"users": [{"name": "new"}]},
    "PATCH /v1/users/{user_id}": {"is_active": False},
    "POST /v1/classrooms": {"name": "x"},
    "POST /v1/classrooms/join": {"code": "JOIN4C"},
    "PATCH /v1/classrooms/{classroom_id}": {"limits": {"max_active_trainings": 5}},
    "POST /v1/classrooms/{classroom_id}/members": {"name": "administrator", "role": "educator"},
    "PATCH /v1/classrooms/{classroom_id}/members/{user_id}": {"role": "student"},
    "POST /v1/classrooms/{classroom_id}/students": {"students": [{"name": "new"}]},
    "POST /v1/assignments": {"classroom_id": "{classroom_id}", "title": "x"},
    "PATCH /v1/assignments/{assignment_id}": {"title": "x"},
    "POST /v1/assignments/{assignment_id}/hand-ins": {"project_id": "{project_id}"},
    "POST /v1/hand-ins/{hand_in_id}/marks": {"value": "1"},
    "POST /v1/projects": {"name": "x"},
    "PATCH /v1/projects/{project_id}": {"name": "x"},
    "POST /v1/projects/{project_id}/classes": {"name": "x"},
    "POST /v1/projects/{project_id}/classes:import": {"label_class_groups": [{"group_classes": [{"name": "x"}]}]},
    "PATCH /v1/projects/{project_id}/classes/{index}": {"name": "x"},
    "POST /v1/projects/{project_id}/examples": {"caption": "x", "tile_id": "{tile_id}"},
    "POST /v1/projects/{project_id}/members": {"name": "outsider"},
    "PATCH /v1/projects/{project_id}/members/{user_id}": {"role": "viewer"},
    "POST /v1/projects/{project_id}/invitations": {},
    "POST /v1/invitations/accept": {"code": "invitation"},
    "POST /v1/projects/{project_id}/images": {"uploads": ["{upload_id}"]},
    "PATCH /v1/images/{image_id}": {"name": "x"},
    "POST /v1/projects/{project_id}/tilings": {"tile": 128},
    "POST /v1/projects/{project_id}/tiles:assign": {"tile_ids": ["{tile_id}"], "user_id": "{user_id}"},
    "POST /v1/projects/{project_id}/tiles:rank": {"model_id": "{model_id}"},
    "PUT /v1/tiles/{tile_id}/annotation": LABELS,
    "POST /v1/tiles/{tile_id}/pre-label": {"model_id": "{model_id}"},
    "POST /v1/tiles/{tile_id}/assist/forest": LABELS,
    "POST /v1/projects/{project_id}/annotations:import": {"uploads": ["{upload_id}"]},
    "POST /v1/projects/{project_id}/export": {},
    "POST /v1/projects:import": {"upload_id": "{upload_id}"},
    "POST /v1/uploads": {"name": "a.png", "num_bytes": 4, "project_id": "{project_id}"},
    "POST /v1/projects/{project_id}/training-sets": {},
    "POST /v1/projects/{project_id}/training-sets:preview": {},
    "POST /v1/runs": {"training_set_id": "{training_set_id}"},
    "POST /v1/evaluations": {"model_id": "{model_id}", "training_set_id": "{training_set_id}"},
    "POST /v1/models:import": {
        "upload_id": "{upload_id}",
        "project_id": "{project_id}",
        "name": "x",
        "architecture": "unet",
        "encoder": "resnet18",
        "classes": [{"name": "bg", "colour": "#000000"}, {"name": "axon", "colour": "#ff0000"}],
    },
    "POST /v1/models/{model_id}/share": {"visibility": "classroom"},
    "POST /v1/models/{model_id}/export": {"format": "onnx"},
    "POST /v1/models/{model_id}/predict": {"upload_id": "{upload_id}"},
    "POST /v1/predictions/{prediction_id}/accept": {},
    "POST /v1/jobs:cancel": {"job_ids": ["{job_id}"]},
}
QUERIES: dict[str, dict[str, Any]] = {
    "GET /v1/evaluations": {"model_id": "{model_id}"},
    "GET /v1/evaluations/{evaluation_id}/picture": {"name": "evaluation/test-1-truth.png"},
    "GET /v1/runs/{run_id}/samples/picture": {"name": "samples/1.png"},
    "GET /v1/training-sets:compare": {"id": ["{training_set_id}", "{training_set_id}"]},
    "GET /v1/projects/{project_id}/predictions.zip": {"prediction_id": ["{prediction_id}"]},
    "PUT /v1/tiles/{tile_id}/annotation": {"save_id": "5f0c2f54-9f2b-4f4c-9d83-0b3f8f1c8a11"},
    "POST /v1/tiles/{tile_id}/revisions/{number}/restore": {"save_id": "5f0c2f54-9f2b-4f4c-9d83-0b3f8f1c8a12"},
}
CONTENT = {"PUT /v1/uploads/{upload_id}/parts/{number}": b"1234"}
HEADERS = {
    "PUT /v1/tiles/{tile_id}/annotation": {"if-match": '"1"'},
    "POST /v1/tiles/{tile_id}/revisions/{number}/restore": {"if-match": '"1"'},
}
MEANING = {"h": "hidden", "n": "refused", "a": "sign in", "y": "done"}
OTHERS = ("anonymous", "classmate", "outsider", "other teacher")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


class Copies:
    """Copies of the world: those who change nothing share one, whoever changes something gets one alone."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world, self._folder = world, folder
        self._shared = copy_world(world, folder)

    def ask(self, route: str, actor: str, ids: dict[str, Any] | None = None):
        """Send the request of a route as an actor."""
        method, path = route.split(" ")
        changes = method != "GET" and letter(route, actor) == "y"
        platform = copy_world(self._world, self._folder) if changes else self._shared
        known = ids or self._world.ids
        return client_of(platform, actor).request(
            method,
            "/api" + _filled(path, known),
            params=_filled(QUERIES.get(route), known),
            json=_filled(BODIES.get(route), known),
            content=CONTENT.get(route),
            headers=HEADERS.get(route),
        )


@pytest.fixture
def copies(world, tmp_path) -> Copies:
    return Copies(world, tmp_path)


def letter(route: str, actor: str) -> str:
    return TABLE[route][ACTORS.index(actor)]


def _filled(template: Any, ids: dict[str, Any]) -> Any:
    text = json.dumps(template)
    return json.loads(re.sub(r"\{(\w+)\}", lambda found: str(ids[found[1]]), text))


def meaning(answer) -> str:
    """What an answer says about who asks."""
    title = answer.json().get("title") if "problem" in answer.headers.get("content-type", "") else None
    by_title = {"sign-in-required": "sign in", "not-found": "hidden", "not-allowed": "refused"}
    return by_title.get(title, "done") if answer.status_code < 500 else answer.text


def test_every_route_has_a_row():
    paths = the_api().openapi()["paths"]
    assert {f"{method.upper()} {path}" for path in paths for method in paths[path]} == TABLE.keys()


@pytest.mark.parametrize("route", TABLE)
def test_each_actor_may_what_the_table_says(copies, route):
    said = {actor: meaning(copies.ask(route, actor)) for actor in ACTORS}
    assert said == {actor: MEANING[letter(route, actor)] for actor in ACTORS}


@pytest.mark.parametrize("route", [route for route in TABLE if "_id}" in route and letter(route, "outsider") == "h"])
def test_what_is_hidden_looks_like_what_does_not_exist(copies, world, route):
    nowhere = {name: new_id() if isinstance(value, str) else value for name, value in world.ids.items()}
    ids = [value for value in [*world.ids.values(), *nowhere.values()] if isinstance(value, str)]
    names = re.compile("|".join(ids))
    hidden, missing = (copies.ask(route, "outsider", ids) for ids in (world.ids, nowhere))
    assert names.sub("ID", hidden.text) == names.sub("ID", missing.text)
    assert hidden.headers.keys() == missing.headers.keys()


@pytest.mark.parametrize("route", [route for route in TABLE if route.startswith("GET")])
def test_no_answer_tells_others_what_is_the_owners(copies, world, route):
    answers = [copies.ask(route, actor) for actor in OTHERS]
    private = {world.ids[name] for name in ("project_id", "image_id", "tile_id", "run_id", "model_id", "hand_in_id")}
    told = [text for answer in answers for text in private if text in answer.text and text not in str(answer.url)]
    assert told == []
    assert [answer.text for answer in answers if SECRET in answer.text] == []
