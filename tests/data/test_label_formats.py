"""Planes written for other tools and read back: the same pixels, whatever the plane."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from axons.data.coco import coco_annotations, coco_document, read_coco
from axons.data.cvat import cvat_document, cvat_image, read_cvat
from axons.data.decoding import Decoder
from axons.data.label_files import ImageLabels
from axons.data.label_studio import encode_brush, label_studio_config, label_studio_task
from axons.data.labeller import labeller_document, read_labeller
from axons.data.labelme import labelme_document, read_labelme
from axons.data.layers import UNLABELLED, crc32, render
from tests.drawing import draw_disks

NAMES = {0: "back & ground", 1: '"<axon>"', 2: "Ω ★", 254: "__ignored__"}
CLASSES = {name: value for value, name in NAMES.items() if value != 254}
LABELS = [(name, "#102030") for name in NAMES.values()]
PLANES = arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20)), elements=st.sampled_from([*NAMES, 255]))


@pytest.fixture(scope="module")
def decode_mask():
    with Decoder() as decoder, tempfile.TemporaryDirectory() as folder:

        def decode(data):
            Path(folder, "mask.png").write_bytes(data)
            return decoder.read_mask(Path(folder, "mask.png"), name="mask").values

        yield decode


def through_coco(plane, path, _decode):
    classes = [(value, name) for name, value in CLASSES.items()]
    path.write_text(coco_document("p", classes, [("a.png", *plane.shape)], [coco_annotations(plane)]))
    return read_coco(path, CLASSES, name="a.json")


def through_cvat(plane, path, _decode):
    path.write_text("".join(cvat_document("p & q", LABELS, [cvat_image(0, "a.png", plane, NAMES)])))
    return read_cvat(path, CLASSES, name="a.xml")


def through_labelme(plane, path, decode):
    path.write_bytes(labelme_document(plane, NAMES, image_path="a.png"))
    return read_labelme(path, CLASSES, name="a.json", decode_mask=decode)


def through_labeller(plane, path, _decode):
    path.write_bytes(labeller_document(plane, NAMES, image_filename="a.png", is_done=False))
    return read_labeller(path, CLASSES, name="a__labels.json")


FORMATS = {"coco": through_coco, "cvat": through_cvat, "labelme": through_labelme, "labeller": through_labeller}


@pytest.mark.parametrize("kind", FORMATS)
@given(plane=PLANES)
def test_any_plane_comes_back_the_same(kind, decode_mask, plane):
    with tempfile.TemporaryDirectory() as folder:
        [image] = FORMATS[kind](plane, Path(folder, "labels"), decode_mask)
    assert image.refusal is None
    assert image.size in (None, plane.shape)
    assert crc32(render(image.layers, *plane.shape)) == crc32(plane)


@pytest.mark.parametrize("kind", FORMATS)
def test_drawn_labels_come_back_the_same(kind, decode_mask, tmp_path):
    plane = draw_disks(300, 200, seed=5).mask
    plane[40:60, 30:90] = 254
    plane[np.random.default_rng(0).random(plane.shape) < 0.02] = UNLABELLED
    [image] = FORMATS[kind](plane, tmp_path / "labels", decode_mask)
    assert isinstance(image, ImageLabels)
    assert np.array_equal(render(image.layers, 300, 200), plane)


def decoded_brush(data):
    """The values in a brush region, by the description of the format in Label Studio's SDK (`converter/brush.py`).

    The SDK itself brings some thirty packages. Its decoder (2.1.2) was run against these bytes by hand: it gives the
    same, and its encoder writes the same bytes.
    """
    bits = "".join(f"{byte:08b}" for byte in data)
    place = 0

    def read(count):
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    length, word = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    values = []
    while len(values) < length:
        is_run, size = read(1), None
        size = read(widths[read(2)]) + 1
        values += [read(word)] * size if is_run else [read(word) for _ in range(size)]
    return np.array(values, np.uint8)


@given(plane=PLANES)
def test_the_regions_of_label_studio_are_the_plane(plane):
    task = json.loads(label_studio_task(plane, NAMES, image_path="a.png"))
    found = np.full(plane.shape, UNLABELLED, np.uint8)
    values = {name: value for value, name in NAMES.items()}
    for region in task["annotations"][0]["result"]:
        assert (region["original_height"], region["original_width"]) == plane.shape
        rgba = decoded_brush(region["value"]["rle"]).reshape(*plane.shape, 4)
        found[rgba[..., 3] > 128] = values[region["value"]["brushlabels"][0]]
    assert np.array_equal(found, plane)


def test_long_runs_of_label_studio_come_in_several():
    inside = np.zeros((300, 400), bool)
    inside[100:] = True
    rgba = decoded_brush(encode_brush(inside)).reshape(300, 400, 4)
    assert np.array_equal(rgba, np.repeat(inside[..., None] * np.uint8(255), 4, axis=2))


def test_the_regions_of_label_studio_name_the_controls_of_its_interface():
    [region] = json.loads(label_studio_task(np.zeros((2, 3), np.uint8), NAMES, image_path="a.png"))["annotations"][0][
        "result"
    ]
    interface = label_studio_config([("back & ground", "#102030")])
    assert f'<BrushLabels name="{region["from_name"]}" toName="{region["to_name"]}">' in interface
    assert f'<Image name="{region["to_name"]}" value="$image"' in interface
    assert '<Label value="back &amp; ground" background="#102030"/>' in interface
    assert (region["type"], region["value"]["format"]) == ("brushlabels", "rle")
