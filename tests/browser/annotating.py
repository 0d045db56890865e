"""The annotation page as a person uses it: by pointer and keys, at places of the image."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Error, Frame, Page, expect

from axons.app.tables import Tile

State = dict[str, Any]


@dataclass
class Annotator:
    """The page with a tile open; `frame` is where it lives, the page itself or a frame in it."""

    page: Page
    frame: Page | Frame

    @classmethod
    def open(cls, page: Page, tile: Tile | str) -> "Annotator":
        """Go to a tile and wait until one can draw."""
        page.goto(f"/annotate/{tile if isinstance(tile, str) else tile.id}")
        annotator = cls(page, page)
        annotator.wait(lambda state: state["ready"])
        return annotator

    @classmethod
    def open_in_frame(cls, page: Page, tile: Tile | str) -> "Annotator":
        """The same in the screen of Gradio."""
        page.goto(f"/annotate?tile={tile if isinstance(tile, str) else tile.id}")
        return cls.in_frame(page)

    @classmethod
    def in_frame(cls, page: Page) -> "Annotator":
        """What is open in the screen of Gradio, once one can draw."""
        frame = page.locator("iframe").element_handle().content_frame()
        assert frame is not None
        annotator = cls(page, frame)
        annotator.wait(lambda state: state["ready"])
        return annotator

    def state(self) -> State:
        state: State = self.frame.evaluate("window.axons?.state() ?? { ready: false }")
        return state

    def wait(self, is_reached: Callable[[State], bool], *, timeout_s: float = 60) -> State:
        """The first state of which this is true. (The page forbids `eval`, which Playwright's own waiting needs.)"""
        deadline = time.monotonic() + timeout_s
        while not is_reached(state := self.state()):
            assert time.monotonic() < deadline, f"waited {timeout_s} s in vain; the page is at {state}"
            self.page.wait_for_timeout(20)
        return state

    def saved(self) -> State:
        """The state once everything is on the server."""
        return self.wait(lambda state: state["save"] == "saved" and not state["dirty"])

    def at(self, row: float, col: float) -> tuple[float, float]:
        """Where on the screen a place of the image is."""
        box = self.frame.locator("#frame").bounding_box()
        assert box is not None
        state = self.state()
        return box["x"] + state["offset"][1] + col * state["zoom"], box["y"] + state["offset"][0] + row * state["zoom"]

    def move(self, row: float, col: float, *, steps: int = 1) -> None:
        self.page.mouse.move(*self.at(row, col), steps=steps)

    def click(self, *places: tuple[float, float]) -> None:
        for place in places:
            self.page.mouse.click(*self.at(*place))

    def drag(self, *places: tuple[float, float], steps: int = 4, button: Any = "left") -> None:
        """Press at the first place, go to the others, let go at the last."""
        self.move(*places[0])
        self.page.mouse.down(button=button)
        for place in places[1:]:
            self.move(*place, steps=steps)
        self.page.mouse.up(button=button)

    def keys(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def polygon(self, *vertices: tuple[float, float]) -> None:
        """Draw one with the polygon tool, and finish it by Enter."""
        self.keys("p")
        self.click(*vertices)
        self.keys("Enter")


def open_tile(page: Page, tile: Tile) -> None:
    page.goto(f"/annotate/{tile.id}")
    wait_until_ready(page)


def wait_until_ready(page: Page) -> None:
    wait_for(page, lambda shown: shown["ready"])


def wait_for(page: Page, is_so: Callable[[dict[str, Any]], Any], *, timeout_s: float = 60) -> None:
    """Until `is_so` of the page's state. Playwright's own waiting evaluates text, which our pages do not allow."""
    end = time.monotonic() + timeout_s
    while not is_so(shown := _shown(page)):
        assert time.monotonic() < end, f"the page stays as it is: {shown}"
        page.wait_for_timeout(20)


def _shown(page: Page) -> dict[str, Any]:
    try:
        return page.evaluate("window.axons?.state() ?? {ready: false}")
    except Error as error:
        if "context was destroyed" in error.message:  # the page is just being loaded again
            return {"ready": False}
        raise


def state(page: Page) -> dict[str, Any]:
    return page.evaluate("window.axons.state()")


def place_of(page: Page, row: float, col: float) -> tuple[float, float]:
    """Where in the window a point of the tile is."""
    shown = state(page)
    box = page.locator("#frame").bounding_box()
    return box["x"] + shown["offset"][1] + col * shown["zoom"], box["y"] + shown["offset"][0] + row * shown["zoom"]


def drag(page: Page, *points: tuple[float, float]) -> None:
    """Draw with the tool at hand through points (row, column) of the tile."""
    first, *others = [place_of(page, *point) for point in points]
    page.mouse.move(*first)
    page.mouse.down()
    for point in others:
        page.mouse.move(*point, steps=4)
    page.mouse.up()


def click(page: Page, row: float, col: float) -> None:
    page.mouse.click(*place_of(page, row, col))


def wait_for_save(page: Page, name: str = "saved") -> None:
    """Until the page says so; `name` is a state of saving.js."""
    expect(page.locator("#save")).to_have_attribute("data-state", name, timeout=60_000)
