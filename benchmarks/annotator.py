"""The annotation page in a real Chromium: until one can draw, from the pointer to the picture, and 50 tiles in a row.

Peer: Django Labeller with the same pictures and polygons, in the same Chromium; its labels are SVG.
Targets: one can draw 1 s after the page is asked for; 95 of 100 dabs of the brush are seen within 20 ms and 95 of 100
frames of panning take less than 33 ms, both among 1,000 polygons on a tile of 1024²; superpixels of 512² in 0.3 s;
50 tiles in a row make the heap grow by less than 50 MB and leave as many listeners as there were; 120 kB of JavaScript.
"""

import gzip
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, ViewportSize

from benchmarks.annotation_pages import AnnotationPage, Ours, Work, our_page, peer_page
from benchmarks.drawn import draw_field
from benchmarks.measuring import Figure, Result, at_least, at_most
from tests.browser.chromium import find_chromium, running_chromium

_WINDOW: ViewportSize = {"width": 1440, "height": 900}
_PROBE = Path(__file__).with_name("page_probe.js")
_SLOW_FRAME_MS = 33
_TIMEOUT_S = 60


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    rounds, num_tiles = (1, 5) if is_small else (5, 50)
    work = _draw_work()
    if find_chromium() is None:
        return Result(figures=[], notes=["there is no Chromium here; not measured"])
    with (
        our_page(scratch / "ours", work) as ours,
        peer_page(scratch / "peer", work) as peer,
        running_chromium() as browser,
    ):
        pages: list[AnnotationPage] = [ours, peer]
        for page in pages:  # the first of everything is not counted
            _open_and_draw(browser, page, _Found(), np.random.default_rng(0))
        found = {page: _Found() for page in pages}
        for number in range(rounds):
            for page in pages[:: 1 if number % 2 else -1]:
                _open_and_draw(browser, page, found[page], np.random.default_rng(number))
        for page in pages:
            _walk(browser, page, found[page], num_tiles)
        version = browser.version
    return _result(found[ours], found[peer], [page.scripts() for page in pages], num_tiles, version)


def _draw_work() -> Work:
    """1,000 polygons of 24 vertices, of 20 px across, that touch their neighbours here and there."""
    rng = np.random.default_rng(0)
    side, across = 1024, 32
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    outline = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    cells = rng.permutation(across * across)[:1000]
    centres = (np.stack(np.divmod(cells, across), axis=1) + rng.uniform(0.3, 0.7, (1000, 2))) * side / across
    return Work(
        plain=draw_field(512, seed=1, channels=3).image,
        busy=draw_field(side, seed=2, channels=3).image,
        rings=[centre + outline * rng.uniform(8, 16, (24, 1)) for centre in centres],
        many=draw_field(2048, seed=3, channels=3).image[:1792],
    )


@dataclass
class _Found:
    """What was measured of one page.

    Args:
        opened: seconds, by what was opened.
        dabs, waits, frames: milliseconds, as page_probe.js has them.
        segments: seconds.
        heap, listeners: MB and number, on the first and on the last of many tiles.
    """

    opened: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    dabs: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    frames: list[float] = field(default_factory=list)
    segments: list[float] = field(default_factory=list)
    heap: list[float] = field(default_factory=list)
    listeners: list[int] = field(default_factory=list)


@contextmanager
def _opened(browser: Browser, page: AnnotationPage, work: str, found: _Found) -> Iterator[Page]:
    """A page in a fresh context, with nothing in its cache, once one can draw."""
    context = browser.new_context(viewport=_WINDOW)
    try:
        page.enter(context)
        context.add_init_script(_PROBE.read_text().replace("TILE", page.tile))
        opened = context.new_page()
        opened.goto(page.urls[work])
        found.opened[work].append(_until(opened, "window.probe?.ready") / 1000)
        yield opened
    finally:
        context.close()


def _open_and_draw(browser: Browser, page: AnnotationPage, found: _Found, rng: np.random.Generator) -> None:
    """One round."""
    with _opened(browser, page, "plain", found) as opened:
        if isinstance(page, Ours):  # the peer has no superpixels
            opened.keyboard.press("s")
            opened.mouse.move(*_at(opened, page, 256, 256))
            found.segments.append(_until(opened, "axons.state().segmentsTook") / 1000)
    with _opened(browser, page, "busy", found) as opened:
        page.show_whole(opened)
        page.take_brush(opened)
        for start in rng.uniform(200, 800, (4, 2)):
            _stroke(opened, page, start, rng)
        opened.evaluate("probe.watchFrames()")
        _pan(opened, page)
        measured = opened.evaluate("({ dabs: probe.dabs, waits: probe.waits, frames: probe.frames })")
        found.dabs += measured["dabs"]
        found.waits += measured["waits"]
        found.frames += measured["frames"]


def _stroke(opened: Page, page: AnnotationPage, start: np.ndarray, rng: np.random.Generator) -> None:
    """A bent stroke of 25 moves of 8 px, which do not keep step with the frames."""
    directions = np.cumsum(rng.normal(0, 0.3, 25)) + rng.uniform(0, 2 * np.pi)
    steps = np.stack([np.sin(directions), np.cos(directions)], axis=1) * 8
    x, y, zoom = opened.evaluate(page.place)  # once: ours counts pixels when it is asked
    opened.mouse.move(x + zoom * start[1], y + zoom * start[0])
    opened.mouse.down()
    for row, col in start + np.cumsum(steps, axis=0):
        opened.mouse.move(x + zoom * col, y + zoom * row)
        opened.wait_for_timeout(rng.uniform(5, 30))
    opened.mouse.up()


def _pan(opened: Page, page: AnnotationPage) -> None:
    """Twice around the middle by the middle button, as fast as the page follows."""
    angles = np.linspace(0, 4 * np.pi, 240)
    x, y = _at(opened, page, 512, 512)
    opened.mouse.move(x, y)
    opened.mouse.down(button="middle")
    for angle in angles:
        opened.mouse.move(x + 150 * np.sin(angle), y + 150 * (1 - np.cos(angle)))
    opened.mouse.up(button="middle")


def _walk(browser: Browser, page: AnnotationPage, found: _Found, num_tiles: int) -> None:
    """From tile to tile, with a stroke on each; the heap and the listeners on the first and on the last."""
    rng = np.random.default_rng(9)
    with _opened(browser, page, "many", found) as opened:
        for number in range(num_tiles + 1):
            if number:
                before = opened.evaluate("probe.tile()")
                page.go_on(opened)
                _until(opened, f"probe.tile() && probe.tile() !== {before!r}")
            page.take_brush(opened)
            _stroke(opened, page, np.array([128.0, 128.0]), rng)
            if number in (0, num_tiles):
                opened.wait_for_timeout(3000)  # both pages have saved by then
                _weigh(opened, found)


def _weigh(opened: Page, found: _Found) -> None:
    """Heap and listeners without garbage; the heap with what lies in buffers and in objects of the browser."""
    session = opened.context.new_cdp_session(opened)
    for _ in range(3):
        session.send("HeapProfiler.collectGarbage")
    usage = session.send("Runtime.getHeapUsage")
    parts = ("usedSize", "embedderHeapUsedSize", "backingStorageSize")
    found.heap.append(sum(usage[part] for part in parts) / 1e6)
    session.send("Performance.enable")
    metrics = {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}
    found.listeners.append(int(metrics["JSEventListeners"]))
    session.detach()


def _at(opened: Page, page: AnnotationPage, row: float, col: float) -> tuple[float, float]:
    """Where in the window a place of the picture is."""
    x, y, zoom = opened.evaluate(page.place)
    return x + col * zoom, y + row * zoom


def _until(opened: Page, expression: str) -> Any:
    """The value of an expression once it has one; Playwright's own waiting needs `eval`, which our page forbids."""
    for _ in range(_TIMEOUT_S * 20):
        if value := opened.evaluate(expression):
            return value
        opened.wait_for_timeout(50)
    raise TimeoutError(f"waited {_TIMEOUT_S} s for {expression}")


def _result(ours: _Found, peer: _Found, scripts: list[list[bytes]], num_tiles: int, chromium: str) -> Result:
    def limited(what: str, limit: float, unit: str, figure: Callable[[_Found], float]) -> Figure:
        return at_most(what, figure(ours), limit, unit=unit, peer=figure(peer))

    busy = "1,000 polygons on 1024²"
    size, packed = ([sum(map(bytes_of, files)) / 1000 for files in scripts] for bytes_of in (len, _packed))
    quick = [100 * float(np.mean(np.array(found.frames) < _SLOW_FRAME_MS)) for found in (ours, peer)]
    return Result(
        figures=[
            limited("page asked for to first stroke, 512²", 1, "s", lambda found: median(found.opened["plain"])),
            limited(f"the same, {busy}", 2, "s", lambda found: median(found.opened["busy"])),
            limited(f"95 of 100 dabs of the brush to paint, {busy}", 20, "ms", lambda found: _most(found.dabs)),
            at_least(f"frames of panning < {_SLOW_FRAME_MS} ms, {busy}", quick[0], 95, unit="%", peer=quick[1]),
            at_most("superpixels of 512²", median(ours.segments), 0.3, unit="s"),
            limited(f"heap, {num_tiles} tiles later", 50, "MB more", lambda found: found.heap[1] - found.heap[0]),
            limited(
                f"listeners, {num_tiles} tiles later", 0, "more", lambda found: found.listeners[1] - found.listeners[0]
            ),
            at_most("JavaScript, not packed", size[0], 120, unit="kB", peer=size[1]),
        ],
        notes=[
            f"Chromium {chromium} without a GPU, window of {_WINDOW['width']} × {_WINDOW['height']}, empty cache; "
            f"{len(ours.opened['plain'])} rounds in turns, {len(ours.dabs)} and {len(peer.dabs)} dabs, "
            f"{len(ours.frames)} and {len(peer.frames)} frames of panning",
            "a dab is timed from when the page is told of the move to the end of its own work on the frame; before, "
            f"the browser holds the move back until the next frame: {_half_and_most(ours.waits)}, the peer's "
            f"{_half_and_most(peer.waits)}; after, it draws the peer's SVG in other threads, which is not in its time",
            f"half and 95 of 100: dabs {_half_and_most(ours.dabs)}, the peer's {_half_and_most(peer.dabs)}; "
            f"frames of panning {_half_and_most(ours.frames)}, the peer's {_half_and_most(peer.frames)}",
            f"heap with its buffers {_from_to(ours.heap)} MB, the peer's {_from_to(peer.heap)}; "
            f"listeners {_from_to(ours.listeners)}, the peer's {_from_to(peer.listeners)}",
            f"JavaScript by gzip {packed[0]:.0f} kB, the peer's {packed[1]:.0f} kB; the peer has no superpixels",
            "saves of 60 writers: see the row `class`",
        ],
    )


def _packed(file: bytes) -> int:
    return len(gzip.compress(file))


def _most(values: Sequence[float]) -> float:
    return float(np.quantile(values, 0.95))


def _half_and_most(values: Sequence[float]) -> str:
    return f"{median(values):.0f} and {_most(values):.0f} ms"


def _from_to(values: Sequence[float]) -> str:
    return " → ".join(f"{value:.0f}" for value in values)
