"""CVAT XML as layers: each shape by its rule, the order by z_order, and hostile files."""

import math

import numpy as np
import pytest

from axons.data import label_files, shapes
from axons.data.cvat import cvat_document, cvat_image, read_cvat
from axons.data.layers import UNLABELLED, PolygonLayer, render
from axons.errors import AnnotationRefused

CLASSES = {"background": 0, "myelin": 1, "axon": 2}


@pytest.fixture
def read(tmp_path):
    def write(text):
        (tmp_path / "a.xml").write_text(text)
        return read_cvat(tmp_path / "a.xml", CLASSES, name="a.xml")

    return write


def document(*elements, width=30, height=20, name="a.png"):
    """As CVAT 2 writes it."""
    return f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><job><id>1</id><labels><label><name>myelin</name><color>#ff0000</color></label></labels></job></meta>
  <image id="0" name="{name}" width="{width}" height="{height}">
    {"".join(elements)}
  </image>
</annotations>
"""


def shape(tag, *, label="myelin", z_order=0, **attributes):
    listed = " ".join(f'{key}="{value}"' for key, value in attributes.items())
    return f'<{tag} label="{label}" source="manual" occluded="0" {listed} z_order="{z_order}"></{tag}>'


def polygon(points="2.00,1.00;9.00,1.00;9.00,5.00;2.00,5.00", **more):
    return shape("polygon", points=points, **more)


def box(row0, col0, row1, col1, value=1):
    plane = np.full((20, 30), UNLABELLED, np.uint8)
    plane[row0:row1, col0:col1] = value
    return plane


def drawn(*rings):
    return render([PolygonLayer(value=1, rings=(ring,)) for ring in rings], 20, 30)


def test_a_polygon_lies_on_pixel_edges(read):
    [image] = read(document(polygon()))
    assert np.array_equal(image.plane(), box(1, 2, 5, 9))
    assert (image.name, image.layers[0].origin.source) == ("a.png", "import:a.xml")


def test_a_mask_lies_in_its_box_and_runs_along_rows_from_background(read):
    [image] = read(document(shape("mask", rle="1, 2, 1, 2", left=4, top=3, width=3, height=2)))
    expected = box(0, 0, 0, 0)
    expected[3, 5:7] = expected[4, 5:7] = 1
    assert np.array_equal(image.plane(), expected)


def test_a_mask_may_begin_inside(read):
    [image] = read(document(shape("mask", rle="0, 6", left=4, top=3, width=3, height=2)))
    assert np.array_equal(image.plane(), box(3, 4, 5, 7))


@pytest.mark.parametrize(
    ("element", "rings"),
    [
        (shape("box", xtl="3", ytl="5", xbr="9.5", ybr="8"), [shapes.box(3, 5, 9.5, 8)]),
        (
            shape("box", xtl="3", ytl="5", xbr="9", ybr="8", rotation="30.00"),
            [shapes.box(3, 5, 9, 8, turned=math.pi / 6)],
        ),
        (
            shape("ellipse", cx="12", cy="9", rx="8", ry="4", rotation="350"),
            [shapes.ellipse(12, 9, 8, 4, turned=math.radians(350))],
        ),
        (shape("points", points="5,5;20,10"), [shapes.disk(5, 5), shapes.disk(20, 10)]),
        (shape("polyline", points="5,5;20,10;25,2"), shapes.polyline([[5, 5], [20, 10], [25, 2]])),
    ],
)
def test_each_shape_is_drawn_by_its_rule(read, element, rings):
    [image] = read(document(element))
    assert np.array_equal(image.plane(), drawn(*rings))
    assert all(isinstance(layer, PolygonLayer) for layer in image.layers)


def test_the_highest_z_order_lies_on_top_and_then_the_later_shape(read):
    elements = [
        polygon(z_order=1),
        polygon("0,0;30,0;30,20;0,20", label="axon"),
        polygon("2,1;5,1;5,5;2,5", label="axon", z_order=1),
        polygon("0,0;30,0;30,20;0,20", label="background", z_order=-3),
    ]
    [image] = read(document(*elements))
    expected = box(0, 0, 20, 30, value=2)
    expected[1:5, 5:9] = 1
    assert np.array_equal(image.plane(), expected)


def test_what_is_ignored_on_purpose_has_a_reserved_name(read):
    [image] = read(document(polygon(label="__ignored__")))
    assert np.array_equal(image.plane(), box(1, 2, 5, 9, value=254))


def test_tags_are_left_out_and_told(read):
    [image] = read(document('<tag label="blurred" source="manual"></tag>', polygon()))
    assert image.notices == ("1 tags of the whole image 'a.png' were left out",)
    assert len(image.layers) == 1


def test_attributes_of_shapes_do_not_disturb(read):
    inside = polygon().replace("></polygon>", '><attribute name="quality">good</attribute></polygon>')
    [image] = read(document(inside))
    assert np.array_equal(image.plane(), box(1, 2, 5, 9))


def test_images_come_in_the_order_of_the_file(read):
    both = document(polygon()).replace("</annotations>", document(name="b.png").partition("</meta>")[2])
    first, second = read(both)
    assert (first.name, second.name, second.layers) == ("a.png", "b.png", ())


def test_a_fault_in_one_image_leaves_the_others(read):
    both = document(polygon()).replace(
        "</annotations>", document(polygon(label="fat"), name="b").partition("</meta>")[2]
    )
    first, second = read(both)
    assert first.refusal is None
    assert (
        second.refusal == "'b': label 'fat' is no class of the project; add what is missing or leave it out of the file"
    )


@pytest.mark.parametrize(
    ("element", "message"),
    [
        (shape("cuboid", xtl1="1"), "'a.png': a 'cuboid' has no area that could be painted; leave it out of the file"),
        ('<skeleton label="axon"><points label="axon" points="1,1"/></skeleton>', "a 'skeleton' has no area"),
        (polygon("1,1;2,2"), "a polygon ring has shape (2, 2); give at least 3 pairs"),
        (polygon("1,1;2,2;3"), "a shape is malformed (ValueError"),
        (polygon(""), "a shape is malformed (ValueError"),
        (polygon("1,1;2,nan;3,3"), "a coordinate is not a number near the image"),
        (polygon("1,1;2,inf;3,3"), "a coordinate is not a number near the image"),
        (polygon("1,1;2,1e300;3,3"), "a coordinate is not a number near the image"),
        (polygon(z_order="up"), "a shape is malformed (ValueError"),
        ("<polygon label='axon'/>", "a shape is malformed (KeyError: 'points')"),
        ("<polygon points='1,1;2,2;3,1'/>", "a shape is malformed (KeyError: 'label')"),
        (shape("box", xtl="1", ytl="1", xbr="2", ybr="2", rotation="nan"), "an angle is not a number"),
        (shape("ellipse", cx="1", cy="1", rx="1e9", ry="2"), "a coordinate is not a number near the image"),
        (shape("polyline", points="1,1"), "a line has only one point"),
        (shape("mask", rle="6", left=28, top=3, width=3, height=2), "leaves the image of 20 x 30 px"),
        (shape("mask", rle="6", left=-1, top=3, width=3, height=2), "leaves the image of 20 x 30 px"),
        (shape("mask", rle="0", left=1, top=3, width=0, height=2), "leaves the image of 20 x 30 px"),
        (shape("mask", rle="5", left=4, top=3, width=3, height=2), "runs do not add up to its 6 px"),
        (shape("mask", rle="7, -1", left=4, top=3, width=3, height=2), "runs do not add up to its 6 px"),
        (shape("mask", rle=f"{2**70}", left=4, top=3, width=3, height=2), "runs do not add up to its 6 px"),
        (shape("mask", rle="", left=4, top=3, width=3, height=2), "a shape is malformed (ValueError"),
        (shape("mask", rle="3, x", left=4, top=3, width=3, height=2), "a shape is malformed (ValueError"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_with_a_sentence(read, element, message):
    [image] = read(document(element))
    assert message in image.refusal


def test_all_masks_of_a_file_have_a_limit(read, monkeypatch):
    monkeypatch.setattr(label_files, "_MAX_MASK_PIXELS", 1000)
    [image] = read(document(*[shape("mask", rle="0, 600", left=0, top=0, width=30, height=20)] * 2))
    assert image.refusal == "'a.png': the masks of 'a.xml' have more than 0 Mpx in all; split it by image"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'a.xml' is not XML (no element found"),
        ("<annotations>", "'a.xml' is not XML (no element found"),
        ("<annotations><image></annotations>", "'a.xml' is not XML (mismatched tag"),
        ("{}", "'a.xml' is not XML ("),
        ('<?xml version="1.0" encoding="nonsense"?><annotations/>', "'a.xml' is not XML (unknown encoding"),
        ("<html/>", "'a.xml' is not a CVAT file but holds 'html'; export CVAT for images 1.1"),
        ('<annotations><track id="0" label="axon"/></annotations>', "'a.xml' is a CVAT file for videos"),
        ("<annotations><image/></annotations>", "'a.xml' is not a CVAT file (KeyError: 'height')"),
        (document(width="wide"), "'a.xml' is not a CVAT file (ValueError"),
        (
            '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>',
            "'a.xml' has a document type definition, which is not allowed; export it again",
        ),
        (
            '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;&x;">]><annotations>&y;</annotations>',
            "'a.xml' has a document type definition, which is not allowed; export it again",
        ),
        (
            '<!DOCTYPE annotations SYSTEM "http://127.0.0.1/a.dtd"><annotations/>',
            "'a.xml' has a document type definition, which is not allowed; export it again",
        ),
    ],
)
def test_what_is_no_cvat_file_is_refused(read, text, message):
    with pytest.raises(AnnotationRefused) as refusal:
        read(text)
    assert message in str(refusal.value)


def test_elements_without_end_are_survived(read):
    [image] = read(document("<a>" * 100_000 + "</a>" * 100_000))
    assert "a 'a' has no area" in image.refusal or "label" in image.refusal


def test_an_image_of_no_sensible_size_is_refused(read):
    [image] = read(document(width=10**9))
    assert image.refusal == "'a.png': an image of 20 x 1000000000 px cannot take labels; its sides may be 1 to 16384 px"


def test_a_file_over_the_size_limit_is_refused_unread(read, monkeypatch):
    monkeypatch.setattr(label_files, "MAX_FILE_BYTES", 10)
    with pytest.raises(AnnotationRefused, match="^'a.xml' has 0 MB, the limit is 0 MB; split it by image$"):
        read(document())


def test_names_are_text_and_never_markup(read):
    name, plane = '"><image name="', np.zeros((2, 3), np.uint8)
    text = "".join(cvat_document("<b>\x01", [("</label>", "#000000")], [cvat_image(0, name, plane, {0: "background"})]))
    [image] = read(text)
    assert image.name == name
    assert "<name>&lt;b&gt;?</name>" in text
