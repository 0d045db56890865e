"""Django Labeller files as layers, in the shapes that its sources write, and back."""

import json

import numpy as np
import pytest

from axons.data import label_files, shapes
from axons.data.labeller import labeller_document, labeller_schema, read_labeller
from axons.data.layers import UNLABELLED, PolygonLayer, render
from axons.errors import AnnotationRefused

CLASSES = {"background": 0, "myelin": 1, "axon": 2}
SQUARE = [{"x": 2.0, "y": 1.0}, {"x": 9.0, "y": 1.0}, {"x": 9.0, "y": 5.0}, {"x": 2.0, "y": 5.0}]
HOLE = [{"x": 4.0, "y": 2.0}, {"x": 6.0, "y": 2.0}, {"x": 6.0, "y": 4.0}, {"x": 4.0, "y": 4.0}]


@pytest.fixture
def read(tmp_path):
    def write(document):
        text = document if isinstance(document, str | bytes) else json.dumps(document)
        (tmp_path / "a.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        [image] = read_labeller(tmp_path / "a.json", CLASSES, name="a__labels.json")
        return image

    return write


def document(*labels, **more):
    """As Django Labeller 0.3 writes it."""
    return {"image_filename": "a.png", "completed_tasks": [], "labels": list(labels), **more}


def label(kind, *, label_class="myelin", **more):
    return {
        "label_type": kind,
        "object_id": "1c3f5f2e-7d3c-4a86-9c0e-8d1b9bd6a3c1__1",
        "label_class": label_class,
        "source": "manual",
        "anno_data": {},
        **more,
    }


def polygon(*regions, **more):
    return label("polygon", regions=list(regions or [SQUARE]), **more)


def plane_of(image):
    return render(image.layers, 20, 30)


def box(row0, col0, row1, col1, value=1):
    plane = np.full((20, 30), UNLABELLED, np.uint8)
    plane[row0:row1, col0:col1] = value
    return plane


def drawn(*rings):
    return render([PolygonLayer(value=1, rings=(ring,)) for ring in rings], 20, 30)


def test_a_polygon_lies_on_pixel_edges(read):
    image = read(document(polygon()))
    assert np.array_equal(plane_of(image), box(1, 2, 5, 9))
    assert (image.size, image.is_done, image.notices) == (None, False, ())


def test_regions_inside_each_other_are_holes(read):
    expected = box(1, 2, 5, 9)
    expected[2:4, 4:6] = UNLABELLED
    assert np.array_equal(plane_of(read(document(polygon(SQUARE, HOLE)))), expected)


def test_older_files_have_vertices(read):
    image = read(document(label("polygon", vertices=SQUARE, object_id=7)))
    assert np.array_equal(plane_of(image), box(1, 2, 5, 9))


def test_the_oldest_files_are_a_list_of_labels(read):
    assert np.array_equal(plane_of(read([polygon()])), box(1, 2, 5, 9))


@pytest.mark.parametrize(
    ("element", "ring"),
    [
        (label("box", centre={"x": 10, "y": 8}, size={"x": 7, "y": 4}), shapes.box(6.5, 6, 13.5, 10)),
        (label("point", position={"x": 12.5, "y": 8}), shapes.disk(12.5, 8)),
        (
            label("oriented_ellipse", centre={"x": 14, "y": 9}, radius1=9, radius2=4.5, orientation_radians=0.5),
            shapes.ellipse(14, 9, 9, 4.5, turned=0.5),
        ),
    ],
)
def test_each_label_is_drawn_by_its_rule(read, element, ring):
    image = read(document(element))
    assert np.array_equal(plane_of(image), drawn(ring))
    assert isinstance(image.layers[0], PolygonLayer)


def test_the_later_label_lies_on_top(read):
    expected = box(1, 2, 5, 9)
    expected[2:4, 4:6] = 2
    assert np.array_equal(plane_of(read(document(polygon(), polygon(HOLE, label_class="axon")))), expected)


def test_a_group_gives_its_class_to_its_members_in_their_order(read):
    members = [polygon(label_class="axon"), polygon(HOLE, label_class=None)]
    group = label("group", component_models=members)
    assert np.array_equal(plane_of(read(document(group))), box(1, 2, 5, 9))


def test_members_of_a_group_without_a_class_keep_their_own(read):
    inner = label("group", label_class=None, component_models=[polygon(HOLE, label_class="axon")])
    outer = label("group", label_class=None, component_models=[polygon(), inner])
    expected = box(1, 2, 5, 9)
    expected[2:4, 4:6] = 2
    assert np.array_equal(plane_of(read(document(outer))), expected)


def test_what_has_no_area_or_class_is_left_out_and_told(read):
    image = read(
        document(
            polygon(),
            label("composite", components=["x__1", "x__2"]),
            polygon(HOLE, label_class=None),
            polygon(SQUARE[:2]),
            polygon(anno_data={"quality": "good"}),
        )
    )
    assert np.array_equal(plane_of(image), box(1, 2, 5, 9))
    assert image.notices == (
        "1 composites, which only link other labels, were left out",
        "1 extra fields of labels were left out",
        "1 labels without a class were left out",
        "1 polygons with fewer than 3 vertices were left out",
    )


@pytest.mark.parametrize(
    ("header", "is_done"),
    [
        ({"completed_tasks": ["finished"]}, True),
        ({"completed_tasks": ["segmentation"]}, False),
        ({"completed_tasks": [], "complete": True}, False),
    ],
)
def test_an_image_is_done_when_its_task_is_finished(read, header, is_done):
    assert read(document(polygon(), **header)).is_done == is_done


@pytest.mark.parametrize("is_complete", [True, False])
def test_older_files_say_complete(read, is_complete):
    assert read({"complete": is_complete, "labels": [polygon()]}).is_done == is_complete


@pytest.mark.parametrize("is_done", [True, False])
def test_what_is_read_and_written_again_means_the_same(read, is_done):
    tasks = ["finished"] if is_done else []
    labels = [
        polygon(SQUARE, HOLE),
        label("box", centre={"x": 20, "y": 8}, size={"x": 7, "y": 4}, label_class="axon"),
        label("point", position={"x": 12.5, "y": 15}),
        label("oriented_ellipse", centre={"x": 14, "y": 9}, radius1=9, radius2=4.5, orientation_radians=0.5),
        label("group", label_class="axon", component_models=[polygon(HOLE)]),
    ]
    first = read(document(*labels, completed_tasks=tasks))
    names = {value: name for name, value in CLASSES.items()}
    written = labeller_document(plane_of(first), names, image_filename="a.png", is_done=first.is_done)
    second = read(written)
    assert np.array_equal(plane_of(second), plane_of(first))
    assert (second.is_done, second.notices) == (is_done, ())
    document_again = json.loads(written)
    assert (document_again["image_filename"], document_again["completed_tasks"]) == ("a.png", tasks)
    assert {found["label_class"] for found in document_again["labels"]} == {"myelin", "axon"}


def test_what_is_written_has_all_that_django_labeller_asks_for():
    plane = box(1, 2, 5, 9)
    plane[2:4, 4:6] = UNLABELLED
    written = json.loads(labeller_document(plane, {1: "myelin"}, image_filename="a.png", is_done=False))
    [found] = written["labels"]
    assert (found["label_type"], found["label_class"], found["anno_data"]) == ("polygon", "myelin", {})
    assert [len(region) for region in found["regions"]] == [4, 4]
    assert found["regions"][0][0].keys() == {"x", "y"}
    assert found["object_id"].endswith("__1")


def test_a_schema_has_the_classes_with_their_colours():
    schema = json.loads(labeller_schema("nerve", [("axon", "#ff8000")]))
    [group] = schema["label_class_groups"]
    assert group["group_classes"] == [{"name": "axon", "human_name": "axon", "colours": {"default": [255, 128, 0]}}]


def nested(depth):
    inner = polygon()
    for _ in range(depth):
        inner = label("group", component_models=[inner])
    return inner


@pytest.mark.parametrize(
    ("element", "message"),
    [
        (polygon(label_class="fat"), "'a__labels.json': label 'fat' is no class of the project; add what is missing"),
        (polygon([{"x": 1, "y": 2}, {"x": 1}, {"x": 3, "y": 3}]), "a shape is malformed (KeyError: 'y')"),
        (polygon([{"x": 1, "y": 2}, {"x": "a", "y": 2}, {"x": 3, "y": 3}]), "a shape is malformed (ValueError"),
        (polygon([{"x": float("nan"), "y": 2}] * 3), "a coordinate is not a number near the image"),
        (polygon([{"x": -1e300, "y": 2}] * 3), "a coordinate is not a number near the image"),
        (label("box", centre={"x": 1, "y": 2}, size={"x": float("inf"), "y": 1}), "a coordinate is not a number"),
        (label("point"), "a shape is malformed (KeyError: 'position')"),
        (label("oriented_ellipse", centre={"x": 1, "y": 2}, radius1=1e9, radius2=1, orientation_radians=0), "a coord"),
        (
            label("oriented_ellipse", centre={"x": 1, "y": 2}, radius1=9, radius2=1, orientation_radians=float("nan")),
            "an angle is not a number",
        ),
        (label("cloud"), "a label has the type 'cloud', which has no rule; draw it as a polygon"),
        (label("group"), "a shape is malformed (KeyError: 'component_models')"),
        (nested(25), "groups lie more than 20 deep in each other; ungroup them"),
        ({}, "a shape is malformed (KeyError: 'label_type')"),
        ("polygon", "a shape is malformed (TypeError"),
    ],
)
def test_a_label_that_cannot_be_is_refused_with_a_sentence(read, element, message):
    assert message in read(document(element)).refusal


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'a__labels.json' is not JSON ("),
        ('{"labels": [' + '{"component_models": [' * 100_000, "'a__labels.json' is not JSON ("),
        ("5", "'a__labels.json' is not a Django Labeller file (TypeError"),
        ("{}", "'a__labels.json' is not a Django Labeller file (KeyError: 'labels'); it needs a list of labels"),
        ('{"labels": [], "completed_tasks": 5}', "'a__labels.json' is not a Django Labeller file (TypeError"),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_labeller_file_is_refused(read, text, message):
    with pytest.raises(AnnotationRefused) as refusal:
        read(text)
    assert message in str(refusal.value)


def test_a_file_over_the_size_limit_is_refused_unread(read, monkeypatch):
    monkeypatch.setattr(label_files, "MAX_FILE_BYTES", 10)
    with pytest.raises(AnnotationRefused, match="limit is 0 MB"):
        read(document())
