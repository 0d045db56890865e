"""From the values of mask files to class indices."""

import re

import numpy as np
import pytest
from PIL import Image

from axons.data.decoding import RawMask
from axons.data.masks import (
    ClassMask,
    ColourCoding,
    GreyCoding,
    IndexCoding,
    check_size,
    guess_coding,
    palette_of,
    parse_colour,
    to_classes,
)
from axons.errors import AnnotationRefused

BINARY = GreyCoding(classes={0: 0, 255: 1})
COLOURS = ColourCoding(classes={(0, 0, 0): 0, (255, 0, 0): 1, (0, 0, 255): 2})


def raw(values, *, palette=(), notices=()):
    return RawMask(values=np.array(values, np.uint8), palette=[*palette], notices=[*notices])


def classes(mask, coding, num_classes=3):
    return to_classes(mask, coding, name="m.png", num_classes=num_classes)


def test_index_values_are_the_classes():
    mask = classes(raw([[0, 1], [2, 1]]), IndexCoding())
    assert mask.values.tolist() == [[0, 1], [2, 1]]
    assert (mask.values.dtype, mask.notices) == (np.uint8, [])


def test_ignored_and_unlabelled_are_kept():
    assert classes(raw([[254, 255]]), IndexCoding()).values.tolist() == [[254, 255]]


def test_indices_saved_as_grey_rgb_are_read():
    assert classes(raw([[[1, 1, 1], [2, 2, 2]]]), IndexCoding()).values.tolist() == [[1, 2]]


def test_grey_values_become_their_classes():
    assert classes(raw([[0, 255, 255]]), BINARY).values.tolist() == [[0, 1, 1]]


def test_a_grey_table_may_name_ignored_and_unlabelled():
    coding = GreyCoding(classes={0: 0, 100: 254, 200: 255})
    assert classes(raw([[0, 100, 200]]), coding).values.tolist() == [[0, 254, 255]]


def test_a_stray_grey_value_counts_as_the_nearest_and_the_person_is_told():
    mask = classes(raw([[0, 3, 250, 255]], notices=["first"]), BINARY)
    assert mask.values.tolist() == [[0, 0, 1, 1]]
    assert mask.notices == ["first", "2 px had a grey value that is not one of 0, 255; the nearest was taken"]


def test_colours_become_their_classes():
    assert classes(raw([[[255, 0, 0], [0, 0, 255], [0, 0, 0]]]), COLOURS).values.tolist() == [[1, 2, 0]]


def test_colours_of_a_palette_become_their_classes():
    mask = raw([[0, 1, 2]], palette=[[0, 0, 255], [0, 0, 0], [255, 0, 0]])
    assert classes(mask, COLOURS).values.tolist() == [[2, 0, 1]]


def test_grey_values_are_colours_too():
    coding = ColourCoding(classes={(0, 0, 0): 0, (255, 255, 255): 1})
    assert classes(raw([[0, 255]]), coding).values.tolist() == [[0, 1]]


def test_two_colours_may_mean_one_class():
    coding = ColourCoding(classes={(1, 2, 3): 1, (3, 2, 1): 1})
    assert classes(raw([[[1, 2, 3], [3, 2, 1]]]), coding).values.tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("mask", "coding", "message"),
    [
        (
            raw([[0, 7, 7]]),
            IndexCoding(),
            "mask 'm.png' has class index 7 on 2 px but there are 3 classes; relabel the mask or add the class",
        ),
        (raw([[253]]), IndexCoding(), "mask 'm.png' has class index 253 on 1 px but there are 3 classes; relabel"),
        (raw([[0, 9]]), GreyCoding(classes={0: 0, 9: 4}), "mask 'm.png' has class index 4 on 1 px but there are 3"),
        (
            raw([[[0, 0, 0], [18, 171, 205], [18, 171, 205], [9, 9, 9]]]),
            COLOURS,
            "mask 'm.png' has the colour #12abcd on 2 px, which is no class; add it to the colours or repaint it",
        ),
        (
            raw([[[1, 2, 3]]]),
            IndexCoding(),
            "mask 'm.png' is in colour; give a table from colour to class, or save it as class indices",
        ),
        (raw([[[1, 2, 3]]]), BINARY, "mask 'm.png' is in colour; give a table"),
        (raw([[2]], palette=[[0, 0, 0]]), COLOURS, "mask 'm.png' uses palette index 2 of 1; save it again"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_with_a_sentence(mask, coding, message):
    with pytest.raises(AnnotationRefused, match=re.escape(message)):
        classes(mask, coding)


def test_a_mask_of_another_size_than_its_image_is_refused():
    mask = ClassMask(values=np.zeros((30, 40), np.uint8), notices=[])
    check_size(mask, name="m.png", height=30, width=40)
    with pytest.raises(AnnotationRefused) as refusal:
        check_size(mask, name="m.png", height=40, width=30)
    assert str(refusal.value) == (
        "mask 'm.png' has 40 x 30 px but its image has 30 x 40 px; export the mask at the image's size"
    )


@pytest.mark.parametrize(
    ("values", "num_classes", "expected"),
    [
        ({0, 1}, 2, IndexCoding()),
        ({0, 1, 2}, 3, IndexCoding()),
        ({1, 2}, 3, IndexCoding()),
        ({0, 1, 255}, 2, IndexCoding()),
        ({0, 1, 254, 255}, 2, IndexCoding()),
        ({0}, 2, IndexCoding()),
        (set(), 2, IndexCoding()),
        ({0, 255}, 2, BINARY),
        ({255}, 2, BINARY),
        ({0, 3, 252, 255}, 2, BINARY),
        ({0, 128, 255}, 3, GreyCoding(classes={0: 0, 128: 1, 255: 2})),
        ({0, 127, 255}, 3, GreyCoding(classes={0: 0, 127: 1, 255: 2})),
        ({0, 127, 128, 255}, 3, GreyCoding(classes={0: 0, 127: 1, 255: 2})),
        ({0, 255}, 3, GreyCoding(classes={0: 0, 127: 1, 255: 2})),
        ({0, 85, 170, 255}, 4, GreyCoding(classes={0: 0, 85: 1, 170: 2, 255: 3})),
    ],
)
def test_the_coding_is_guessed_from_the_values(values, num_classes, expected):
    assert guess_coding(values, num_classes) == expected


@pytest.mark.parametrize("num_classes", [1, 2, 3, 10, 253])
def test_a_guessed_grey_coding_has_a_value_for_each_class(num_classes):
    coding = guess_coding({252, 253}, num_classes)
    assert sorted(coding.classes.values()) == list(range(num_classes))


def test_both_codings_of_a_real_mask_mean_the_same(real_images):
    index, grey = (
        np.asarray(Image.open(real_images / kind / "sub-rat3_data9.png")) for kind in ("masks", "masks-grey")
    )
    expected = classes(raw(index), guess_coding(np.unique(index).tolist(), 3))
    found = classes(raw(grey), guess_coding(np.unique(grey).tolist(), 3))
    assert np.array_equal(found.values, expected.values)
    assert found.notices == []


@pytest.mark.parametrize(
    ("text", "colour"), [("#000000", (0, 0, 0)), ("#12aBCd", (18, 171, 205)), ("ffffff", (255,) * 3)]
)
def test_a_colour_is_read(text, colour):
    assert parse_colour(text) == colour


@pytest.mark.parametrize(
    "text", ["", "red", "#fff", "#12345g", "#1234567", "##12345", "#12 345", "# 1 2 3", "#12345\n"]
)
def test_another_form_of_colour_is_refused(text):
    with pytest.raises(ValueError, match=re.escape(f"colour is {text!r}; write it as #rrggbb")):
        parse_colour(text)


def test_a_palette_has_256_colours():
    palette = palette_of(["#000000", "#ff8000"])
    assert len(palette) == 3 * 256
    assert palette[:6] == [0, 0, 0, 255, 128, 0]
    assert palette[3 * 254 :] == [128, 128, 128, 255, 255, 255]
