"""COCO files as layers: polygons on pixel edges, masks in runs down the columns, and hostile ones."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axons.data import label_files
from axons.data.coco import coco_annotations, coco_document, read_coco
from axons.data.layers import IGNORED, SEE_THROUGH, UNLABELLED, Annotation, MaskLayer, from_json, to_json
from axons.errors import AnnotationRefused
from tests.drawing import draw_disks

CLASSES = {"background": 0, "myelin": 1, "axon": 2}
MASK = np.array([[0, 1, 1, 0], [0, 1, 0, 0], [1, 0, 0, 1]], bool)
MASK_RUNS = [2, 3, 1, 1, 4, 1]  # down the columns, beginning with background


@pytest.fixture
def read(tmp_path):
    """Write a COCO file and read it."""

    def write(document):
        text = document if isinstance(document, str) else json.dumps(document)
        (tmp_path / "coco.json").write_text(text)
        return read_coco(tmp_path / "coco.json", CLASSES, name="coco.json")

    return write


def document(*segmentations, height=20, width=30, category=5):
    annotations = [{"image_id": 1, "category_id": category, "segmentation": found} for found in segmentations]
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": height, "width": width}],
        "categories": [{"id": 5, "name": "myelin"}, {"id": 6, "name": "axon"}, {"id": 7, "name": "vessel"}],
        "annotations": annotations,
    }


def runs(mask):
    """COCO's uncompressed counts of an (H, W) bool mask, by definition."""
    flat = np.concatenate([[False], mask.T.reshape(-1)])
    edges = np.flatnonzero(np.diff(flat))
    return np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()


def compressed(mask):
    from pycocotools import mask as reference

    return reference.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def plane_of(read, *segmentations, **options):
    [image] = read(document(*segmentations, **options))
    assert image.refusal is None
    return image.plane()


def refusal_of(read, *segmentations, **options):
    [image] = read(document(*segmentations, **options))
    assert image.layers == ()
    return image.refusal


def box(row0, col0, row1, col1, *, height=20, width=30, value=1):
    plane = np.full((height, width), UNLABELLED, np.uint8)
    plane[row0:row1, col0:col1] = value
    return plane


def test_a_polygon_lies_on_pixel_edges(read):
    assert np.array_equal(plane_of(read, [[0, 0, 4, 0, 4, 3, 0, 3]]), box(0, 0, 3, 4))


def test_coordinates_are_column_then_row(read):
    assert np.array_equal(plane_of(read, [[10, 2, 25, 2, 25, 7, 10, 7]]), box(2, 10, 7, 25))


def test_fractions_of_a_pixel_count_where_the_centre_is_covered(read):
    assert np.array_equal(plane_of(read, [[0.4, 0.4, 4.6, 0.4, 4.6, 3.4, 0.4, 3.4]]), box(0, 0, 3, 5))


def test_the_parts_of_a_segmentation_are_united(read):
    parts = [[0, 0, 4, 0, 4, 3, 0, 3], [2, 0, 6, 0, 6, 3, 2, 3]]
    assert np.array_equal(plane_of(read, parts), box(0, 0, 3, 6))


def test_the_later_annotation_lies_on_top(read):
    whole = document([[0, 0, 9, 0, 9, 9, 0, 9]], [[2, 2, 4, 2, 4, 4, 2, 4]])
    whole["annotations"][1]["category_id"] = 6
    [image] = read(whole)
    expected = box(0, 0, 9, 9)
    expected[2:4, 2:4] = 2
    assert np.array_equal(image.plane(), expected)


def test_a_mask_runs_down_the_columns_and_begins_with_background(read):
    plane = plane_of(read, {"size": [3, 4], "counts": MASK_RUNS}, height=3, width=4)
    assert np.array_equal(plane, np.where(MASK, 1, UNLABELLED))


def test_a_compressed_mask_is_the_same(read):
    plane = plane_of(read, {"size": [3, 4], "counts": compressed(MASK)}, height=3, width=4)
    assert np.array_equal(plane, np.where(MASK, 1, UNLABELLED))


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    share=st.sampled_from([0, 0.02, 0.3, 0.9, 1]),
    seed=st.integers(0, 99),
)
def test_any_mask_is_read_as_pycocotools_wrote_it(tmp_path_factory, height, width, share, seed):
    mask = np.random.default_rng(seed).random((height, width)) < share
    path = tmp_path_factory.mktemp("coco") / "coco.json"
    found = [{"size": [height, width], "counts": counts} for counts in (compressed(mask), runs(mask))]
    path.write_text(json.dumps(document(*found, height=height, width=width)))
    [image] = read_coco(path, CLASSES, name="coco.json")
    plane = image.plane()
    assert np.array_equal(plane, np.where(mask, 1, UNLABELLED))


def test_long_runs_survive_compression(read):
    mask = np.zeros((3000, 2000), bool)
    mask[:, 700:1900] = True
    mask[1234, 1500] = False
    found = {"size": [3000, 2000], "counts": compressed(mask)}
    assert np.array_equal(plane_of(read, found, height=3000, width=2000) == 1, mask)


def test_a_small_mask_on_a_large_image_costs_little(read):
    mask = np.zeros((4000, 4000), bool)
    mask[2000:2010, 3000:3020] = True
    [image] = read(document({"size": [4000, 4000], "counts": runs(mask)}, height=4000, width=4000))
    [layer] = image.layers
    assert isinstance(layer, MaskLayer)
    assert (layer.row0, layer.col0, layer.values.shape) == (2000, 3000, (10, 20))
    assert not (layer.values == SEE_THROUGH).any()


def test_thousands_of_small_masks_fit_on_a_large_image(read):
    mask = np.zeros((4000, 4000), bool)
    found = []
    for row in range(5, 4000, 100):
        for col in range(5, 4000, 100):
            mask[row : row + 10, col : col + 20] = True
            edges = [c * 4000 + row + i for c in range(col, col + 20) for i in (0, 10)]
            counts = np.diff([0, *edges, 16_000_000]).tolist()
            found.append({"size": [4000, 4000], "counts": counts})
    assert np.array_equal(plane_of(read, *found, height=4000, width=4000) == 1, mask)


def test_an_endless_name_does_not_make_an_endless_sentence(read):
    whole = document([[0, 0, 4, 0, 4, 3]])
    whole["images"][0]["file_name"] = whole["categories"][0]["name"] = "x" * 1_000_000
    [image] = read(whole)
    assert len(image.refusal) < 1000


def test_an_empty_mask_paints_nothing(read):
    assert (plane_of(read, {"size": [20, 30], "counts": [600]}) == UNLABELLED).all()


def test_what_is_read_can_be_stored(read):
    [image] = read(document([[0, 0, 4, 0, 4, 3, 0, 3]], {"size": [20, 30], "counts": [30, 11, 559]}))
    stored = json.loads(json.dumps(to_json(Annotation(height=20, width=30, layers=image.layers))))
    assert np.array_equal(from_json(stored).plane(), image.plane())
    assert image.layers[0].origin.source == "import:coco.json"


def test_images_come_in_the_order_of_the_file(read):
    whole = document([[0, 0, 4, 0, 4, 3, 0, 3]])
    whole["images"].insert(0, {"id": "other", "file_name": "b.png", "height": 5, "width": 6})
    first, second = read(whole)
    assert (first.name, second.name) == ("b.png", "a.png")
    assert (first.size, first.layers) == ((5, 6), ())


def test_a_fault_in_one_image_leaves_the_others(read):
    whole = document([[0, 0, 4, 0, 4, 3, 0, 3]])
    whole["images"].append({"id": 2, "file_name": "b.png", "height": 5, "width": 6})
    whole["annotations"].append({"image_id": 2, "category_id": 7, "segmentation": [[0, 0, 1, 0, 1, 1]]})
    first, second = read(whole)
    assert first.refusal is None
    assert (
        second.refusal
        == "'b.png': label 'vessel' is no class of the project; add what is missing or leave it out of the file"
    )


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "'a.png': an annotation has no outline, only a box; draw it or leave it out"),
        ([[0, 0, 1, 1]], "'a.png': a polygon ring has shape (2, 2); give at least 3 pairs of row and column"),
        ([[0, 0, 1, 0, 1]], "'a.png': a shape is malformed (ValueError: cannot reshape array of size 5"),
        ([0, 0, 4, 0, 4, 3, 0, 3], "'a.png': a shape is malformed ("),
        ([[0, 0, 4, 0, None, 3]], "a coordinate is not a number near the image"),
        ([[0, 0, 4, 0, float("nan"), 3]], "a coordinate is not a number near the image"),
        ([[0, 0, 4, 0, float("inf"), 3]], "a coordinate is not a number near the image"),
        ([[0, 0, 4, 0, 1e300, 3]], "a coordinate is not a number near the image"),
        ([[0, 0, 4, 0, -20_000, 3]], "a coordinate is not a number near the image"),
        (["0 0 4 0 4 3"], "a shape is malformed ("),
        ("0,0", "a shape is malformed ("),
        (7, "a shape is malformed ("),
        ({"counts": [600]}, "a shape is malformed (KeyError: 'size')"),
        ({"size": [20, 30]}, "a shape is malformed (KeyError: 'counts')"),
        ({"size": [20], "counts": [600]}, "a mask has size [20] but the image is 20 x 30 px; export the file again"),
        ({"size": [30, 20], "counts": [600]}, "a mask has size [30, 20] but the image is 20 x 30 px; export the file"),
        ({"size": [20, 30], "counts": [599]}, "a mask's runs do not add up to its 600 px; export the file again"),
        ({"size": [20, 30], "counts": [601, -1]}, "a mask's runs do not add up to its 600 px"),
        ({"size": [20, 30], "counts": [2**62] * 4 + [600]}, "a mask's runs do not add up to its 600 px"),
        ({"size": [20, 30], "counts": [2**70]}, "the runs of a mask are not whole numbers"),
        ({"size": [20, 30], "counts": [1.5, 598.5]}, "the runs of a mask are not whole numbers"),
        ({"size": [20, 30], "counts": [[600]]}, "the runs of a mask are not whole numbers"),
        ({"size": [20, 30], "counts": []}, "the runs of a mask are not whole numbers"),
        ({"size": [20, 30], "counts": None}, "the runs of a mask are not whole numbers"),
        ({"size": [20, 30], "counts": ""}, "a compressed mask is cut off or has a character that does not belong"),
        ({"size": [20, 30], "counts": "o"}, "a compressed mask is cut off or has a character that does not belong"),
        ({"size": [20, 30], "counts": "a b"}, "a compressed mask is cut off or has a character that does not belong"),
        ({"size": [20, 30], "counts": "\u00e4"}, "a shape is malformed (UnicodeEncodeError"),
        ({"size": [20, 30], "counts": "ooooooooooooo0"}, "a compressed mask has a number of too many digits"),
        ({"size": [20, 30], "counts": "0" * 1000}, "a mask's runs do not add up to its 600 px"),
    ],
)
def test_a_malformed_segmentation_is_refused_with_a_sentence(read, segmentation, message):
    assert message in refusal_of(read, segmentation)


@pytest.mark.parametrize(("height", "width"), [(100_000, 100_000), (0, 5), (-1, -1), (16_385, 1)])
def test_an_image_without_a_sensible_size_is_refused_before_its_masks(read, height, width):
    text = refusal_of(read, {"size": [height, width], "counts": [0, height * width]}, height=height, width=width)
    assert text == f"'a.png': an image of {height} x {width} px cannot take labels; its sides may be 1 to 16384 px"


@pytest.mark.parametrize("seed", range(200))
def test_hostile_compressed_text_is_refused_or_read(read, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((20, 30)) < 0.3
    codes = np.frombuffer(compressed(mask).encode(), np.uint8).copy()
    at = rng.integers(0, len(codes), 1 + seed % 5)
    codes[at] = rng.integers(1, 128, len(at))
    text = codes[: len(codes) - seed % 7].tobytes().decode()
    [image] = read(document({"size": [20, 30], "counts": text}))
    assert (image.layers == ()) == (image.refusal is not None)


def test_all_masks_of_a_file_have_a_limit(read, monkeypatch):
    monkeypatch.setattr(label_files, "_MAX_MASK_PIXELS", 2000)
    whole = {"size": [20, 30], "counts": [0, 600]}
    assert len(read(document(whole, whole, whole))[0].layers) == 3
    assert (
        refusal_of(read, *[whole] * 4)
        == "'a.png': the masks of 'coco.json' have more than 0 Mpx in all; split it by image"
    )


def without(key):
    return {name: part for name, part in document().items() if name != key}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'coco.json' is not JSON ("),
        ("{", "'coco.json' is not JSON ("),
        ("[" * 100_000, "'coco.json' is not JSON ("),
        ("[]", "'coco.json' is not a COCO file ("),
        ("null", "'coco.json' is not a COCO file ("),
        ('{"a": 1}', "'coco.json' is not a COCO file (KeyError: 'categories'); it needs images, categories and"),
        (without("images"), "'coco.json' is not a COCO file (KeyError: 'images')"),
        (without("annotations"), "'coco.json' is not a COCO file (KeyError: 'annotations')"),
        (document() | {"annotations": [5]}, "'coco.json' is not a COCO file (TypeError"),
        (document() | {"annotations": [{"image_id": [1]}]}, "'coco.json' is not a COCO file (TypeError"),
        (
            document() | {"annotations": [{"image_id": "1"}]},
            "'coco.json' annotates image '1', which is not in its list; export it again",
        ),
        (document(height=float("inf")), "'coco.json' is not a COCO file (OverflowError"),
        (document(height="tall"), "'coco.json' is not a COCO file (ValueError"),
    ],
    ids=str,
)
def test_what_is_no_coco_file_is_refused(read, text, message):
    with pytest.raises(AnnotationRefused) as refusal:
        read(text)
    assert message in str(refusal.value)


def test_a_file_over_the_size_limit_is_refused_unread(read, monkeypatch):
    monkeypatch.setattr(label_files, "MAX_FILE_BYTES", 10)
    with pytest.raises(AnnotationRefused, match="^'coco.json' has 0 MB, the limit is 0 MB; split it by image$"):
        read(document())


def noisy_plane(seed):
    rng = np.random.default_rng(seed)
    plane = draw_disks(90, 70, seed=seed).mask
    plane[rng.random(plane.shape) < 0.05] = UNLABELLED
    return plane


def test_masks_that_are_written_are_those_of_pycocotools():
    from pycocotools import mask as reference

    for found in coco_annotations(noisy_plane(7)):
        packed = reference.frPyObjects(found["segmentation"], 90, 70)
        assert reference.area(packed) == found["area"]
        assert reference.toBbox(packed).tolist() == found["bbox"]


def test_what_is_ignored_on_purpose_is_a_category_of_its_own_where_it_occurs():
    def written(plane):
        return json.loads(coco_document("p", [(0, "bg")], [("a.png", 9, 9)], [coco_annotations(plane)]))

    plane = np.zeros((9, 9), np.uint8)
    assert [row["name"] for row in written(plane)["categories"]] == ["bg"]
    plane[2, 3] = IGNORED
    assert written(plane)["categories"][1:] == [{"id": 255, "name": "__ignored__"}]
