"""labelme files as layers: each shape by its rule, the order of the list, and hostile files."""

import base64
import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from axons.data import label_files, shapes
from axons.data.decoding import Decoder
from axons.data.labelme import labelme_document, read_labelme
from axons.data.layers import UNLABELLED, PolygonLayer, render
from axons.errors import AnnotationRefused

CLASSES = {"background": 0, "myelin": 1, "axon": 2}
SQUARE = [[2, 1], [9, 1], [9, 5], [2, 5]]


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as running:
        yield running


@pytest.fixture
def read(tmp_path, decoder):
    def decode(data):
        (tmp_path / "mask.png").write_bytes(data)
        return decoder.read_mask(tmp_path / "mask.png", name="a.json").values

    def write(document):
        text = document if isinstance(document, str) else json.dumps(document)
        (tmp_path / "a.json").write_text(text)
        [image] = read_labelme(tmp_path / "a.json", CLASSES, name="a.json", decode_mask=decode)
        return image

    return write


def document(*shapes, **more):
    """As labelme 5 writes it."""
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": "..\\images\\a.jpg",
        "imageData": None,
        "imageHeight": 20,
        "imageWidth": 30,
        **more,
    }


def shape(kind, points, *, label="myelin", **more):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def base64_png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def mask(pixels, points=((4, 3), (6, 4)), **more):
    return shape("mask", [list(point) for point in points], mask=base64_png(pixels), **more)


def box(row0, col0, row1, col1, value=1):
    plane = np.full((20, 30), UNLABELLED, np.uint8)
    plane[row0:row1, col0:col1] = value
    return plane


def drawn(*rings):
    return render([PolygonLayer(value=1, rings=(ring,)) for ring in rings], 20, 30)


def test_a_polygon_lies_on_pixel_edges(read):
    image = read(document(shape("polygon", SQUARE)))
    assert np.array_equal(image.plane(), box(1, 2, 5, 9))
    assert image.layers[0].origin.source == "import:a.json"


def test_a_shape_without_a_type_is_a_polygon(read):
    old = {"label": "myelin", "points": SQUARE}
    assert np.array_equal(read(document(old)).plane(), box(1, 2, 5, 9))


@pytest.mark.parametrize("inside", [1, 255, True])
def test_a_mask_reaches_from_its_first_to_its_last_pixel(read, inside):
    pixels = np.array([[0, 1, 1], [1, 0, 0]]).astype(np.asarray(inside).dtype if inside is True else np.uint8)
    image = read(document(mask(pixels * np.uint8(inside) if inside is not True else pixels)))
    expected = box(0, 0, 0, 0)
    expected[3, 5:7] = expected[4, 4] = 1
    assert np.array_equal(image.plane(), expected)


@pytest.mark.parametrize(
    ("element", "rings"),
    [
        (shape("rectangle", [[9.5, 8], [3, 5]]), [shapes.box(3, 5, 9.5, 8)]),
        (
            shape("oriented_rectangle", [[5, 2], [9, 6], [6, 9], [2, 5]]),
            [shapes.ring([[5, 2], [9, 6], [6, 9], [2, 5]])],
        ),
        (shape("circle", [[10, 9], [13, 5]]), [shapes.ellipse(10, 9, 5, 5)]),
        (shape("point", [[10, 9]]), [shapes.disk(10, 9)]),
        (shape("points", [[10, 9], [20, 3]]), [shapes.disk(10, 9), shapes.disk(20, 3)]),
        (shape("line", [[3, 3], [20, 10]]), shapes.polyline([[3, 3], [20, 10]])),
        (shape("linestrip", [[3, 3], [20, 10], [25, 1]]), shapes.polyline([[3, 3], [20, 10], [25, 1]])),
    ],
)
def test_each_shape_is_drawn_by_its_rule(read, element, rings):
    image = read(document(element))
    assert np.array_equal(image.plane(), drawn(*rings))
    assert all(isinstance(layer, PolygonLayer) for layer in image.layers)


def test_the_later_shape_lies_on_top(read):
    image = read(document(shape("polygon", SQUARE), shape("rectangle", [[2, 1], [4, 5]], label="axon")))
    expected = box(1, 2, 5, 9)
    expected[1:5, 2:4] = 2
    assert np.array_equal(image.plane(), expected)


def test_a_file_need_not_tell_the_size(read):
    assert read(document(shape("polygon", SQUARE), imageHeight=None)).size is None


def test_what_is_written_is_what_labelme_reads():
    plane = box(3, 4, 5, 7)
    found = json.loads(labelme_document(plane, {1: "myelin"}, image_path="../images/a.tif"))
    [part] = found["shapes"]
    assert part["points"] == [[4, 3], [6, 4]]
    assert np.asarray(Image.open(io.BytesIO(base64.b64decode(part["mask"])))).astype(bool).all()
    assert {key: found[key] for key in ("imagePath", "imageData", "imageHeight", "imageWidth", "flags")} == {
        "imagePath": "../images/a.tif",
        "imageData": None,
        "imageHeight": 20,
        "imageWidth": 30,
        "flags": {},
    }


def bomb(height, width):
    """A PNG that says it is small and unpacks to 100 MB."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(100 << 20))), (b"IEND", b"")]
    packed = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(packed)).decode()


TWO_BY_THREE = np.ones((2, 3), np.uint8)


@pytest.mark.parametrize(
    ("element", "message"),
    [
        (shape("polygon", [[1, 1], [2, 2]]), "'a.json': a polygon ring has shape (2, 2); give at least 3 pairs"),
        (shape("polygon", []), "a polygon ring has shape (0, 2)"),
        (shape("polygon", [[1, 1], [2], [3, 3]]), "a shape is malformed (ValueError"),
        (shape("polygon", [[1, 1], [2, None], [3, 3]]), "a coordinate is not a number near the image"),
        (shape("polygon", [[1, 1], [2, float("nan")], [3, 3]]), "a coordinate is not a number near the image"),
        (shape("polygon", [[1, 1], [2, 1e300], [3, 3]]), "a coordinate is not a number near the image"),
        (shape("polygon", "abc"), "a shape is malformed ("),
        (shape("circle", [[1, 1]]), "a shape is malformed (ValueError"),
        (shape("rectangle", [[1, 1], [2, 2], [3, 3]]), "a shape is malformed (ValueError"),
        (shape("line", [[1, 1]]), "a line has only one point"),
        (shape("cloud", SQUARE), "a shape has the type 'cloud', which has no rule; draw it as a polygon"),
        (shape("polygon", SQUARE, label="fat"), "'a.json': label 'fat' is no class of the project"),
        (shape("polygon", SQUARE, label=["axon"]), "a shape is malformed (TypeError"),
        ({"label": "axon"}, "a shape is malformed (KeyError: 'points')"),
        (5, "a shape is malformed (TypeError"),
        (shape("mask", [[4, 3], [6, 4]]), "a shape is malformed (KeyError: 'mask')"),
        (shape("mask", [[4, 3], [6, 4]], mask="****"), "a mask is not base64 ("),
        (shape("mask", [[4, 3], [6, 4]], mask="ä"), "a mask is not base64 ("),
        (shape("mask", [[4, 3], [6, 4]], mask="AAAA"), "a mask is not a PNG; export the file again"),
        (shape("mask", [[4, 3], [6, 4]], mask=5), "a shape is malformed (TypeError"),
        (mask(TWO_BY_THREE, points=[(4, 3), (7, 4)]), "a mask has 2 x 3 px but its box is 2 x 4 px"),
        (mask(TWO_BY_THREE, points=[(6, 4), (4, 3)]), "a mask has a box of 0 x -1 px; export the file again"),
        (mask(TWO_BY_THREE, points=[(-4, -3), (-2, -2)]), "a mask begins at (-3, -4), outside the image"),
        (mask(TWO_BY_THREE, points=[(float("inf"), 3), (6, 4)]), "a shape is malformed (OverflowError"),
        (mask(TWO_BY_THREE, points=[(0, 0), (10**9, 10**9)]), "have more than 512 Mpx in all"),
        (shape("mask", [[4, 3], [6, 4]], mask=base64_png(TWO_BY_THREE)[:61]), "a mask is not base64"),
        (shape("mask", [[4, 3], [6, 4]], mask=base64_png(TWO_BY_THREE)[:48]), "'a.json'"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_with_a_sentence(read, element, message):
    assert message in read(document(element)).refusal


def test_a_mask_that_unpacks_to_more_than_it_says_costs_nothing(read):
    image = read(document(shape("mask", [[4, 3], [6, 4]], mask=bomb(2, 3))))
    assert image.refusal or image.plane().shape == (20, 30)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'a.json' is not JSON ("),
        ("[" * 100_000, "'a.json' is not JSON ("),
        ("[]", "'a.json' is not a labelme file (TypeError"),
        ("{}", "'a.json' is not a labelme file (KeyError: 'shapes'); it needs shapes, imageHeight and imageWidth"),
        (document(imageHeight="tall"), "'a.json' is not a labelme file (ValueError"),
        (document(imageHeight=float("inf")), "'a.json' is not a labelme file (OverflowError"),
    ],
    ids=str,
)
def test_what_is_no_labelme_file_is_refused(read, text, message):
    with pytest.raises(AnnotationRefused) as refusal:
        read(text)
    assert message in str(refusal.value)


def test_a_file_over_the_size_limit_is_refused_unread(read, monkeypatch):
    monkeypatch.setattr(label_files, "MAX_FILE_BYTES", 10)
    with pytest.raises(AnnotationRefused, match="^'a.json' has 0 MB, the limit is 0 MB; split it by image$"):
        read(document())
