"""What a person does with the mouse in a page, counted by the page itself, and files let go of over it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page

# To choose out of a list takes two clicks, of which the page is told one at most: both are counted at the change.
_LISTEN = """
const isChoice = (target) => target instanceof HTMLSelectElement;
addEventListener("pointerdown", ({ isTrusted, target }) => {
  if (isTrusted && !isChoice(target)) noteClicks(target.closest("#frame") ? 0 : 1);
}, true);
addEventListener("change", ({ target }) => { if (isChoice(target)) noteClicks(2); }, true);
"""


class Clicks:
    """Counts from now on, in the page, in its frames, and in every page that it leads to.

    A stroke on the picture of the annotator is no click, typing is free, and files that are dropped are one.
    """

    def __init__(self, page: Page) -> None:
        self.count = 0
        self._page = page
        page.context.expose_binding("noteClicks", self._note)
        page.context.add_init_script(_LISTEN)

    def drop(self, place: Locator, files: Sequence[Path]) -> None:
        """Let go of files over a place, as out of a folder of the desktop."""
        place.scroll_into_view_if_needed()
        box = place.bounding_box()
        assert box is not None
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 10}
        session = self._page.context.new_cdp_session(self._page)
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": kind, **where, "data": data})
        session.detach()
        self.count += 1

    def _note(self, _source: dict[str, Any], count: int) -> None:
        self.count += count
