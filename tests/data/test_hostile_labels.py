"""Label files in which something is not what it should be: read or refused with a sentence, never anything else."""

import copy
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axons.data.coco import read_coco
from axons.data.cvat import cvat_document, cvat_image, read_cvat
from axons.data.decoding import Decoder
from axons.data.label_files import cut_layers
from axons.data.labeller import read_labeller
from axons.data.labelme import labelme_document, read_labelme
from axons.data.tiles import TileGrid
from axons.errors import AnnotationRefused

CLASSES = {"bg": 0, "axon": 1}
PLANE = np.pad(np.ones((2, 3), np.uint8), 1)
POINT = {"x": 3.0, "y": 4.5}

COCO = {
    "images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 5}],
    "categories": [{"id": 2, "name": "axon"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 2, "segmentation": [[0, 0, 4, 0, 4, 3]]},
        {"id": 2, "image_id": 1, "category_id": 2, "segmentation": {"size": [4, 5], "counts": [2, 18]}},
        {"id": 3, "image_id": 1, "category_id": 2, "segmentation": {"size": [4, 5], "counts": "05O2"}},
    ],
}
LABELME = json.loads(labelme_document(PLANE, {0: "bg", 1: "axon"}, image_path="a.png"))
LABELME["shapes"] += [
    {"label": "axon", "shape_type": kind, "points": points}
    for kind, points in {
        "polygon": [[0, 0], [4, 0], [4, 3]],
        "rectangle": [[0, 0], [4, 3]],
        "circle": [[2, 2], [3, 3]],
        "linestrip": [[0, 0], [4, 0], [4, 3]],
        "point": [[1, 1]],
    }.items()
]
LABELLER = {
    "image_filename": "a.png",
    "completed_tasks": ["finished"],
    "labels": [
        {"label_type": "polygon", "label_class": "axon", "regions": [[POINT, POINT, POINT]], "anno_data": {}},
        {"label_type": "box", "label_class": "axon", "centre": POINT, "size": POINT},
        {"label_type": "point", "label_class": "bg", "position": POINT},
        {
            "label_type": "oriented_ellipse",
            "label_class": "axon",
            "centre": POINT,
            "radius1": 2,
            "radius2": 1.0,
            "orientation_radians": 0.3,
        },
        {"label_type": "group", "label_class": "axon", "component_models": []},
    ],
}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["axon", "mask", "group", "1,2;3,4", [], {}, [[]], [None] * 4, {"x": 1}, [[1, 2], [3, 4]], "\ud800", "\0"]
    ),
)


@pytest.fixture(scope="module")
def decode_mask():
    with Decoder() as decoder, tempfile.TemporaryDirectory() as folder:

        def decode(data):
            Path(folder, "mask.png").write_bytes(data)
            return decoder.read_mask(Path(folder, "mask.png"), name="mask").values

        yield decode


def places(value, path=()):
    """Where a part of a JSON document lies."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def with_part(document, path, part):
    if not path:
        return part
    changed = copy.deepcopy(document)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = part
    return changed


def assert_storable(*texts):
    """Neither UTF-8 nor a database takes every text that JSON can hold."""
    for text in texts:
        assert "\0" not in text
        text.encode()


def try_to_read(read, text):
    """What a job does with a file, up to the tiles."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "labels")
        path.write_bytes(text)
        try:
            for image in read(path, CLASSES, name="labels"):
                list(cut_layers(image.layers, 4, 5, TileGrid(tile=64)))
                assert_storable(image.name, image.refusal or "", *image.notices)
        except AnnotationRefused as error:
            assert_storable(str(error))


@pytest.mark.parametrize("kind", ["coco", "labelme", "labeller"])
@settings(max_examples=150)
@given(data=st.data())
def test_any_part_of_a_file_may_be_anything(kind, decode_mask, data):
    def labelme(path, classes, *, name):
        return read_labelme(path, classes, name=name, decode_mask=decode_mask)

    document, read = {
        "coco": (COCO, read_coco),
        "labelme": (LABELME, labelme),
        "labeller": (LABELLER, read_labeller),
    }[kind]
    path = data.draw(st.sampled_from(list(places(document))))
    changed = with_part(document, path, data.draw(ODD))
    try_to_read(read, json.dumps(changed).encode())


CVAT = "".join(cvat_document("p", [("axon", "#000000")], [cvat_image(0, "a.png", PLANE, {0: "bg", 1: "axon"})]))
CVAT = CVAT.replace(
    "  </image>",
    '<polygon label="axon" points="0,0;4,0;4,3" z_order="1"/>'
    '<box label="bg" xtl="0" ytl="0" xbr="3" ybr="2" rotation="9"/>'
    '<ellipse label="axon" cx="2" cy="2" rx="2" ry="1" rotation="4"/><points label="axon" points="1,1"/>'
    '<polyline label="axon" points="1,1;3,3"/><tag label="axon"/></image>',
)
NUMBERS = ["", "nan", "inf", "-inf", "1e300", "-5", "9" * 30, "0", "x", "1,2;3,4", "2", "\u0663", "0x10", "1_0"]


@settings(max_examples=200)
@given(data=st.data())
def test_any_attribute_of_a_cvat_file_may_be_anything(data):
    parts = CVAT.split('"')
    place = data.draw(st.sampled_from(range(1, len(parts), 2)))
    parts[place] = data.draw(st.sampled_from(NUMBERS))
    try_to_read(read_cvat, '"'.join(parts).encode())


@settings(max_examples=200)
@given(data=st.data())
def test_any_bytes_of_a_file_may_be_lost(data):
    read, text = data.draw(
        st.sampled_from(
            [(read_cvat, CVAT), (read_coco, json.dumps(COCO)), (read_labeller, json.dumps(LABELLER))],
        )
    )
    whole = text.encode()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    junk = data.draw(st.binary(max_size=6))
    try_to_read(read, whole[:start] + junk + whole[end:])
