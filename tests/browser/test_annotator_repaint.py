"""What the annotator draws anew after a stroke is a part of the picture; one sees the same as if all were drawn."""

import pytest

from tests.browser.annotating import Annotator

SIDE = 1024


def see(annotator):
    """The frame without the pointer."""
    annotator.page.mouse.move(2, 2)
    annotator.page.wait_for_timeout(100)
    return annotator.page.locator("#frame").screenshot()


def draw_all(annotator):
    """Have everything drawn, as it is."""
    annotator.page.locator("#opacity").dispatch_event("input")


@pytest.mark.parametrize("is_outline", [False, True])
@pytest.mark.parametrize("wheel", [0, 400, -1000])
@pytest.mark.parametrize("scale", [1, 1.5])
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
    assert blank != seen == see(annotator)
