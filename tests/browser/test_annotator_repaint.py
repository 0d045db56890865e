"""What the annotator draws anew after a stroke is a part of the picture; one sees the same as if all were drawn."""

import io

import numpy as np
import pytest
from PIL import Image as Picture

from tests.browser.annotating import Annotator

SIDE = 1024
ROUNDING = 2


def see(annotator):
    """The frame without the pointer, once it stays as it is: (H, W, 3)."""
    annotator.page.mouse.move(2, 2)
    last, shot = b"", b" "
    while last != shot:
        annotator.page.wait_for_timeout(100)
        last, shot = shot, annotator.page.locator("#frame").screenshot()
    return np.asarray(Picture.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def draw_all(annotator):
    """Have everything drawn, as it is."""
    annotator.page.locator("#opacity").dispatch_event("input")


@pytest.mark.parametrize(
    ("scale", "wheel", "is_outline"), [(1, 0, False), (1, -1000, True), (1.5, 400, True), (1.5, -1000, False)]
)
def test_after_a_stroke_one_sees_what_one_would_see_if_all_were_drawn_anew(
    site, ana, new_page, scale, wheel, is_outline
):
    annotator = Annotator.open(new_page(ana, scale=scale), site.tile(ana, height=SIDE, width=SIDE))
    annotator.page.locator("#outline").set_checked(is_outline)
    annotator.move(500, 500)
    annotator.page.mouse.wheel(0, wheel)
    annotator.page.wait_for_timeout(100)
    blank = see(annotator)
    annotator.drag((480, 470), (520, 530), (505, 500))
    seen = see(annotator)
    draw_all(annotator)
    # A browser rounds the pixels that it smooths by where the part begins.
    assert np.abs(seen - see(annotator)).max() <= ROUNDING
    assert np.abs(seen - blank).max() > 10 * ROUNDING
