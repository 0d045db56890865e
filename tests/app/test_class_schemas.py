"""Classes from a schema of Django Labeller."""

import json

import pytest

from axons.data.labeller import labeller_schema
from tests.app.images import add_project

# The shape of `_DEMO_LABEL_SCHEMA` in Django Labeller's example, written anew.
SCHEMA = {
    "name": "park",
    "description": "",
    "colour_schemes": [{"name": "natural", "human_name": "Natural"}],
    "label_class_groups": [
        {
            "group_name": "Natural",
            "group_classes": [
                {"name": "tree", "human_name": "Trees", "colours": {"default": [0, 255, 192], "natural": [1, 2, 3]}},
                {"name": "Ring", "human_name": "Rings", "colours": {"default": [9, 9, 9]}},
            ],
        },
        {
            "group_name": "Artificial",
            "group_classes": [
                {"name": "wall", "human_name": "Walls", "colours": {"natural": [128, 0, 16]}},
                {"name": "path", "human_name": "Paths", "colours": {}},
            ],
        },
    ],
}


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana)


def add(client, project, schema):
    return client.post(f"/v1/projects/{project.id}/classes:import", json=schema)


def test_a_schema_adds_the_classes_that_are_missing(client, project):
    answer = add(client, project, SCHEMA)
    assert answer.status_code == 201
    rows = client.get(f"/v1/projects/{project.id}/classes").json()
    assert [(row["index"], row["name"]) for row in rows] == list(
        enumerate(["bg", "ring", "core", "tree", "wall", "path"])
    )
    assert [row["colour"] for row in rows[3:5]] == ["#00ffc0", "#800010"]
    assert answer.json() == rows[3:]


def test_a_schema_that_is_added_twice_adds_nothing(client, project):
    add(client, project, SCHEMA)
    assert add(client, project, SCHEMA).json() == []


def test_a_schema_that_we_write_can_be_added(client, project):
    schema = labeller_schema("nerve", [("bg", "#000000"), ("fibre", "#102030"), ("__ignored__", "#808080")])
    [added] = add(client, project, json.loads(schema)).json()
    assert (added["name"], added["colour"]) == ("fibre", "#102030")


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"label_class_groups": []},
        {"label_class_groups": [{"group_classes": [{"name": ""}]}]},
        {"label_class_groups": [{"group_classes": [{"name": "a", "colours": {"default": [0, 0, 256]}}]}]},
        {"label_class_groups": [{"group_classes": [{"name": "a", "colours": {"default": [0, 0]}}]}]},
        {"label_class_groups": [{"group_classes": [{"name": "a\u0000b"}]}]},
    ],
)
def test_what_is_no_schema_is_refused(client, project, schema):
    assert add(client, project, schema).status_code == 422


def test_a_schema_with_too_many_classes_is_refused_whole(client, project):
    classes = [{"name": f"c{i}"} for i in range(251)]
    answer = add(client, project, {"label_class_groups": [{"group_classes": classes}]})
    assert answer.status_code == 409
    assert len(client.get(f"/v1/projects/{project.id}/classes").json()) == 3
