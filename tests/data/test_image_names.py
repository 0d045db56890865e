"""Which image a label file is about."""

import pytest

from axons.data.image_names import KnownImage, index_images, match_image


def known(*names):
    return index_images([KnownImage(image_id=name, name=name, height=1, width=1) for name in names])


@pytest.mark.parametrize(
    ("name", "images", "found"),
    [
        ("a.png", ("a.tif", "b.tif"), "a.tif"),
        ("A.PNG", ("a.tif",), "a.tif"),
        ("masks/a.png", ("a.tif",), "a.tif"),
        ("masks/x/a.png", ("x/a.tif", "y/a.tif", "a.tif"), "x/a.tif"),
        ("a.png", ("x/a.tif",), "x/a.tif"),
        ("a.b.png", ("a.b.tif", "a.tif"), "a.b.tif"),
        ("x/a__labels.json", ("x/a.tif", "y/a.tif"), "x/a.tif"),
        ("a.b__labels.json", ("a.b.tif", "a.tif"), "a.b.tif"),
        ("a__labels.png", ("a__labels.tif", "a.tif"), "a__labels.tif"),
    ],
)
def test_a_label_file_belongs_to_the_image_of_its_name(name, images, found):
    assert match_image(name, known(*images)).name == found


@pytest.mark.parametrize(
    ("name", "images", "reason"),
    [
        ("ba.png", ("a.tif",), "has the name of no image"),
        ("a.png", ("x/a.tif", "y/a.tif"), "could belong to 2 images"),
        ("a.png", ("a.tif", "a.png"), "could belong to 2 images"),
    ],
)
def test_a_label_file_that_belongs_to_no_one_image_is_told(name, images, reason):
    assert reason in match_image(name, known(*images))
